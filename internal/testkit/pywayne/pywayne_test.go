package pywayne_test

import (
	"context"
	"testing"

	"github.com/crosscomm/crosscomm-go/internal/testkit/pywayne"
)

// Without a Python there is none, which only in CI is an error.
func TestNoPython(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("CI", "")
	if got, err := pywayne.Interpreter(context.Background()); got != "" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	t.Setenv("CI", "1")
	if got, err := pywayne.Interpreter(context.Background()); got != "" || err == nil {
		t.Errorf("in CI: got %q, %v", got, err)
	}
}

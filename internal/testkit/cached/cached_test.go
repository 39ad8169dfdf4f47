package cached_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/testkit/cached"
)

// One of all callers makes it, however many come at once; another source has a
// place of its own.
func TestMadeOnce(t *testing.T) {
	testkit.UseCacheDir(t, t.TempDir())
	var made atomic.Int32
	get := func(source string) string {
		dir, err := cached.Dir("p-", []byte(source), func(dir string) error {
			made.Add(1)
			return os.WriteFile(filepath.Join(dir, "file"), []byte(source), 0o644)
		})
		if err != nil {
			t.Error(err)
		}
		if text, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(text) != source {
			t.Errorf("got %q, %v", text, err)
		}
		return dir
	}
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() { get("a") })
	}
	callers.Wait()
	if n := made.Load(); n != 1 {
		t.Errorf("it was made %d times", n)
	}
	if get("a") == get("b") || made.Load() != 2 {
		t.Error("two sources share a place")
	}
}

// What has failed is tried again.
func TestFailure(t *testing.T) {
	testkit.UseCacheDir(t, t.TempDir())
	broken := errors.New("broken")
	if _, err := cached.Dir("", nil, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	again := false
	if _, err := cached.Dir("", nil, func(string) error { again = true; return nil }); err != nil || !again {
		t.Errorf("tried again: %v; %v", again, err)
	}
}

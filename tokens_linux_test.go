package crosscomm_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// A pipe in the place of the file of tokens holds up neither logins nor the end.
func TestTokenPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	writeTokens(t, path, "* "+goodToken+"\n")
	logs := new(logBuffer)
	server := startServer(t, crosscomm.Config{TokenFile: path, Logger: logs.logger()})
	if p, resp := shakeHands(t, server.url(), bearer(goodToken)); p == nil {
		t.Fatalf("got %v", resp.Status)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the pipe is seen", func() bool { return strings.Contains(logs.String(), "a pipe or a device") })
	if p, resp := shakeHands(t, server.url(), bearer(goodToken)); p == nil {
		t.Errorf("got %v", resp.Status)
	}
}

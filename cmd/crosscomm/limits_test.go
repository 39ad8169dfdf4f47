package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// A server that asks for tokens: as a flag, in the environment, and in a file.
func TestTokenFlags(t *testing.T) {
	dir := testkit.WriteTree(t, t.TempDir(), map[string]string{"tokens": "desk token-of-the-desk-01\n"})
	server := start(t, nil, "server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", t.TempDir(), "--json", "--token", "for-all-0123456789ab", "--tokens", filepath.Join(dir, "tokens"))
	addr := server.event("listening")["addr"].(string)
	send := func(args ...string) *command {
		return start(t, nil, append([]string{"send", "--server", addr}, args...)...)
	}
	send("--to", "nobody", "x").ends(exitFail, "a token is needed")
	send("--token", "wrong", "x").ends(exitFail, "the token is not known here")
	send("--token", "token-of-the-desk-01", "--id", "shelf", "x").ends(exitFail, "the token is not for")
	send("--token", "token-of-the-desk-01", "--id", "desk", "x").ends(exitOK, "")
	path := filepath.Join(dir, "tokens")
	send("--token", "for-all-0123456789ab", "--type", "file", path).ends(exitOK, "")
	start(t, nil, "clients", "--server", addr, "--token", "for-all-0123456789ab").ends(exitOK, "")
	t.Setenv("CROSSCOMM_TOKEN", "for-all-0123456789ab")
	send("x").ends(exitOK, "")
	start(t, nil, "bench", "p2p", "--server", addr, "--clients", "1", "--warm-up", "0.1s", "--duration", "0.1s").ends(exitOK, "")
	server.stop()
	server.ends(exitOK, "stopped")
	if strings.Contains(server.stderr.String(), "for-all-0123") {
		t.Error("the log has the token")
	}
}

// What of the flags makes no sense is said, and names the flag.
func TestAccessAndLimitFlagErrors(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("lonely\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--trusted-proxy", "nginx"}, {"--max-connections", "0"}, {"--max-nesting", "-1"}, {"--max-queued", "much"}, {"--login-timeout", "soon"},
	} {
		start(t, nil, append([]string{"server"}, args...)...).ends(exitUsage, args[0])
	}
	start(t, nil, "server", "--token", "two words").ends(exitUsage, "a token must be of ASCII characters")
	start(t, nil, "server", "--origin", "app.example.com").ends(exitUsage, "an origin looks like")
	start(t, nil, "server", "--max-id-length", "300").ends(exitUsage, "IDLength is 300")
	start(t, nil, "server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", t.TempDir(), "--tokens", bad).ends(exitFail, "line 1: there must be a client's id")
}

// The flags' defaults are those of the library.
func TestDefaultsOfLimitFlags(t *testing.T) {
	var c serverCommand
	parser, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(nil); err != nil {
		t.Fatal(err)
	}
	var flags crosscomm.Config
	if err := c.limitFlags.apply(&flags); err != nil {
		t.Fatal(err)
	}
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := flags.Limits, svc.Config().Limits; got != want || flags.MaxMessageSize != svc.Config().MaxMessageSize {
		t.Errorf("the flags have %+v, %d\nthe library %+v, %d", got, flags.MaxMessageSize, want, svc.Config().MaxMessageSize)
	}
}

// Limits reach the server.
func TestLimitFlags(t *testing.T) {
	server := start(t, nil, "server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", t.TempDir(), "--json", "--max-id-length", "8", "--max-message-size", "600B", "--max-connections", "1")
	addr := server.event("listening")["addr"].(string)
	start(t, nil, "send", "--server", addr, "--id", "123456789", "x").ends(exitFail, "at most 8")
	start(t, nil, "send", "--server", addr, "--id", "12345678", strings.Repeat("x", 600)).ends(exitFail, "the server may take 600")
	listener := start(t, nil, "listen", "--server", addr, "--id", "a", "--json")
	listener.event("up")
	start(t, nil, "send", "--server", addr, "--id", "b", "x").ends(exitFail, "as many connections as it may have")
	listener.stop()
	listener.ends(exitOK, "")
	server.stop()
	server.ends(exitOK, "stopped")
}

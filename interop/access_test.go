package interop

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// The real Python client shows a token in what it takes for its port; with a wrong
// one, or none, it does not come in, and one that is for another id neither.
func TestPythonToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	testkit.WriteTree(t, filepath.Dir(file), map[string]string{"tokens": "py token-of-py-0123456789\nother token-of-other-0123\n"})
	server, port, _ := startGoServer(t, crosscomm.Config{Token: "one-for-all-0123456789", TokenFile: file}, "127.0.0.1:0")
	onServer := collect(server)
	p := startPython(t)
	client := func(name, query string) {
		p.call("new", map[string]any{"name": name, "role": "client", "client_id": name, "port": fmt.Sprintf("%d%s", port, query)})
	}
	client("py", "/?token=token-of-py-0123456789")
	client("anybody", "/?token=one-for-all-0123456789")
	for _, name := range []string{"py", "anybody"} {
		p.login(name)
		p.send(name, "text", "'hello'", "server")
		if m := testkit.Receive(t, onServer); m.FromClientID != name {
			t.Errorf("got a message of %s", m.FromClientID)
		}
	}
	client("nobody", "")
	client("wrong", "/?token=another")
	for _, name := range []string{"nobody", "wrong"} {
		if got := string(p.call("login", map[string]any{"name": name})); got != "false" {
			t.Errorf("%s: the login is %s", name, got)
		}
	}
	// The original takes an open socket for a login; the close comes after it.
	client("thief", "/?token=token-of-other-0123")
	p.call("login", map[string]any{"name": "thief"})
	testkit.Eventually(t, "the three are counted", func() bool { return server.Stats().FailedLogins == 3 })
	if online := server.GetOnlineClients(); !slices.Equal(online, []string{"anybody", "py"}) {
		t.Errorf("online: %v", online)
	}
}

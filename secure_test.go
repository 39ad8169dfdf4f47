package crosscomm_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// startSecureServer starts a server over TLS, and returns how to trust it, too.
func startSecureServer(t *testing.T, cfg crosscomm.Config) (svc *crosscomm.Service, url string, trust *tls.Config) {
	t.Helper()
	svc, web := mountOn(t, cfg, httptest.NewTLSServer)
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	return svc, "wss" + strings.TrimPrefix(web.URL, "https"), &tls.Config{RootCAs: roots}
}

// Over TLS messages of all sizes come whole and in order, and files do, too.
func TestSecure(t *testing.T) {
	_, url, trust := startSecureServer(t, crosscomm.Config{DataDir: t.TempDir()})
	cfg := crosscomm.Config{URL: url, TLS: trust, EnvFile: filepath.Join(t.TempDir(), ".env")}
	a, b := newClient(t, "", "a", cfg), newClient(t, "", "b", cfg)
	ctx := testContext(t)
	dir := t.TempDir()
	onB := collect(b, crosscomm.ListenerOptions{DownloadDirectory: dir})
	for _, c := range []*crosscomm.Service{a, b} {
		if err := c.Login(ctx); err != nil {
			t.Fatal(err)
		}
	}
	text := func(i int) string { return fmt.Sprint(i, strings.Repeat("x", i*i%100_000)) }
	const count = 300
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		for i := range count {
			if err := a.SendMessage(ctx, text(i), crosscomm.TypeText, []string{"b", crosscomm.All}[i%2]); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range count {
		if got := testkit.Receive(t, onB).Text(); got != text(i) {
			t.Fatalf("message %d is %.20q, %d bytes long", i, got, len(got))
		}
	}
	path := filepath.Join(t.TempDir(), "file.bin")
	data := noise(1, 3<<20)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.SendMessage(ctx, path, crosscomm.TypeFile, "b"); err != nil {
		t.Fatal(err)
	}
	m := testkit.Receive(t, onB)
	if got, err := os.ReadFile(m.Path()); m.Err() != nil || err != nil || string(got) != string(data) {
		t.Errorf("%v, %v, %d bytes", m.Err(), err, len(got))
	}
}

// Over TLS, and compressed too, a newer login takes over, and one that does not read
// is closed while others get all.
func TestSecureServerLimits(t *testing.T) {
	server, url, trust := startSecureServer(t, crosscomm.Config{Compression: true, Limits: crosscomm.Limits{QueuedBytes: 1 << 20}})
	dial := func(id string) *rawPeer {
		dialer := websocket.Dialer{TLSClientConfig: trust, EnableCompression: true}
		conn, _, err := dialer.Dial(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		p := &rawPeer{Conn: conn, t: t, id: id}
		p.write(frameOf(id, "server", "login", "{}"))
		if got := p.read(); !strings.Contains(got, "login_response") {
			t.Fatalf("got %s", got)
		}
		return p
	}
	older := dial("x")
	dial("slow")
	newer := dial("x")
	older.closedWith(crosscomm.CloseReplaced, "")
	sender := dial("s")
	text := func(i int) string {
		return frameOf("s", "all", "text", fmt.Sprintf(`"%d %x"`, i, noise(uint64(i), 100_000)))
	}
	for i := 0; server.Stats().TooSlow == 0; i++ {
		sender.write(text(i))
		if got := newer.read(); got != text(i) {
			t.Fatalf("message %d is %.30q", i, got)
		}
	}
	if online := server.GetOnlineClients(); !slices.Contains(online, "x") || !slices.Contains(online, "s") {
		t.Errorf("the others too: %v", online)
	}
}

// A client does not talk to a server that it has no reason to trust, and says
// why.
func TestNotTrusted(t *testing.T) {
	_, url, trust := startSecureServer(t, crosscomm.Config{})
	other := trust.Clone()
	other.ServerName = "elsewhere.example"
	for want, cfg := range map[string]*tls.Config{"unknown authority": nil, "not elsewhere.example": other} {
		if err := newClient(t, "", "a", crosscomm.Config{URL: url, TLS: cfg}).Login(testContext(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	plain := "ws" + strings.TrimPrefix(url, "wss")
	if err := newClient(t, "", "a", crosscomm.Config{URL: plain}).Login(testContext(t)); err == nil {
		t.Error("it has logged in without TLS")
	}
}

package crosscomm_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// selfSigned returns a certificate and its pin.
func selfSigned(t testing.TB) (*tls.Config, string) {
	t.Helper()
	cert, err := crosscomm.SelfSigned(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}}, crosscomm.Pin(cert.Leaf)
}

func trustPin(t testing.TB, pins ...string) *tls.Config {
	t.Helper()
	cfg, err := crosscomm.TrustPin(pins...)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// startTLS starts a server as StartServer does it, on free ports, and waits until
// it serves.
func startTLS(t testing.TB, cfg crosscomm.Config) (svc *crosscomm.Service, stop func()) {
	t.Helper()
	cfg.Role, cfg.IP, cfg.NoStateFile, cfg.Port = crosscomm.Server, "127.0.0.1", true, crosscomm.AnyPort
	svc, err := crosscomm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.StartServer(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := testkit.Receive(t, done); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	testkit.Eventually(t, "it listens", func() bool { return svc.Addr() != nil })
	return svc, stop
}

// secureClient makes a client of a server with TLS.
func secureClient(t testing.TB, addr net.Addr, id string, trust *tls.Config) *crosscomm.Service {
	t.Helper()
	return newClient(t, "", id, crosscomm.Config{URL: "wss://" + addr.String() + "/", TLS: trust, EnvFile: filepath.Join(t.TempDir(), ".env")})
}

// Beside a port without TLS there is one with it, and both belong to one server.
func TestTLSPort(t *testing.T) {
	own, pin := selfSigned(t)
	svc, stop := startTLS(t, crosscomm.Config{TLS: own, TLSPort: crosscomm.AnyPort})
	addr, tlsAddr := svc.Addr().String(), svc.TLSAddr().String()
	if addr == tlsAddr {
		t.Fatalf("both are at %s", addr)
	}
	plain := login(t, addr, "plain")
	secure := secureClient(t, svc.TLSAddr(), "secure", trustPin(t, pin))
	ctx := testContext(t)
	if err := secure.Login(ctx); err != nil {
		t.Fatal(err)
	}
	onPlain, onSecure := collect(plain, crosscomm.ListenerOptions{}), collect(secure, crosscomm.ListenerOptions{})
	if err := errors.Join(plain.SendMessage(ctx, "to secure", crosscomm.TypeText, "secure"), secure.SendMessage(ctx, "to plain", crosscomm.TypeText, "plain")); err != nil {
		t.Fatal(err)
	}
	if a, b := testkit.Receive(t, onSecure).Text(), testkit.Receive(t, onPlain).Text(); a != "to secure" || b != "to plain" {
		t.Errorf("got %s, %s", a, b)
	}

	// Who comes to the wrong port is told which is right.
	for url, want := range map[string]string{"wss://" + addr: "does not speak TLS there", "ws://" + tlsAddr: "speaks TLS there: take wss://"} {
		c := newClient(t, "", "lost", crosscomm.Config{URL: url})
		if err := c.Login(ctx); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
	if resp, text := get(t, http.DefaultTransport, "http://"+tlsAddr+"/"); resp.StatusCode != http.StatusBadRequest || !strings.Contains(text, "HTTPS server") {
		t.Errorf("HTTP at the TLS port: %s, %s", resp.Status, text)
	}
	web := &http.Transport{TLSClientConfig: trustPin(t, pin), DisableKeepAlives: true}
	if resp, text := get(t, web, "https://"+tlsAddr+"/"); resp.StatusCode != http.StatusUpgradeRequired || !strings.Contains(text, "--server wss://"+tlsAddr) {
		t.Errorf("HTTPS at the TLS port: %s, %s", resp.Status, text)
	}
	stop()
	if svc.Addr() != nil || svc.TLSAddr() != nil {
		t.Errorf("it listens still: %v, %v", svc.Addr(), svc.TLSAddr())
	}
	for _, a := range []string{addr, tlsAddr} {
		if conn, err := net.Dial("tcp", a); err == nil {
			conn.Close()
			t.Errorf("%s is still open", a)
		}
	}
}

// get makes a request, and follows no redirect.
func get(t *testing.T, web http.RoundTripper, url string) (resp *http.Response, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(testContext(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	if resp, err = web.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// A server may send all who come without TLS to where it speaks that.
func TestTLSRedirect(t *testing.T) {
	own, pin := selfSigned(t)
	svc, _ := startTLS(t, crosscomm.Config{TLS: own, TLSPort: crosscomm.AnyPort, TLSRedirect: true, DataDir: t.TempDir()})
	addr, tlsAddr := svc.Addr().String(), svc.TLSAddr().String()
	for _, path := range []string{"/a%2Fb?c=d", "/crosscomm/"} {
		resp, text := get(t, http.DefaultTransport, "http://"+addr+path)
		if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusTemporaryRedirect || to != "https://"+tlsAddr+path || !strings.Contains(text, tlsAddr) {
			t.Errorf("%s: %s, %s, %s", path, resp.Status, to, text)
		}
	}
	_, resp, err := websocket.DefaultDialer.DialContext(testContext(t), "ws://"+addr+"/x", nil)
	if err == nil || resp == nil || resp.Header.Get("Location") != "wss://"+tlsAddr+"/x" {
		t.Errorf("a WebSocket: %v, %v", err, resp)
	}
	if err := newClient(t, addr, "a", crosscomm.Config{}).Login(testContext(t)); err == nil || !strings.Contains(err.Error(), "wss://"+tlsAddr) {
		t.Errorf("a client without TLS: %v", err)
	}
	if err := secureClient(t, svc.TLSAddr(), "a", trustPin(t, pin)).Login(testContext(t)); err != nil {
		t.Error(err)
	}
}

// Old versions and other protocols are not spoken, whatever the configuration says.
func TestTLSVersions(t *testing.T) {
	own, pin := selfSigned(t)
	own.MinVersion, own.NextProtos = tls.VersionTLS10, []string{"h2"}
	svc, _ := startTLS(t, crosscomm.Config{TLS: own})
	if svc.Addr() != svc.TLSAddr() {
		t.Errorf("TLS at %v, and all at %v", svc.TLSAddr(), svc.Addr())
	}
	for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		cfg := trustPin(t, pin)
		cfg.MinVersion, cfg.MaxVersion, cfg.NextProtos = version, version, []string{"h2", "http/1.1"}
		conn, err := tls.Dial("tcp", svc.Addr().String(), cfg)
		if (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			if proto := conn.ConnectionState().NegotiatedProtocol; proto != "http/1.1" {
				t.Errorf("the protocol is %q", proto)
			}
			conn.Close()
		}
	}
	if own.MinVersion != tls.VersionTLS10 || own.NextProtos[0] != "h2" {
		t.Error("the caller's configuration was changed")
	}
}

// failingListener fails to accept once told to.
type failingListener struct {
	net.Listener
	fail chan struct{}
}

func (l *failingListener) Accept() (net.Conn, error) {
	<-l.fail
	return nil, errors.New("the cable was cut")
}

// If one port cannot be had, the other one is not kept; if one fails, both end.
func TestTLSPortFails(t *testing.T) {
	own, _ := selfSigned(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := testkit.FreePort(t)
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, IP: "127.0.0.1", NoStateFile: true, Port: port, TLS: own, TLSPort: taken.Addr().(*net.TCPAddr).Port})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.StartServer(testContext(t)); !errors.Is(err, syscall.EADDRINUSE) || svc.Addr() != nil {
		t.Errorf("got %v, %v", err, svc.Addr())
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatalf("the other port is not free: %v", err)
	}
	taken.Close()

	failing := &failingListener{l, make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- svc.Serve(testContext(t), failing) }()
	testkit.Eventually(t, "it listens", func() bool { return svc.TLSAddr() != nil })
	addr := svc.TLSAddr().String()
	close(failing.fail)
	if err := testkit.Receive(t, done); err == nil || !strings.Contains(err.Error(), "the cable was cut") {
		t.Errorf("got %v", err)
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("the TLS port is still open")
	}
}

// A handshake that does not go on is ended after 10 s, and so is a request after it.
func TestStalledHandshake(t *testing.T) {
	authority := testkit.NewAuthority(t)
	files, err := readCertificate(authority.Issue(t, t.TempDir(), "server"))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := crosscomm.TrustCA(authority.File)
	if err != nil {
		t.Fatal(err)
	}
	trust.ServerName = "localhost"
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		_, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true, TLS: &tls.Config{GetCertificate: files.GetCertificate}})
		ended := func(conn net.Conn) {
			t.Helper()
			began := time.Now()
			_, _ = io.Copy(io.Discard, conn)
			if took := time.Since(began); took != 10*time.Second {
				t.Errorf("it ended after %v", took)
			}
			conn.Close()
		}
		mute, err := network.Dial(context.Background(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		ended(mute)
		slow, err := network.Dial(context.Background(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		secure := tls.Client(slow, trust)
		if err := secure.Handshake(); err != nil {
			t.Fatal(err)
		}
		ended(secure)
		stop()
	})
}

// A server goes on with a certificate that has been renewed: for connections that
// are new.
func TestRenewedCertificate(t *testing.T) {
	authority, dir := testkit.NewAuthority(t), t.TempDir()
	certFile, keyFile := authority.Issue(t, dir, "first")
	files, err := readCertificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := crosscomm.TrustCA(authority.File)
	if err != nil {
		t.Fatal(err)
	}
	svc, _ := startTLS(t, crosscomm.Config{TLS: &tls.Config{GetCertificate: files.GetCertificate}})
	old := secureClient(t, svc.Addr(), "old", trust)
	ctx := testContext(t)
	if err := old.Login(ctx); err != nil {
		t.Fatal(err)
	}
	onOld := collect(old, crosscomm.ListenerOptions{})
	serving := func() string {
		conn, err := tls.Dial("tcp", svc.Addr().String(), trust)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := serving(); got != "first" {
		t.Fatalf("it serves as %s", got)
	}
	authority.Issue(t, dir, "second")
	testkit.Eventually(t, "the renewed certificate is used", func() bool { return serving() == "second" })
	fresh := secureClient(t, svc.Addr(), "fresh", trust)
	if err := fresh.Login(ctx); err != nil {
		t.Fatal(err)
	}
	if err := fresh.SendMessage(ctx, "hello", crosscomm.TypeText, "old"); err != nil {
		t.Fatal(err)
	}
	if m := testkit.Receive(t, onOld); m.Text() != "hello" || !old.IsConnected() {
		t.Errorf("got %v", m)
	}
}

func readCertificate(certFile, keyFile string) (*crosscomm.CertificateFiles, error) {
	return crosscomm.LoadCertificate(certFile, keyFile, nil)
}

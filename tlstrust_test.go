package crosscomm_test

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// A client that has a pin trusts the key that has it, and no other.
func TestTrustPin(t *testing.T) {
	own, pin := selfSigned(t)
	_, other := selfSigned(t)
	svc, _ := startTLS(t, crosscomm.Config{TLS: own})
	ctx := testContext(t)
	for name, trust := range map[string]*tls.Config{"the pin": trustPin(t, pin), "the next one, too": trustPin(t, other, pin)} {
		if err := secureClient(t, svc.Addr(), "a", trust).Login(ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := secureClient(t, svc.Addr(), "a", trustPin(t, other)).Login(ctx)
	if err == nil || !strings.Contains(err.Error(), "has the pin "+pin) || !strings.Contains(err.Error(), "not "+other) || !strings.Contains(err.Error(), "somebody who wants to read along") {
		t.Errorf("another pin: %v", err)
	}
	if err := secureClient(t, svc.Addr(), "a", nil).Login(ctx); err == nil || !strings.Contains(err.Error(), "unknown authority") || !strings.Contains(err.Error(), pin) {
		t.Errorf("the system's roots: %v", err)
	}
	for _, pins := range [][]string{nil, {""}, {pin, "sha256//x"}, {strings.TrimPrefix(pin, "sha256//")}, {"sha256//AAAA"}, {pin + "="}} {
		if _, err := crosscomm.TrustPin(pins...); err == nil || !strings.Contains(err.Error(), "pin") {
			t.Errorf("%q: %v", pins, err)
		}
	}
}

// A session that is resumed is not trusted because it was once.
func TestPinOfResumedSession(t *testing.T) {
	own, pin := selfSigned(t)
	_, other := selfSigned(t)
	svc, _ := startTLS(t, crosscomm.Config{TLS: own})
	sessions := tls.NewLRUClientSessionCache(1)
	dial := func(pin string, version uint16) (resumed bool, err error) {
		cfg := trustPin(t, pin)
		cfg.ClientSessionCache, cfg.ServerName, cfg.MaxVersion = sessions, "localhost", version
		conn, err := tls.Dial("tcp", svc.Addr().String(), cfg)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		// The ticket of TLS 1.3 comes with the first bytes.
		_, err = conn.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		return conn.ConnectionState().DidResume, err
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		if _, err := dial(pin, version); err != nil {
			t.Fatal(err)
		}
		if resumed, err := dial(pin, version); err != nil || !resumed {
			t.Fatalf("%s: it was not resumed: %v", tls.VersionName(version), err)
		}
		if _, err := dial(other, version); err == nil || !strings.Contains(err.Error(), pin) {
			t.Errorf("%s: with another pin: %v", tls.VersionName(version), err)
		}
	}
}

func TestTrustCA(t *testing.T) {
	dir := t.TempDir()
	cert, err := crosscomm.SelfSigned(dir)
	if err != nil {
		t.Fatal(err)
	}
	svc, _ := startTLS(t, crosscomm.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	// The file of a self-signed certificate is its own authority.
	for file, ok := range map[string]bool{filepath.Join(dir, crosscomm.SelfSignedCertFile): true, testkit.NewAuthority(t).File: false} {
		trust, err := crosscomm.TrustCA(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := secureClient(t, svc.Addr(), "a", trust).Login(testContext(t)); (err == nil) != ok {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, file := range []string{filepath.Join(dir, "missing"), filepath.Join(dir, crosscomm.SelfSignedKeyFile)} {
		if _, err := crosscomm.TrustCA(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// With certificates of clients an id is what its certificate says.
func TestClientCertificates(t *testing.T) {
	authority, stranger := testkit.NewAuthority(t), testkit.NewAuthority(t)
	own, pin := selfSigned(t)
	clients, err := crosscomm.TrustCA(authority.File)
	if err != nil {
		t.Fatal(err)
	}
	own.ClientCAs, own.ClientAuth = clients.RootCAs, tls.RequireAndVerifyClientCert
	logs := new(logBuffer)
	svc, _ := startTLS(t, crosscomm.Config{TLS: own, TLSPort: crosscomm.AnyPort, DataDir: t.TempDir(), Logger: logs.logger()})
	ctx := testContext(t)
	with := func(a *testkit.Authority, names ...string) *tls.Config {
		trust := trustPin(t, pin)
		if a != nil {
			files, err := readCertificate(a.Issue(t, t.TempDir(), names[0], names[1:]...))
			if err != nil {
				t.Fatal(err)
			}
			trust.GetClientCertificate = files.GetClientCertificate
		}
		return trust
	}
	robot := with(authority, "robot-7", "arm.robot-7")
	for _, id := range []string{"robot-7", "arm.robot-7"} {
		if err := secureClient(t, svc.TLSAddr(), id, robot).Login(ctx); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, id := range []string{"desk", "Robot-7", "an authority of tests"} {
		err := secureClient(t, svc.TLSAddr(), id, robot).Login(ctx)
		if !isRejected(err) || !strings.Contains(err.Error(), "robot-7") || !strings.Contains(err.Error(), id) {
			t.Errorf("%s: %v", id, err)
		}
	}
	// Nor may who has logged in do it once more, as somebody else.
	raw := dialSecure(t, svc.TLSAddr().String(), robot)
	raw.write(frameOf("robot-7", "server", "login", "{}"))
	if got := raw.read(); !strings.Contains(got, "login_response") {
		t.Fatalf("got %s", got)
	}
	raw.write(frameOf("robot-7", "server", "logout", "{}"))
	raw.write(frameOf("desk", "server", "login", "{}"))
	raw.closedWith(crosscomm.CloseLoginRejected, "does not let it log in")

	for want, trust := range map[string]*tls.Config{"does not take the client's certificate": with(stranger, "robot-7"), "asks for a certificate of the client": with(nil)} {
		trust.MaxVersion = tls.VersionTLS12 // with 1.3 the client may hear of it only by a reset
		if err := secureClient(t, svc.TLSAddr(), "robot-7", trust).Login(ctx); err == nil || isRejected(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		trust.MaxVersion = 0
		if err := secureClient(t, svc.TLSAddr(), "robot-7", trust).Login(ctx); err == nil {
			t.Errorf("with TLS 1.3 it has logged in")
		}
	}
	// The port without TLS asks for nothing.
	login(t, svc.Addr().String(), "robot-8")

	// Files go the same way.
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("pixels"), 0o600); err != nil {
		t.Fatal(err)
	}
	arm, desk := secureClient(t, svc.TLSAddr(), "arm.robot-7", robot), secureClient(t, svc.TLSAddr(), "desk", with(authority, "desk"))
	onDesk := collect(desk, crosscomm.ListenerOptions{DownloadDirectory: t.TempDir()})
	for _, c := range []*crosscomm.Service{arm, desk} {
		if err := c.Login(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := arm.SendMessage(ctx, path, crosscomm.TypeFile, "desk"); err != nil {
		t.Fatal(err)
	}
	m := testkit.Receive(t, onDesk)
	if data, err := os.ReadFile(m.Path()); m.Err() != nil || err != nil || string(data) != "pixels" {
		t.Errorf("%v, %v, %s", m.Err(), err, data)
	}
}

func isRejected(err error) bool { return errors.Is(err, crosscomm.ErrLoginRejected) }

// dialSecure is dialRaw with TLS.
func dialSecure(t testing.TB, addr string, cfg *tls.Config) *rawPeer {
	t.Helper()
	conn, _, err := (&websocket.Dialer{TLSClientConfig: cfg}).DialContext(testContext(t), "wss://"+addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &rawPeer{Conn: conn, t: t}
}

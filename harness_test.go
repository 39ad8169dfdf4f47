package crosscomm_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	t.Cleanup(cancel)
	return ctx
}

// testServer is a server on a real port, stopped and checked for leaks at the
// end of the test.
type testServer struct {
	*crosscomm.Service
	addr string
	stop func()
}

func startServer(t testing.TB, cfg crosscomm.Config) *testServer {
	t.Helper()
	return startServerAt(t, cfg, "127.0.0.1:0")
}

func startServerAt(t testing.TB, cfg crosscomm.Config, addr string, prepare ...func(*crosscomm.Service)) *testServer {
	t.Helper()
	cfg.Role = crosscomm.Server
	if cfg.StateFile == "" {
		cfg.StateFile = filepath.Join(t.TempDir(), crosscomm.DefaultStateFile)
	}
	if cfg.EnvFile == "" {
		cfg.EnvFile = filepath.Join(t.TempDir(), ".env")
	}
	svc, err := crosscomm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range prepare {
		f(svc)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Serve(ctx, l) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(testkit.Patience):
			t.Error("the server does not stop")
		}
	})
	t.Cleanup(stop)
	return &testServer{Service: svc, addr: l.Addr().String(), stop: stop}
}

func (s *testServer) url() string { return "ws://" + s.addr + "/" }

// freeAddr returns an address for a server that will be there, or there again,
// later.
func freeAddr(t testing.TB) string { return fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t)) }

// newClient makes a client of the server at addr, or of the URL of cfg, logged out
// at the end of the test.
func newClient(t testing.TB, addr, id string, cfg crosscomm.Config) *crosscomm.Service {
	t.Helper()
	cfg.Role = crosscomm.Client
	if cfg.URL == "" {
		cfg.URL = "ws://" + addr + "/"
	}
	cfg.ClientID = id
	if cfg.BackoffMax == 0 {
		cfg.BackoffMin, cfg.BackoffMax = 5*time.Millisecond, 50*time.Millisecond
	}
	svc, err := crosscomm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := svc.Logout(context.Background()); err != nil {
			t.Errorf("Logout: %v", err)
		}
	})
	return svc
}

func login(t testing.TB, addr, id string) *crosscomm.Service {
	t.Helper()
	svc := newClient(t, addr, id, crosscomm.Config{})
	if err := svc.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	return svc
}

// collect registers a listener that puts what it gets into a channel.
func collect(svc *crosscomm.Service, opts crosscomm.ListenerOptions) <-chan *crosscomm.Message {
	ch := make(chan *crosscomm.Message, 100_000)
	svc.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		ch <- m
		return nil
	}, opts)
	return ch
}

// rawPeer is a bare WebSocket connection, for what no client of ours would do.
type rawPeer struct {
	*websocket.Conn
	t  testing.TB
	id string

	patience time.Duration // with which it reads; testkit.Patience if 0
}

func dialRaw(t testing.TB, addr string) *rawPeer {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.DialContext(testContext(t), "ws://"+addr+"/some/path?query=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &rawPeer{Conn: conn, t: t}
}

// agreedPeer is loginRaw for a peer that has agreed on crosscomm.v3.
func agreedPeer(t testing.TB, addr, id string) *rawPeer {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{"crosscomm.v3"}}
	conn, _, err := dialer.DialContext(testContext(t), "ws://"+addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := &rawPeer{Conn: conn, t: t, id: id}
	p.write(frameOf(id, "server", "login", "{}"))
	for !strings.Contains(p.read(), `"login_response"`) { // there is an object_store before
	}
	return p
}

func loginRaw(t testing.TB, addr, id string) *rawPeer {
	t.Helper()
	p := dialRaw(t, addr)
	p.id = id
	p.write(frameOf(id, "server", "login", "{}"))
	if got := p.read(); !strings.Contains(got, `"login_response"`) {
		t.Fatalf("the answer to the login is %s", got)
	}
	return p
}

func frameOf(from, to, msgType, content string) string {
	return `{"msg_id": "m1", "from_client_id": "` + from + `", "to_client_id": "` + to + `", "msg_type": "` + msgType +
		`", "content": ` + content + `, "timestamp": 1795508069.140345, "oss_key": null}`
}

func (p *rawPeer) write(text string) {
	p.t.Helper()
	if err := p.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *rawPeer) read() string {
	p.t.Helper()
	kind, data, err := p.next()
	if err != nil {
		p.t.Fatal(err)
	}
	if kind != websocket.TextMessage {
		p.t.Fatalf("got a frame of kind %d", kind)
	}
	return string(data)
}

func (p *rawPeer) next() (int, []byte, error) {
	_ = p.SetReadDeadline(time.Now().Add(cmp.Or(p.patience, testkit.Patience)))
	return p.ReadMessage()
}

// discard reads until the connection ends.
func (p *rawPeer) discard() {
	_ = p.SetReadDeadline(time.Time{})
	for {
		if _, _, err := p.ReadMessage(); err != nil {
			return
		}
	}
}

// closedWith reads until the connection is closed, and checks the code.
func (p *rawPeer) closedWith(code int, reason string) {
	p.t.Helper()
	for {
		_, _, err := p.next()
		if err == nil {
			continue
		}
		var ce *websocket.CloseError
		if !errors.As(err, &ce) || ce.Code != code || !strings.Contains(ce.Text, reason) {
			p.t.Fatalf("the connection ended with %v, want code %d and %q", err, code, reason)
		}
		return
	}
}

// logBuffer collects log lines.
type logBuffer struct{ testkit.Buffer }

func (b *logBuffer) logger() *slog.Logger {
	var w io.Writer = b
	if os.Getenv("CROSSCOMM_TEST_LOG") != "" {
		w = io.MultiWriter(b, os.Stderr)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func dialTCP(t testing.TB, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// mount is a server as a part of an HTTP service.
func mount(t *testing.T, cfg crosscomm.Config) (svc *crosscomm.Service, url string) {
	t.Helper()
	svc, web := mountOn(t, cfg, httptest.NewServer)
	return svc, "ws" + strings.TrimPrefix(web.URL, "http")
}

// mountOn is mount for a kind of HTTP service.
func mountOn(t *testing.T, cfg crosscomm.Config, start func(http.Handler) *httptest.Server) (*crosscomm.Service, *httptest.Server) {
	t.Helper()
	cfg.Role, cfg.NoStateFile = crosscomm.Server, true
	svc, err := crosscomm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	web := start(svc)
	t.Cleanup(func() {
		if err := svc.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		web.Close()
	})
	return svc, web
}

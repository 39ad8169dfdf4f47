package loadgen_test

import (
	"context"
	"errors"
	"net"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/loadgen"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startServer starts a real server, through whose network connections pass.
func startServer(t *testing.T) (url string) {
	t.Helper()
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, NoStateFile: true})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(svc)
	t.Cleanup(func() {
		if err := svc.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		web.Close()
	})
	return "ws" + strings.TrimPrefix(web.URL, "http")
}

var loads = map[string]func(context.Context, loadgen.Config) (loadgen.Result, error){
	"pairs": loadgen.PairLoad, "fan-out": loadgen.FanOutLoad, "idle": loadgen.IdleLoad,
}

// All loads run against a real server, with sizes that go into one frame header
// or the other.
func TestLoads(t *testing.T) {
	url := startServer(t)
	for name, load := range loads {
		for _, size := range []int{210, 70_000} {
			cfg := loadgen.Config{URL: url, Name: name, Clients: 5, Size: size, InFlight: 7, WarmUp: 10 * time.Millisecond, Duration: 100 * time.Millisecond}
			if runtime.GOOS == "linux" {
				cfg.PID = os.Getpid()
			}
			r, err := load(context.Background(), cfg)
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", name, size, err)
			}
			want := map[string]int{"pairs": 10, "fan-out": 6, "idle": 5}[name]
			if r.Clients != want || r.Elapsed < cfg.Duration || (r.LoginCPU >= 0) != (cfg.PID > 0) {
				t.Errorf("%s: got %+v", name, r)
			}
			l := r.Latency
			busy := r.Sent > 0 && r.Delivered > 0 && 0 < l.Median && l.Median <= l.P90 && l.P90 <= l.P99 && l.P99 <= l.Max
			if busy != (name != "idle") {
				t.Errorf("%s: got %+v", name, r)
			}
		}
	}
}

// badRelay is a server that brings messages to their receivers not quite as it
// should.
func badRelay(t *testing.T, change func(n int, text string) []string) (url string) {
	t.Helper()
	var mu sync.Mutex
	clients := map[string]*websocket.Conn{}
	n := 0
	var upgrader websocket.Upgrader
	web := httptest.NewServer(handler(func(conn *websocket.Conn) {
		for {
			_, data, err := conn.ReadMessage()
			if err != nil {
				return
			}
			m, err := crosscomm.ParseMessage(data)
			if err != nil {
				return
			}
			mu.Lock()
			if m.MsgType == "login" {
				clients[m.FromClientID] = conn
				_ = conn.WriteMessage(websocket.TextMessage, []byte(`{"msg_type": "login_response"}`))
			} else if to := clients[m.ToClientID]; to != nil {
				n++
				for _, text := range change(n, string(data)) {
					_ = to.WriteMessage(websocket.TextMessage, []byte(text))
				}
			}
			mu.Unlock()
		}
	}, &upgrader))
	t.Cleanup(web.Close)
	return "ws" + strings.TrimPrefix(web.URL, "http")
}

// What a server loses, doubles, changes or lets overtake is found.
func TestFaultsAreFound(t *testing.T) {
	held := ""
	for want, change := range map[string]func(int, string) []string{
		"in its turn":     func(n int, text string) []string { return map[bool][]string{true: {text, text}, false: {text}}[n == 5] },
		"arrived changed": func(n int, text string) []string { return []string{strings.Replace(text, "xxx", "xyx", n/5)} },
		"5 in place of 4": func(n int, text string) []string {
			switch n {
			case 5:
				held = text
				return nil
			case 6:
				return []string{text, held}
			}
			return []string{text}
		},
		"": func(_ int, text string) []string { // the same JSON written otherwise is no fault
			return []string{strings.ReplaceAll(text, `": "`, `":  "`)}
		},
	} {
		cfg := loadgen.Config{URL: badRelay(t, change), Name: "c", Clients: 1, Size: 256, InFlight: 4, Duration: 50 * time.Millisecond}
		_, err := loadgen.PairLoad(context.Background(), cfg)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// A server that is not there, does not let clients in, or goes away is told.
func TestServerTrouble(t *testing.T) {
	cfg := loadgen.Config{URL: "ws://127.0.0.1:1/", Name: "c", Clients: 3, Size: 256, InFlight: 1, Duration: time.Minute}
	if _, err := loadgen.IdleLoad(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("no server: %v", err)
	}
	cfg.URL = startServer(t)
	cfg.Size = 10
	if _, err := loadgen.PairLoad(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "at least") {
		t.Errorf("a small size: %v", err)
	}
	cfg.Size = 256
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("enough")
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	if _, err := loadgen.FanOutLoad(ctx, cfg); !errors.Is(err, cause) {
		t.Errorf("cancelled: %v", err)
	}
	// The network goes away in the middle.
	var mu sync.Mutex
	var conns []net.Conn
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, conn)
		return conn, err
	}
	done := make(chan error, 1)
	go func() {
		_, err := loadgen.PairLoad(context.Background(), cfg)
		done <- err
	}()
	testkit.Eventually(t, "all are connected", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(conns) == 6
	})
	mu.Lock()
	conns[3].Close()
	mu.Unlock()
	if err := testkit.Receive(t, done); err == nil {
		t.Error("a lost connection is no error")
	}
}

package loadgen_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	"github.com/crosscomm/crosscomm-go/internal/frame"
	"github.com/crosscomm/crosscomm-go/internal/loadgen"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startServer starts a real server, through whose network connections pass.
func startServer(t *testing.T) (url string) {
	t.Helper()
	web := serve(t, crosscomm.Config{}, httptest.NewServer)
	return "ws" + strings.TrimPrefix(web.URL, "http")
}

// serve starts a real server of the configuration in a web server.
func serve(t *testing.T, cfg crosscomm.Config, start func(http.Handler) *httptest.Server) *httptest.Server {
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
	return web
}

var loads = map[string]func(context.Context, loadgen.Config) (loadgen.Result, error){
	"pairs": loadgen.PairLoad, "fan-out": loadgen.FanOutLoad, "idle": loadgen.IdleLoad,
}

// All loads run against a real server, with sizes that go into one frame header
// or the other.
func TestLoads(t *testing.T) { testLoads(t, loadgen.Config{URL: startServer(t)}) }

// testLoads puts all loads on the server of the configuration.
func testLoads(t *testing.T, cfg loadgen.Config) {
	t.Helper()
	cfg.Clients, cfg.InFlight, cfg.WarmUp = 5, 7, 10*time.Millisecond
	if runtime.GOOS == "linux" {
		cfg.PID = os.Getpid()
	}
	for name, load := range loads {
		for _, size := range []int{210, 70_000} {
			cfg.Name, cfg.Size, cfg.Duration = name, size, 50*time.Millisecond
			r, err := load(context.Background(), cfg)
			// A slow machine gets more time to deliver something.
			for name != "idle" && err == nil && (r.Delivered == 0 || r.Latency.Max == 0) && cfg.Duration < testkit.Patience {
				cfg.Duration *= 4
				r, err = load(context.Background(), cfg)
			}
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", name, size, err)
			}
			want := map[string]int{"pairs": 10, "fan-out": 6, "idle": 5}[name]
			if r.Clients != want || r.Elapsed < cfg.Duration || (r.Server != nil) != (cfg.PID > 0) {
				t.Errorf("%s: got %+v", name, r)
			}
			l := r.Latency
			busy := r.Delivered > 0 && 0 < l.Median && l.Median <= l.P90 && l.P90 <= l.P99 && l.P99 <= l.Max
			if busy != (name != "idle") {
				t.Errorf("%s: got %+v", name, r)
			}
		}
	}
}

// Pairs can have receipts of each stage, of a server that keeps messages and of one
// that does not.
func TestReceipts(t *testing.T) {
	disk := serve(t, crosscomm.Config{DataDir: t.TempDir()}, httptest.NewServer)
	for _, url := range []string{startServer(t), "ws" + strings.TrimPrefix(disk.URL, "http")} {
		for _, stage := range []string{"accepted", "written", "handled"} {
			cfg := loadgen.Config{URL: url, Name: stage, Clients: 3, Size: 256, InFlight: 7, Duration: 50 * time.Millisecond, Receipts: stage}
			r, err := loadgen.PairLoad(context.Background(), cfg)
			for err == nil && r.Delivered == 0 && cfg.Duration < testkit.Patience {
				cfg.Duration *= 4
				cfg.Name += "x" // or else its messages are those that the server had already
				r, err = loadgen.PairLoad(context.Background(), cfg)
			}
			if err != nil || r.Delivered == 0 || r.Receipts < r.Delivered {
				t.Errorf("%s: got %+v, %v", stage, r, err)
			}
		}
	}
	cfg := loadgen.Config{URL: startServer(t), Name: "c", Clients: 1, Size: 256, InFlight: 1, Duration: time.Second, Receipts: "accepted"}
	for name, load := range map[string]func(context.Context, loadgen.Config) (loadgen.Result, error){"fan-out": loadgen.FanOutLoad, "idle": loadgen.IdleLoad} {
		if _, err := load(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "no receipts") {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg.URL = badRelay(t, func(int, string) []string { return nil })
	if _, err := loadgen.PairLoad(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "does not agree to crosscomm.v3") {
		t.Errorf("a server without receipts: %v", err)
	}
}

// What is sent to clients that are away waits for them, with receipts and without.
func TestQueueLoad(t *testing.T) {
	web := serve(t, crosscomm.Config{DataDir: t.TempDir(), Queues: crosscomm.Queues{MaxMessages: 250}}, httptest.NewServer)
	for _, stage := range []string{"", "accepted"} {
		cfg := loadgen.Config{URL: "ws" + strings.TrimPrefix(web.URL, "http"), Name: "q" + stage, Clients: 3, Size: 256, InFlight: 7, Duration: time.Second, Receipts: stage, Messages: 700, Drain: true}
		if runtime.GOOS == "linux" {
			cfg.PID = os.Getpid()
		}
		r, err := loadgen.QueueLoad(context.Background(), cfg)
		if err != nil || r.Sent != 700 || r.Drained == nil || r.Drained.Delivered != 700 || r.Elapsed <= 0 || r.Drained.Elapsed <= 0 || (r.Server != nil) != (cfg.PID > 0) {
			t.Errorf("%q: got %+v, %v", stage, r, err)
		}
		if want := map[string]uint64{"": 0, "accepted": 700}[stage]; r.Receipts != want {
			t.Errorf("%q: %d receipts", stage, r.Receipts)
		}
	}
	// All are accepted, but each queue has dropped the first ones for the others.
	full := loadgen.Config{URL: "ws" + strings.TrimPrefix(web.URL, "http"), Name: "full", Clients: 3, Size: 256, InFlight: 7, Duration: time.Second, Receipts: "accepted", Messages: 900, Drain: true}
	if _, err := loadgen.QueueLoad(context.Background(), full); err == nil || !strings.Contains(err.Error(), "in its turn") {
		t.Errorf("messages are missing: %v", err)
	}
	for want, cfg := range map[string]loadgen.Config{
		"while its receiver is away": {Receipts: "handled", Messages: 1},
		"one message at least":       {},
	} {
		cfg.URL, cfg.Name, cfg.Clients, cfg.Size, cfg.InFlight, cfg.Duration = "ws://127.0.0.1:1/", "c", 1, 256, 1, time.Second
		if _, err := loadgen.QueueLoad(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
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
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	const none = "no fault"
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
		"1 messages of": func(int, string) []string { return nil }, // and no later one tells
		none: func(n int, text string) []string { // the same JSON written otherwise is none
			if n == 100 { // all but the last few have been checked by then
				cancel(errors.New(none))
			}
			return []string{strings.ReplaceAll(text, `": "`, `":  "`)}
		},
	} {
		cfg := loadgen.Config{URL: badRelay(t, change), Name: "c", Clients: 1, Size: 256, InFlight: 4, Duration: testkit.Patience}
		if strings.HasSuffix(want, "messages of") {
			cfg.InFlight, cfg.Duration, cfg.Settle = 1, time.Millisecond, time.Second
		}
		runCtx := context.Background() // what is found ends the run
		if want == none {
			runCtx = ctx
		}
		if _, err := loadgen.PairLoad(runCtx, cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// A message without a receipt, with two, or with one of another kind is found.
func TestFaultyReceipts(t *testing.T) {
	for want, content := range map[string]string{
		"messages of c_0 have no receipt": "",
		"the second one":                  `{"accepted":[%[1]s,%[1]s]}`,
		"a receipt of \"failed\"":         `{"failed":[{"msg_id":%[1]s,"error":"offline"}]}`,
	} {
		upgrader := websocket.Upgrader{Subprotocols: []string{"crosscomm.v3"}}
		var mu sync.Mutex
		clients := map[string]*websocket.Conn{}
		web := httptest.NewServer(handler(func(conn *websocket.Conn) {
			for {
				_, data, err := conn.ReadMessage()
				if err != nil {
					return
				}
				f, err := frame.ScanAgreed(data, frame.MaxDepth)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if string(f.Type) == "login" {
					clients[string(f.From)] = conn
					_ = conn.WriteMessage(websocket.TextMessage, []byte(`{"msg_type": "login_response"}`))
				} else if to := clients[string(f.To)]; to != nil {
					_ = to.WriteMessage(websocket.TextMessage, data)
					if content != "" {
						receipt := fmt.Sprintf(content, f.MsgID)
						_ = conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"msg_id":"1","from_client_id":"server","to_client_id":"c","msg_type":"receipt","content":%s,"timestamp":1.0}`, receipt))
					}
				}
				mu.Unlock()
			}
		}, &upgrader))
		cfg := loadgen.Config{URL: "ws" + strings.TrimPrefix(web.URL, "http"), Name: "c", Clients: 1, Size: 256, InFlight: 1, Duration: testkit.Patience, Receipts: "accepted"}
		if content == "" {
			cfg.Duration, cfg.Settle = time.Millisecond, 100*time.Millisecond
		}
		_, err := loadgen.PairLoad(context.Background(), cfg)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		web.Close()
	}
}

// A server that lets clients in, and then reads no more, ends the run; so does the
// end of the context while that is waited for.
func TestServerThatReadsNothing(t *testing.T) {
	stop := make(chan struct{})
	var upgrader websocket.Upgrader
	web := httptest.NewServer(handler(func(conn *websocket.Conn) {
		if _, _, err := conn.ReadMessage(); err != nil {
			t.Error(err)
			return
		}
		_ = conn.WriteMessage(websocket.TextMessage, []byte(`{"msg_type": "login_response"}`))
		<-stop
	}, &upgrader))
	defer web.Close()
	defer close(stop)
	cfg := loadgen.Config{URL: "ws" + strings.TrimPrefix(web.URL, "http"), Name: "c", Clients: 2, Size: 1 << 20, InFlight: 32, Duration: time.Millisecond, Settle: 10 * time.Millisecond}
	for name, load := range loads {
		if _, err := load(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "not take") && !strings.Contains(err.Error(), "not arrived") {
			t.Errorf("%s: %v", name, err)
		}
		ctx, cancel := context.WithCancelCause(context.Background())
		cause := errors.New("enough")
		slow := cfg
		slow.Duration, slow.Settle = time.Hour, time.Hour
		time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
		if _, err := load(ctx, slow); !errors.Is(err, cause) {
			t.Errorf("%s: %v", name, err)
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

package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// A peer that stops reading costs the others nothing, and is closed with a
// reason once its queue is full; what was queued before comes in order.
func TestSlowPeer(t *testing.T) {
	logs := new(logBuffer)
	server := startServer(t, crosscomm.Config{Limits: crosscomm.Limits{QueuedBytes: 1 << 20}, Logger: logs.logger()})
	slow := loginRaw(t, server.addr, "slow")
	fast := login(t, server.addr, "fast")
	onFast := collect(fast, crosscomm.ListenerOptions{})
	sender := login(t, server.addr, "sender")
	ctx := testContext(t)
	padding := strings.Repeat("x", 50_000)
	sent := 0
	for server.Stats().TooSlow == 0 {
		if err := sender.SendMessage(ctx, fmt.Sprint(sent, " ", padding), crosscomm.TypeText, crosscomm.All); err != nil {
			t.Fatal(err)
		}
		if m := testkit.Receive(t, onFast); !strings.HasPrefix(m.Text(), fmt.Sprint(sent, " ")) {
			t.Fatalf("message %d is %.10s", sent, m.Text())
		}
		if sent++; sent > 2000 {
			t.Fatal("the slow peer is never closed")
		}
	}
	// It wakes up: everything from before is there, then the reason.
	for i := 0; ; i++ {
		_, data, err := slow.next()
		if err != nil {
			var ce *websocket.CloseError
			if !errors.As(err, &ce) || ce.Code != crosscomm.CloseTooSlow || !strings.Contains(ce.Text, "too slowly") || i < 20 {
				t.Errorf("after %d messages: %v", i, err)
			}
			break
		}
		if !strings.Contains(string(data[:300]), fmt.Sprintf(`"content":"%d x`, i)) {
			t.Fatalf("message %d is %.300s", i, data)
		}
	}
	testkit.Eventually(t, "it is offline", func() bool { return slices.Equal(server.GetOnlineClients(), []string{"fast", "sender"}) })
	if !strings.Contains(logs.String(), "reads too slowly") {
		t.Error("nothing was logged")
	}
}

// Many senders and receivers at once: for each pair the order holds, and
// nothing is lost.
func TestOrderUnderLoad(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	const clients, each = 8, 300
	type entry struct {
		mu   sync.Mutex
		next [clients]int
		got  int
	}
	var wg sync.WaitGroup
	entries := make([]entry, clients)
	services := make([]*crosscomm.Service, clients)
	done := make(chan int, clients)
	for i := range services {
		services[i] = login(t, server.addr, fmt.Sprint("c", i))
		e := &entries[i]
		services[i].MessageListener(func(_ context.Context, m *crosscomm.Message) error {
			var from, n int
			if _, err := fmt.Sscanf(m.Text(), "%d %d", &from, &n); err != nil {
				t.Errorf("got %q", m.Text())
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.next[from] != n {
				t.Errorf("%d got message %d of %d, want %d", i, n, from, e.next[from])
			}
			e.next[from] = n + 1
			if e.got++; e.got == (clients-1)*each {
				done <- i
			}
			return nil
		}, crosscomm.ListenerOptions{})
	}
	ctx := testContext(t)
	for i, svc := range services {
		wg.Go(func() {
			for n := range each {
				if err := svc.SendMessage(ctx, fmt.Sprint(i, " ", n), crosscomm.TypeText, crosscomm.All); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for range clients {
		testkit.Receive(t, done)
	}
}

// The end of a server: code 1001, and no waiting for peers that do not answer
// or read.
func TestStop(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	polite := loginRaw(t, server.addr, "polite")
	silent, err := net.Dial("tcp", server.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	mute := loginRaw(t, server.addr, "mute")
	mute.SetCloseHandler(func(int, string) error { return nil }) // does not answer, like Java
	stopped := make(chan struct{})
	go func() {
		server.stop()
		close(stopped)
	}()
	polite.closedWith(websocket.CloseGoingAway, "server stopped")
	mute.closedWith(websocket.CloseGoingAway, "server stopped")
	testkit.Receive(t, stopped)
	if server.IsConnected() {
		t.Error("it still says that it serves")
	}
	if _, _, err := websocket.DefaultDialer.Dial(server.url(), nil); err == nil {
		t.Error("it still accepts connections")
	}
}

func TestStopEndsListeners(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	began, ended := make(chan bool), make(chan error, 1)
	server.MessageListener(func(ctx context.Context, m *crosscomm.Message) error {
		began <- true
		<-ctx.Done()
		ended <- ctx.Err()
		return nil
	}, crosscomm.ListenerOptions{})
	a := login(t, server.addr, "a")
	if err := a.SendMessage(testContext(t), "x", crosscomm.TypeText, crosscomm.ServerID); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, began)
	server.stop()
	if len(ended) != 1 {
		t.Error("the server has stopped, but a listener has not")
	}
}

func TestStartServer(t *testing.T) {
	port := testkit.FreePort(t)
	busy, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, IP: "127.0.0.1", Port: port, StateFile: filepath.Join(t.TempDir(), "state.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	if err := svc.StartServer(ctx); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("on a busy port: %v", err)
	}
	busy.Close()
	// Started, stopped by Stop and by the context, and started again.
	for round := range 4 {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- svc.StartServer(ctx) }()
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		testkit.Eventually(t, "it listens", svc.IsConnected)
		if err := svc.StartServer(ctx); err == nil {
			t.Error("it was started twice")
		}
		c := newClient(t, addr, fmt.Sprint("c", round), crosscomm.Config{RetryLogin: true})
		if err := c.Login(ctx); err != nil {
			t.Fatal(err)
		}
		if round%2 == 0 {
			cancel()
		} else if err := svc.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := testkit.Receive(t, done); err != nil {
			t.Error(err)
		}
		cancel()
		_ = c.Logout(context.Background())
	}
	if got := svc.Clients(); len(got) != 4 {
		t.Errorf("it knows %d clients", len(got))
	}
}

func TestEmbedded(t *testing.T) {
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, StateFile: filepath.Join(t.TempDir(), "state.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", svc)
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	host := httptest.NewServer(mux)
	defer host.Close()
	a := newClient(t, strings.TrimPrefix(host.URL, "http://")+"/ws", "a", crosscomm.Config{})
	// newClient ends the URL with a slash, which the mux would redirect.
	a2, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, ClientID: "a", URL: "ws" + strings.TrimPrefix(host.URL, "http") + "/ws", NoReconnect: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	if err := a.Login(ctx); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("at a wrong path: %v", err)
	}
	if err := a2.Login(ctx); err != nil {
		t.Fatal(err)
	}
	if got := svc.GetOnlineClients(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("online: %v", got)
	}
	if err := svc.Stop(ctx); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "a is down", func() bool { return !a2.IsConnected() })
	if err := a2.SendMessage(ctx, "x", crosscomm.TypeText, crosscomm.All); !errors.Is(err, crosscomm.ErrNotConnected) {
		t.Errorf("after the end: %v", err)
	}
	if err := a2.Login(ctx); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a stopped server answered %v", err)
	}
}

// What one compresses arrives at one that does not, and the other way.
func TestCompression(t *testing.T) {
	server := startServer(t, crosscomm.Config{Compression: true})
	a := newClient(t, server.addr, "a", crosscomm.Config{Compression: true})
	b := login(t, server.addr, "b") // does not offer it
	ctx := testContext(t)
	if err := a.Login(ctx); err != nil {
		t.Fatal(err)
	}
	onA, onB := collect(a, crosscomm.ListenerOptions{}), collect(b, crosscomm.ListenerOptions{})
	text := strings.Repeat("compressible ", 1000)
	for range 3 {
		if err := a.SendMessage(ctx, text, crosscomm.TypeText, "b"); err != nil {
			t.Fatal(err)
		}
		if err := b.SendMessage(ctx, text, crosscomm.TypeText, "a"); err != nil {
			t.Fatal(err)
		}
		if testkit.Receive(t, onA).Text() != text || testkit.Receive(t, onB).Text() != text {
			t.Error("the text has changed")
		}
	}
}

// A client that repeats its login cannot stop the server by way of a function
// of the Config that takes its time.
func TestManyLoginsAndASlowOnLogin(t *testing.T) {
	release := make(chan struct{})
	var server *testServer
	calls := 0
	server = startServer(t, crosscomm.Config{OnLogin: func(string) {
		if calls++; calls == 1 {
			<-release
		}
		server.GetOnlineClients()
	}})
	flood := loginRaw(t, server.addr, "flood")
	frame := frameOf("flood", "server", "login", "{}")
	logout := frameOf("flood", "server", "logout", "{}")
	for range 20_000 {
		for _, text := range []string{frame, logout, frame} {
			if err := flood.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if err := flood.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
				break // it is held up, as it should be
			}
		}
	}
	other := login(t, server.addr, "other")
	if list, err := other.ListClients(testContext(t), true); err != nil || list.TotalCount < 1 {
		t.Errorf("another client: %+v, %v", list, err)
	}
	flood.Close()
	close(release)
}

// A client that is taken over knows it, however much it is sending. A server is
// stopped and started again at once, many times.
func TestRestartAtOnce(t *testing.T) {
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, IP: "127.0.0.1", Port: testkit.FreePort(t), StateFile: filepath.Join(t.TempDir(), "state.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	for round := range 50 {
		done := make(chan error, 1)
		go func() { done <- svc.StartServer(ctx) }()
		testkit.Eventually(t, "it listens", func() bool { return svc.Addr() != nil })
		if len(done) != 0 {
			t.Fatalf("round %d: StartServer returned %v at once", round, <-done)
		}
		if err := svc.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", svc.Config().Port))
		if err != nil {
			t.Fatalf("round %d: after Stop: %v", round, err)
		}
		l.Close()
		if err := testkit.Receive(t, done); err != nil {
			t.Fatal(err)
		}
	}
}

// A listener that answers each message, with so much waiting for it that the
// client does not read further: when the link breaks it still comes back.

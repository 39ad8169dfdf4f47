package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
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
	server := startServer(t, crosscomm.Config{MaxQueuedBytes: 1 << 20, Logger: logs.logger()})
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
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, IP: "127.0.0.1", Port: port, DataDir: t.TempDir()})
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
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, DataDir: t.TempDir()})
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

func TestClientIsReplaced(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	down := make(chan error, 10)
	first := newClient(t, server.addr, "robot", crosscomm.Config{OnDown: func(err error) { down <- err }})
	ctx := testContext(t)
	if err := first.Login(ctx); err != nil {
		t.Fatal(err)
	}
	second := login(t, server.addr, "robot")
	err := testkit.Receive(t, down)
	var ce *crosscomm.CloseError
	if !errors.Is(err, crosscomm.ErrReplaced) || !errors.As(err, &ce) || ce.Code != crosscomm.CloseReplaced || !ce.ByPeer {
		t.Errorf("OnDown: %v", err)
	}
	if err := first.SendMessage(ctx, "x", crosscomm.TypeText, crosscomm.All); !errors.Is(err, crosscomm.ErrNotConnected) || !errors.Is(err, crosscomm.ErrReplaced) {
		t.Errorf("SendMessage of the replaced: %v", err)
	}
	if !second.IsConnected() {
		t.Error("the second has lost its link")
	}
	// It may come back by a Login, and then has the id again.
	if err := first.Login(ctx); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the second is replaced", func() bool { return !second.IsConnected() && first.IsConnected() })
}

func TestLoginErrors(t *testing.T) {
	ctx := testContext(t)
	nowhere := newClient(t, "127.0.0.1:1", "a", crosscomm.Config{})
	if err := nowhere.Login(ctx); err == nil || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("where nobody listens: %v", err)
	}
	forbidding := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "go away", http.StatusForbidden) }))
	defer forbidding.Close()
	c := newClient(t, strings.TrimPrefix(forbidding.URL, "http://"), "a", crosscomm.Config{RetryLogin: true})
	if err := c.Login(ctx); !errors.Is(err, crosscomm.ErrLoginRejected) || !strings.Contains(err.Error(), "go away") {
		t.Errorf("where it is forbidden: %v", err)
	}
	// A server that takes the connection and says nothing.
	deaf := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for err == nil {
			_, _, err = conn.ReadMessage()
		}
	}))
	defer deaf.Close()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	c = newClient(t, strings.TrimPrefix(deaf.URL, "http://"), "a", crosscomm.Config{})
	if err := c.Login(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("where nobody answers: %v", err)
	}
}

// With RetryLogin the client may be started before the server.
func TestRetryLogin(t *testing.T) {
	addr := freeAddr(t)
	attempts := make(chan bool, 1000)
	c := newClient(t, addr, "early", crosscomm.Config{RetryLogin: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		attempts <- true
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	ctx, cancel := context.WithCancel(testContext(t))
	result := make(chan error, 1)
	go func() { result <- c.Login(ctx) }()
	for range 3 {
		testkit.Receive(t, attempts)
	}
	server := startServerAt(t, crosscomm.Config{}, addr)
	if err := testkit.Receive(t, result); err != nil {
		t.Error(err)
	}
	if got := server.GetOnlineClients(); !slices.Equal(got, []string{"early"}) {
		t.Errorf("online: %v", got)
	}
	cancel() // bounds Login alone
	if err := c.SendMessage(testContext(t), "x", crosscomm.TypeText, crosscomm.All); err != nil {
		t.Error(err)
	}
}

// The server goes away and comes back several times: up and down alternate,
// sends made while it was away arrive once, in order, and the listeners are
// still there.
func TestReconnect(t *testing.T) {
	dir := t.TempDir()
	server := startServerAt(t, crosscomm.Config{DataDir: dir}, freeAddr(t))
	events := make(chan string, 100)
	a := newClient(t, server.addr, "a", crosscomm.Config{
		OnUp:   func() { events <- "up" },
		OnDown: func(error) { events <- "down" },
	})
	onA := collect(a, crosscomm.ListenerOptions{})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	want := func(event string) {
		t.Helper()
		if got := testkit.Receive(t, events); got != event {
			t.Fatalf("got %s, want %s", got, event)
		}
	}
	want("up")
	for round := range 3 {
		server.stop()
		want("down")
		sent := make(chan error, 1)
		go func() {
			var err error
			for i := range 5 {
				err = errors.Join(err, a.SendMessage(context.Background(), fmt.Sprint(i), crosscomm.TypeText, crosscomm.ServerID))
			}
			sent <- err
		}()
		var onServer <-chan *crosscomm.Message
		server = startServerAt(t, crosscomm.Config{DataDir: dir}, server.addr, func(svc *crosscomm.Service) {
			onServer = collect(svc, crosscomm.ListenerOptions{})
		})
		want("up")
		if err := testkit.Receive(t, sent); err != nil {
			t.Error(err)
		}
		for i := range 5 {
			if m := testkit.Receive(t, onServer); m.Text() != fmt.Sprint(i) {
				t.Errorf("message %d is %q", i, m.Text())
			}
		}
		if err := server.SendMessage(testContext(t), fmt.Sprint("round ", round), crosscomm.TypeText, "a"); err != nil {
			t.Fatal(err)
		}
		if m := testkit.Receive(t, onA); m.Text() != fmt.Sprint("round ", round) {
			t.Errorf("got %q", m.Text())
		}
	}
	if err := a.Logout(context.Background()); err != nil {
		t.Error(err)
	}
	if len(events) != 0 {
		t.Errorf("after Logout: %v", <-events)
	}
}

// While the link is down a send waits; it ends with the context, or by Logout.
func TestSendWhileDown(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	down := make(chan error, 1)
	a := newClient(t, server.addr, "a", crosscomm.Config{OnDown: func(err error) { down <- err }})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	server.stop()
	testkit.Receive(t, down)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	err := a.SendMessage(ctx, "x", crosscomm.TypeText, crosscomm.All)
	if !errors.Is(err, crosscomm.ErrNotConnected) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a send while down: %v", err)
	}
	if _, err := a.ListClients(ctx, true); !errors.Is(err, crosscomm.ErrNotConnected) {
		t.Errorf("a list while down: %v", err)
	}
	sent := make(chan error, 1)
	go func() { sent <- a.SendMessage(context.Background(), "x", crosscomm.TypeText, crosscomm.All) }()
	if err := a.Logout(context.Background()); err != nil {
		t.Error(err)
	}
	if err := testkit.Receive(t, sent); !errors.Is(err, crosscomm.ErrNotConnected) {
		t.Errorf("a send during Logout: %v", err)
	}
}

// Login, Logout, sends and stops from many goroutines at once: for the race
// detector, and no deadlock.
func TestConcurrentLife(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	a := newClient(t, server.addr, "a", crosscomm.Config{})
	ctx := testContext(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				switch i % 4 {
				case 0:
					if err := a.Login(ctx); err != nil && !errors.Is(err, crosscomm.ErrNotConnected) { // a Logout came in between
						t.Error(err)
					}
				case 1:
					_ = a.Logout(ctx)
				case 2:
					_ = a.SendMessage(ctx, "x", crosscomm.TypeText, crosscomm.All)
				case 3:
					remove := a.MessageListener(func(context.Context, *crosscomm.Message) error { return nil }, crosscomm.ListenerOptions{})
					_, _ = a.ListClients(ctx, true)
					remove()
				}
			}
		})
	}
	wg.Wait()
}

// A message sent just before Logout is not lost.
func TestLogoutFlushes(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	onServer := collect(server.Service, crosscomm.ListenerOptions{})
	for i := range 20 {
		c := login(t, server.addr, "brief")
		if err := c.SendMessage(testContext(t), fmt.Sprint(i), crosscomm.TypeText, crosscomm.ServerID); err != nil {
			t.Fatal(err)
		}
		if err := c.Logout(testContext(t)); err != nil {
			t.Fatal(err)
		}
		if m := testkit.Receive(t, onServer); m.Text() != fmt.Sprint(i) {
			t.Fatalf("got %q", m.Text())
		}
	}
}

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

// A client that is taken over knows it, however much it is sending.
func TestReplacedWhileSending(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	for round := range 20 {
		down := make(chan error, 10)
		first := newClient(t, server.addr, "robot", crosscomm.Config{OnDown: func(err error) { down <- err }})
		if err := first.Login(testContext(t)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var sending sync.WaitGroup
		for range 4 {
			sending.Go(func() {
				for ctx.Err() == nil && first.SendMessage(ctx, "chatter", crosscomm.TypeText, crosscomm.ServerID) == nil {
				}
			})
		}
		second := login(t, server.addr, "robot")
		if err := testkit.Receive(t, down); !errors.Is(err, crosscomm.ErrReplaced) {
			t.Fatalf("round %d: OnDown: %v", round, err)
		}
		cancel()
		sending.Wait()
		_ = second.Logout(context.Background())
	}
}

// A server is stopped and started again at once, many times.
func TestRestartAtOnce(t *testing.T) {
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, IP: "127.0.0.1", Port: testkit.FreePort(t), DataDir: t.TempDir()})
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
func TestEchoUnderFlood(t *testing.T) {
	dir := t.TempDir()
	server := startServerAt(t, crosscomm.Config{DataDir: dir, MaxQueuedBytes: 64 << 20}, freeAddr(t))
	up := make(chan bool, 10)
	echo := newClient(t, server.addr, "echo", crosscomm.Config{OnUp: func() { up <- true }})
	began, release := make(chan bool, 1), make(chan struct{})
	echo.MessageListener(func(ctx context.Context, m *crosscomm.Message) error {
		select {
		case began <- true:
		default:
		}
		<-release
		return echo.SendMessage(ctx, "got it", crosscomm.TypeText, crosscomm.ServerID)
	}, crosscomm.ListenerOptions{})
	if err := echo.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, up)
	for range 40 {
		if err := server.SendMessage(testContext(t), strings.Repeat("x", 1_000_000), crosscomm.TypeText, "echo"); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Receive(t, began)
	server.stop()
	startServerAt(t, crosscomm.Config{DataDir: dir}, server.addr)
	close(release)
	testkit.Receive(t, up)
}

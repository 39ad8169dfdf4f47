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

// With RetryLogin the client may be started before the server. The server goes
// away and comes back several times: up and down alternate, sends made while it
// was away arrive once, in order, and the listeners are still there. While the
// link is down a send waits; it ends with the context, or by Logout. Login,
// Logout, sends and stops from many goroutines at once: for the race detector,
// and no deadlock. A message sent just before Logout is not lost.
func TestReconnect(t *testing.T) {
	dir := t.TempDir()
	server := startServerAt(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile)}, freeAddr(t))
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
		server = startServerAt(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile)}, server.addr, func(svc *crosscomm.Service) {
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

func TestEchoUnderFlood(t *testing.T) {
	dir := t.TempDir()
	server := startServerAt(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile), Limits: crosscomm.Limits{QueuedBytes: 64 << 20}}, freeAddr(t))
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
	startServerAt(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile)}, server.addr)
	close(release)
	testkit.Receive(t, up)
}

// Two connections that both repeat their login: one has the id in the end, and
// keeps it.
func TestTwoThatRepeatTheirLogins(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	for round := range 100 {
		peers := []*rawPeer{dialRaw(t, server.addr), dialRaw(t, server.addr)}
		var writing sync.WaitGroup
		for _, p := range peers {
			writing.Go(func() {
				for range 3 {
					_ = p.WriteMessage(websocket.TextMessage, []byte(frameOf("same", "server", "login", "{}")))
				}
			})
		}
		writing.Wait()
		closed := make(chan int, 2)
		for _, p := range peers {
			go func() {
				for {
					if _, _, err := p.next(); err != nil {
						if websocket.IsCloseError(err, crosscomm.CloseReplaced) {
							closed <- 1
						} else {
							closed <- 0
						}
						return
					}
				}
			}()
		}
		if testkit.Receive(t, closed) != 1 {
			t.Fatalf("round %d: none was replaced", round)
		}
		if err := server.SendMessage(testContext(t), "still there", crosscomm.TypeText, "same"); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for _, p := range peers {
			p.Close()
		}
		testkit.Receive(t, closed)
	}
}

// A listener that never returns is removed: the others go on.
func TestRemoveAHungListener(t *testing.T) {
	server := startServer(t, crosscomm.Config{Limits: crosscomm.Limits{QueuedBytes: 64 << 20}})
	c := newClient(t, server.addr, "c", crosscomm.Config{})
	hang := make(chan struct{})
	defer close(hang)
	remove := c.MessageListener(func(context.Context, *crosscomm.Message) error { <-hang; return nil }, crosscomm.ListenerOptions{})
	good := collect(c, crosscomm.ListenerOptions{})
	if err := c.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if err := server.SendMessage(testContext(t), strings.Repeat("x", 900_000), crosscomm.TypeText, "c"); err != nil {
			t.Fatal(err)
		}
	}
	for range 17 {
		testkit.Receive(t, good)
	}
	remove()
	for range 13 {
		testkit.Receive(t, good)
	}
}

package crosscomm_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// within fails if f does not return in that time; it leaves f behind then.
func within(t *testing.T, d time.Duration, what string, f func()) bool {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
		return true
	case <-time.After(d):
		t.Errorf("%s: not done within %v", what, d)
		return false
	}
}

// A Service that was stopped and serves again keeps messages, also if its program sent
// some while it was stopping.
func TestStaleMailbox(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Role, cfg.NoStateFile = crosscomm.Server, true
	for i := range 20 {
		cfg.Queues.Clients = append(cfg.Queues.Clients, fmt.Sprint("away", i))
	}
	svc, err := crosscomm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	serve := func() (addr string, stop func()) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- svc.Serve(ctx, l) }()
		return l.Addr().String(), func() { cancel(); <-done }
	}
	for round := range 30 {
		addr, stop := serve()
		loginRaw(t, addr, "someone").Close()
		ended := make(chan struct{})
		var senders sync.WaitGroup
		for range 2 {
			senders.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-ended:
						return
					default:
					}
					_, _ = svc.Deliver(context.Background(), "x", crosscomm.TypeText, fmt.Sprint("away", i%20), crosscomm.Accepted)
				}
			})
		}
		stop()
		close(ended)
		senders.Wait()
		addr, stop = serve()
		loginRaw(t, addr, "someone").Close()
		for i := range 20 {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			_, err := svc.Deliver(ctx, "y", crosscomm.TypeText, fmt.Sprint("away", i), crosscomm.Accepted)
			cancel()
			if err != nil {
				t.Errorf("round %d, in the second run: %v", round, err)
				stop()
				return
			}
		}
		stop()
	}
}

// Clients that the operator has named stay known.
func TestNamedClientsAreForgotten(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Queues.Clients = []string{"named"}
	cfg.Limits.KnownClients = 3
	server := startServer(t, cfg)
	sender := login(t, server.addr, "sender")
	if err := sender.SendMessage(testContext(t), "1", crosscomm.TypeText, "named", crosscomm.Accepted); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		loginRaw(t, server.addr, fmt.Sprint("visitor", i)).Close()
		testkit.Eventually(t, "it has left", func() bool { return len(server.GetOnlineClients()) == 1 })
	}
	if err := sender.SendMessage(testContext(t), "2", crosscomm.TypeText, "named", crosscomm.Accepted); err != nil {
		t.Errorf("to a client that is named in Queues.Clients, and for which one message waits: %v", err)
	}
}

// What the state file knows of a client for which something waits outlasts a start.
func TestLastSeenIsLost(t *testing.T) {
	cfg := dirConfig(t)
	cfg.StateFile = filepath.Join(t.TempDir(), "state.yaml")
	server := startServer(t, cfg)
	loginRaw(t, server.addr, "away").Close()
	sender := login(t, server.addr, "sender")
	testkit.Eventually(t, "it has left", func() bool { return len(server.GetOnlineClients()) == 1 })
	if err := sender.SendMessage(testContext(t), "1", crosscomm.TypeText, "away", crosscomm.Accepted); err != nil {
		t.Fatal(err)
	}
	seen := func() time.Time {
		for _, c := range server.Clients() {
			if c.ClientID == "away" {
				return c.LastHeartbeat
			}
		}
		t.Fatal("it is not known")
		return time.Time{}
	}
	before := seen()
	server.stop()
	server = startServerAt(t, cfg, server.addr)
	testkit.Eventually(t, "it is back", func() bool { return len(server.GetOnlineClients()) == 1 })
	if after := seen(); after.Sub(before).Abs() > time.Second {
		t.Errorf("it was last seen %v, and after a new start %v", before, after)
		server.stop()
		text, _ := os.ReadFile(cfg.StateFile)
		t.Logf("the state file:\n%s", text)
	}
}

// What a client left undone when it logged out comes when it has logged in again.
func TestLogoutLogin(t *testing.T) {
	server := startServer(t, dirConfig(t))
	sender := login(t, server.addr, "sender")
	receiver := newClient(t, server.addr, "receiver", crosscomm.Config{})
	handled := make(chan string, 100)
	first := make(chan struct{}, 1)
	goOn := make(chan struct{})
	var once sync.Once
	receiver.MessageListener(func(ctx context.Context, m *crosscomm.Message) error {
		stop := false
		once.Do(func() { stop = true })
		if stop {
			first <- struct{}{}
			<-goOn // it does not look at its context
		}
		handled <- m.Text()
		return nil
	}, crosscomm.ListenerOptions{})
	if err := receiver.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := sender.SendMessage(testContext(t), fmt.Sprint(i), crosscomm.TypeText, "receiver", crosscomm.Accepted); err != nil {
			t.Fatal(err)
		}
	}
	<-first
	if !within(t, 20*time.Second, "Logout", func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = receiver.Logout(ctx)
	}) {
		close(goOn)
		return
	}
	if err := receiver.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	go func() {
		told <- sender.SendMessage(testContext(t), "5", crosscomm.TypeText, "receiver", crosscomm.Written)
	}()
	if err := <-told; err != nil { // so all five have come again before
		t.Fatal(err)
	}
	close(goOn)
	var got []string
	for len(got) < 6 {
		got = append(got, testkit.Receive(t, handled))
	}
	if fmt.Sprint(got) != "[0 1 2 3 4 5]" {
		t.Errorf("handled were %v of 0 to 5", got)
	}
}

// All methods may be called concurrently: Deliver with the first Login, too.
func TestDeliverDuringLogin(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	ctx := testContext(t)
	for range 400 {
		c := newClient(t, server.addr, "c", crosscomm.Config{})
		var spin sync.WaitGroup
		for range 4 {
			spin.Go(func() {
				for ctx.Err() == nil {
					_, err := c.Deliver(ctx, "x", crosscomm.TypeText, "server", crosscomm.Accepted)
					if err == nil {
						return
					}
				}
			})
		}
		if err := c.Login(ctx); err != nil {
			t.Fatal(err)
		}
		spin.Wait()
		_ = c.Logout(ctx)
	}
}

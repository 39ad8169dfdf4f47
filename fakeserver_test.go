package crosscomm_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// Servers that do what ours never does.

func TestListClientsOfAMuteServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		c := clientOn(t, network, "c", crosscomm.Config{})
		server := fakeServer(t, network, c, `{"status": "success"}`)
		requests := make(chan string, 100)
		go func() {
			for {
				_, data, err := server.ReadMessage()
				if err != nil {
					return
				}
				if strings.Contains(string(data), "list_clients") {
					requests <- string(data)
				}
			}
		}()
		answer := func(id string) {
			server.write(frameOf("server", "c", "list_clients_response", `"{\"clients\": [{\"client_id\": \"`+id+`\", \"status\": \"online\", \"last_heartbeat\": 1.5, \"login_time\": null}], \"total_count\": 1, \"only_show_online\": true}"`))
		}

		began := time.Now()
		if _, err := c.ListClients(context.Background(), true); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 5*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := c.ListClients(short, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a deadline of its own: %v", err)
		}
		<-requests
		<-requests
		// Answers that nobody waits for are dropped, as is one to another
		// question.
		answer("late")
		answer("later")
		result := make(chan *crosscomm.ClientList, 1)
		ask := func() {
			list, err := c.ListClients(context.Background(), true)
			if err != nil {
				t.Error(err)
			}
			result <- list
		}
		synctest.Wait()
		go ask()
		<-requests
		server.write(frameOf("server", "c", "list_clients_response", `"{\"clients\": [], \"total_count\": 0, \"only_show_online\": false}"`))
		answer("fresh")
		if list := <-result; list == nil || list.Clients[0].ClientID != "fresh" || list.Clients[0].LastHeartbeat.UnixMilli() != 1500 || !list.Clients[0].LoginTime.IsZero() {
			t.Errorf("got %+v", list)
		}
		// One answer lost does no harm to the next call.
		go func() { _, _ = c.ListClients(context.Background(), true) }()
		<-requests
		<-time.After(6 * time.Second)
		go ask()
		<-requests
		answer("next")
		if list := <-result; list == nil || list.Clients[0].ClientID != "next" {
			t.Errorf("got %+v", list)
		}
		// What another client says is not the server's answer, although the
		// original's server relays it.
		go ask()
		<-requests
		server.write(strings.Replace(frameOf("evil", "c", "list_clients_response", `"{\"clients\": []}"`), "null", `"x"`, 1))
		answer("fifth")
		if list := <-result; list == nil || len(list.Clients) != 1 || list.Clients[0].ClientID != "fifth" {
			t.Errorf("got %+v", list)
		}
		if err := c.Logout(context.Background()); err != nil {
			t.Error(err)
		}
		server.Close()
	})
}

// A server whose text is not UTF-8 is left with the code for that.
func TestServerOfBadUTF8(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		c := clientOn(t, network, "c", crosscomm.Config{NoReconnect: true})
		server := fakeServer(t, network, c, `{"status": "success"}`)
		wrote := make(chan error, 1)
		go func() {
			wrote <- server.WriteMessage(websocket.TextMessage, []byte(frameOf("server", "c", "text", "\"\xff\"")))
		}()
		server.closedWith(websocket.CloseInvalidFramePayloadData, "UTF-8")
		if err := <-wrote; err != nil {
			t.Error(err)
		}
		server.Close()
		_ = c.Logout(context.Background())
	})
}

func TestServerThatSaysNo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		c := clientOn(t, network, "c", crosscomm.Config{RetryLogin: true})
		server := fakeServer(t, network, c, `{"status": "wrong password"}`)
		server.Close()
		if err := c.SendMessage(context.Background(), "x", crosscomm.TypeText, crosscomm.All); !errors.Is(err, crosscomm.ErrNotConnected) || !errors.Is(err, crosscomm.ErrLoginRejected) {
			t.Errorf("a send after that: %v", err)
		}
	})
}

// A server that takes each login and drops the link at once is not hammered.
func TestServerThatDropsLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		c := clientOn(t, network, "c", crosscomm.Config{})
		first := fakeServer(t, network, c, `{"status": "success"}`)
		logins := 0
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case conn := <-network.Conns:
					server := &rawPeer{Conn: handshake(t, conn), t: t}
					server.read()
					server.write(frameOf("server", "c", "login_response", `{"status": "success"}`))
					logins++
					server.Close()
				case <-stop:
					return
				}
			}
		}()
		first.Close()
		<-time.After(time.Hour)
		if err := c.Logout(context.Background()); err != nil {
			t.Error(err)
		}
		close(stop)
		<-done
		if logins < 100 || logins > 400 {
			t.Errorf("%d logins in an hour", logins)
		}
	})
}

// A Login ends with its context, or by Logout, and a second one waits for the
// first.
func TestLoginUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, RetryLogin: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("nobody there")
		}})
		if err != nil {
			t.Fatal(err)
		}
		first := make(chan error, 1)
		go func() { first <- c.Login(context.Background()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began := time.Now()
		if err := c.Login(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("the second Login, after %v: %v", time.Since(began), err)
		}
		if err := c.SendMessage(ctx, "x", crosscomm.TypeText, crosscomm.All); !errors.Is(err, crosscomm.ErrNotConnected) {
			t.Errorf("a send meanwhile: %v", err)
		}
		if err := c.Logout(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-first; !errors.Is(err, crosscomm.ErrNotConnected) || !strings.Contains(err.Error(), "logged out") {
			t.Errorf("the first Login: %v", err)
		}
	})
}

// A listener that blocks for minutes: heartbeats go on, and a removed one is
// not called for what waits.
func TestBlockedListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		server, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true})
		a, b := clientOn(t, network, "a", crosscomm.Config{}), clientOn(t, network, "b", crosscomm.Config{})
		release := make(chan struct{})
		calls := 0
		remove := b.MessageListener(func(context.Context, *crosscomm.Message) error {
			calls++
			<-release
			return nil
		}, crosscomm.ListenerOptions{})
		ctx := context.Background()
		for _, c := range []*crosscomm.Service{a, b} {
			if err := c.Login(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			if err := a.SendMessage(ctx, "x", crosscomm.TypeText, "b"); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(10 * time.Minute)
		if got := server.GetOnlineClients(); len(got) != 2 || !b.IsConnected() {
			t.Errorf("online: %v", got)
		}
		remove()
		close(release)
		synctest.Wait()
		if calls != 1 {
			t.Errorf("it was called %d times", calls)
		}
		_ = a.Logout(ctx)
		_ = b.Logout(ctx)
		stop()
	})
}

// The end of a server takes a second at most, whatever the peers do.
func TestStopWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		server, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true})
		asleep := rawOn(t, network, "asleep")
		if err := server.SendMessage(context.Background(), "never read", crosscomm.TypeText, "asleep"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		stop()
		if d := time.Since(began); d > time.Second {
			t.Errorf("it took %v", d)
		}
		asleep.Close()
	})
}

// A panic in a function of the Config is logged, and the next one still runs.
func TestPanicsInCallbacks(t *testing.T) {
	logs := new(logBuffer)
	server := startServer(t, crosscomm.Config{Logger: logs.logger(), OnLogin: func(id string) { panic("in OnLogin") }})
	up := make(chan bool)
	c := newClient(t, server.addr, "c", crosscomm.Config{Logger: logs.logger(), OnUp: func() {
		defer close(up)
		panic("in OnUp")
	}})
	if err := c.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, up)
	testkit.Eventually(t, "both are logged", func() bool {
		return strings.Contains(logs.String(), "in OnLogin") && strings.Contains(logs.String(), "in OnUp")
	})
}

// What a client sends to its own id does not reach its listeners.
func TestOwnMessagesAreNotHeard(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	a := login(t, server.addr, "a")
	onA := collect(a, crosscomm.ListenerOptions{})
	if err := a.SendMessage(testContext(t), "to myself", crosscomm.TypeText, "a"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it came back", func() bool { return server.Stats().Delivered >= 2 }) // the login's answer and this
	if err := server.SendMessage(testContext(t), "after", crosscomm.TypeText, "a"); err != nil {
		t.Fatal(err)
	}
	if m := testkit.Receive(t, onA); m.Text() != "after" {
		t.Errorf("got %q", m.Text())
	}
}

func TestAnyPort(t *testing.T) {
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, IP: "127.0.0.1", Port: crosscomm.AnyPort, NoStateFile: true})
	if err != nil {
		t.Fatal(err)
	}
	if svc.Addr() != nil {
		t.Errorf("before the start: %v", svc.Addr())
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.StartServer(ctx) }()
	testkit.Eventually(t, "it listens", func() bool { return svc.Addr() != nil })
	login(t, svc.Addr().String(), "c")
	cancel()
	if err := testkit.Receive(t, done); err != nil || svc.Addr() != nil {
		t.Errorf("after the end: %v, %v", err, svc.Addr())
	}
}

// A server that sends nonsense all the time does not fill the client's log.
func TestServerOfNonsense(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		logs := new(logBuffer)
		c := clientOn(t, network, "c", crosscomm.Config{Logger: logs.logger()})
		server := fakeServer(t, network, c, `{"status": "success"}`)
		go server.discard()
		for range 100 {
			server.write(`{"nonsense": 1}`)
		}
		synctest.Wait()
		if n := strings.Count(logs.String(), "not understood"); n != 3 {
			t.Errorf("there are %d lines", n)
		}
		if err := c.Logout(context.Background()); err != nil {
			t.Error(err)
		}
		server.Close()
	})
}

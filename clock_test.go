package crosscomm_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// serveOn runs a server on the pipes until stop.
func serveOn(t *testing.T, p *testkit.Pipes, cfg crosscomm.Config) (svc *crosscomm.Service, stop func()) {
	t.Helper()
	cfg.Role = crosscomm.Server
	svc, err := crosscomm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Serve(ctx, p) }()
	return svc, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func clientOn(t *testing.T, p *testkit.Pipes, id string, cfg crosscomm.Config) *crosscomm.Service {
	t.Helper()
	cfg.Role, cfg.ClientID, cfg.DialContext = crosscomm.Client, id, p.Dial
	svc, err := crosscomm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return svc
}

func rawOn(t *testing.T, p *testkit.Pipes, id string) *rawPeer {
	t.Helper()
	conn, _, err := (&websocket.Dialer{NetDialContext: p.Dial}).Dial("ws://server/", nil)
	if err != nil {
		t.Fatal(err)
	}
	peer := &rawPeer{Conn: conn, t: t}
	peer.write(frameOf(id, "server", "login", "{}"))
	if got := peer.read(); !strings.Contains(got, `"login_response"`) {
		t.Fatalf("got %s", got)
	}
	return peer
}

// With the default times: a client that is silent for 60 s is offline, and its
// next sign of life, heartbeat or not, brings it back. A client of ours stays
// online for a day.
func TestHeartbeatTimeout(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		logs := new(logBuffer)
		server, stop := serveOn(t, network, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile), Logger: logs.logger()})
		defer stop()
		raw := rawOn(t, network, "raw")
		defer raw.Close()
		go raw.discard() // and answer pings
		ours := clientOn(t, network, "ours", crosscomm.Config{})
		if err := ours.Login(context.Background()); err != nil {
			t.Fatal(err)
		}
		defer ours.Logout(context.Background())
		online := func(want ...string) {
			t.Helper()
			synctest.Wait()
			if got := server.GetOnlineClients(); !slices.Equal(got, want) {
				t.Fatalf("online: %v, want %v", got, want)
			}
		}
		wait := func(d time.Duration) { <-time.After(d) }
		wait(59 * time.Second)
		online("ours", "raw")
		wait(2 * time.Second)
		online("ours")
		if err := server.SendMessage(context.Background(), "x", crosscomm.TypeText, "raw"); !errors.Is(err, crosscomm.ErrOffline) {
			t.Errorf("to a client that has timed out: %v", err)
		}
		wait(30 * time.Second)
		if !strings.Contains(logs.String(), "a client has timed out") {
			t.Error("nothing was logged")
		}
		raw.write(frameOf("raw", "server", "heartbeat", "{}"))
		online("ours", "raw")
		wait(61 * time.Second)
		online("ours")
		raw.write(frameOf("raw", "nobody", "text", `"any other sign of life"`))
		online("ours", "raw")
		wait(40 * time.Second)
		raw.write("a refused frame is none")
		wait(21 * time.Second)
		online("ours")
		wait(24 * time.Hour)
		online("ours")
	})
}

// A client that has timed out, and does not answer pings either, is closed: after a
// minute of silence it is pinged every half a minute, for a minute.
func TestSilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		_, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true})
		defer stop()
		answering, silent := rawOn(t, network, "answering"), rawOn(t, network, "silent")
		go answering.discard()
		began, pings := time.Now(), 0
		silent.SetPingHandler(func(string) error { pings++; return nil })
		silent.patience = time.Hour
		silent.closedWith(crosscomm.CloseSilent, "no sign of life")
		if d := time.Since(began); d != 2*time.Minute || pings != 2 {
			t.Errorf("after %v and %d pings", d, pings)
		}
		silent.Close()
		<-time.After(time.Hour)
		answering.write(frameOf("answering", "answering", "text", `"still here"`))
		if err := answering.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A server that looks rarely closes nobody whom it has not pinged.
func TestSilentPeerIsPingedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		server, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true, HeartbeatInterval: 5 * time.Minute})
		defer stop()
		answering, silent := rawOn(t, network, "answering"), rawOn(t, network, "silent")
		defer answering.Close()
		defer silent.Close()
		go answering.discard()
		began := time.Now()
		silent.patience = time.Hour
		silent.SetPingHandler(func(string) error { return nil })
		silent.closedWith(crosscomm.CloseSilent, "no sign of life")
		if d := time.Since(began); d != 10*time.Minute {
			t.Errorf("after %v", d)
		}
		<-time.After(time.Hour)
		if n := server.Stats().Connections; n != 1 {
			t.Errorf("there are %d connections, and not that of who answers", n)
		}
	})
}

// Whoever connects and does not log in is closed after 10 s; who has logged in
// and out after a minute.
func TestLoginDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		_, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true})
		patient := rawOn(t, network, "patient")
		patient.write(frameOf("patient", "server", "logout", "{}"))
		conn, _, err := (&websocket.Dialer{NetDialContext: network.Dial}).Dial("ws://server/", nil)
		if err != nil {
			t.Fatal(err)
		}
		silent := &rawPeer{Conn: conn, t: t}
		began := time.Now()
		silent.closedWith(crosscomm.CloseLoginTimeout, "no login within 10s")
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("it took %v", d)
		}
		<-time.After(49 * time.Second)
		patient.write(frameOf("patient", "server", "login", "{}"))
		if got := patient.read(); !strings.Contains(got, "login_response") {
			t.Errorf("got %s", got)
		}
		patient.write(frameOf("patient", "server", "logout", "{}"))
		began = time.Now()
		patient.patience = time.Hour
		patient.closedWith(crosscomm.CloseLoginTimeout, "no login within 1m0s")
		if d := time.Since(began); d != time.Minute {
			t.Errorf("it took %v", d)
		}
		patient.Close()
		silent.Close()
		stop()
	})
}

// A client pings, so that it notices a server that is gone without a word.
func TestClientNoticesADeadServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		defer network.Close()
		down := make(chan time.Time, 1)
		c := clientOn(t, network, "c", crosscomm.Config{NoReconnect: true, OnDown: func(error) { down <- time.Now() }})
		server := fakeServer(t, network, c, `{"status": "success"}`)
		defer server.Close()
		var pings atomic.Int32
		server.SetPingHandler(func(string) error { pings.Add(1); return nil })
		began := time.Now()
		go func() {
			for {
				if _, _, err := server.ReadMessage(); err != nil {
					return
				}
			}
		}()
		if d := (<-down).Sub(began); d != 40*time.Second {
			t.Errorf("it took %v", d)
		}
		if pings.Load() == 0 {
			t.Error("no ping came")
		}
	})
}

// Backoff: random waits under a bound that doubles up to BackoffMax. The server
// is away for an hour.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		_, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true})
		var mu sync.Mutex
		var attempts []time.Time
		current := network
		dial := func(ctx context.Context, nw, addr string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			attempts = append(attempts, time.Now())
			return current.Dial(ctx, nw, addr)
		}
		up := make(chan bool, 10)
		c, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, ClientID: "c", DialContext: dial, OnUp: func() { up <- true }})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Login(context.Background()); err != nil {
			t.Fatal(err)
		}
		<-up
		<-time.After(time.Minute)
		stop()
		lost := time.Now()
		<-time.After(time.Hour)
		mu.Lock()
		last := lost
		var total time.Duration
		for i, at := range attempts[1:] {
			bound := 500 * time.Millisecond << min(i, 10)
			if wait := at.Sub(last); wait > min(bound, 30*time.Second)+time.Millisecond {
				t.Errorf("attempt %d came after %v", i, wait)
			}
			total += at.Sub(last)
			last = at
		}
		n := len(attempts) - 1
		// An hour of waits of 15 s on average; chance may make it a third more
		// or less.
		if n < 160 || n > 360 {
			t.Errorf("%d attempts in %v", n, total)
		}
		current = testkit.NewPipes()
		_, stop = serveOn(t, current, crosscomm.Config{NoStateFile: true})
		mu.Unlock()
		<-up
		// After a link that has lasted the waits begin small again.
		<-time.After(time.Minute)
		mu.Lock()
		attempts = nil
		mu.Unlock()
		stop()
		lost = time.Now()
		<-time.After(time.Minute)
		mu.Lock()
		if wait := attempts[0].Sub(lost); wait > 501*time.Millisecond {
			t.Errorf("the first attempt after a long link came after %v", wait)
		}
		mu.Unlock()
		if err := c.Logout(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// However many log in, the state file is written about once a second, and what it
// says in the end is right.
func TestStateFileIsWrittenRarely(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cross_comm_clients.yaml")
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		_, stop := serveOn(t, network, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile)})
		writes := 0
		var last os.FileInfo
		count := func() {
			info, err := os.Stat(path)
			if err == nil && (last == nil || !os.SameFile(info, last)) {
				writes++
				last = info
			}
		}
		for range 50 {
			p := rawOn(t, network, "c")
			count()
			<-time.After(100 * time.Millisecond)
			count()
			p.Close()
			count()
		}
		if writes < 2 || writes > 7 {
			t.Errorf("%d writes in 5 s", writes)
		}
		stop()
	})
	data, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(data), "status: offline") {
		t.Errorf("the file says %q, %v", data, err)
	}
}

// fakeServer logs the client in by hand, with the answer given, and returns the
// server's end of the connection.
func fakeServer(t *testing.T, network *testkit.Pipes, c *crosscomm.Service, answer string) *rawPeer {
	t.Helper()
	return fakeServerWith(t, network, c, answer)
}

// fakeServerWith is fakeServer for a server that knows the subprotocols.
func fakeServerWith(t *testing.T, network *testkit.Pipes, c *crosscomm.Service, answer string, subprotocols ...string) *rawPeer {
	t.Helper()
	loggedIn := make(chan error, 1)
	go func() { loggedIn <- c.Login(context.Background()) }()
	server := &rawPeer{Conn: handshake(t, <-network.Conns, subprotocols...), t: t}
	if got := server.read(); !strings.Contains(got, `"msg_type":"login"`) {
		t.Fatalf("the first frame is %s", got)
	}
	server.write(frameOf("server", c.ClientID(), "login_response", answer))
	if err := <-loggedIn; (err == nil) != strings.Contains(answer, "success") {
		t.Fatal(err)
	}
	_ = server.SetReadDeadline(time.Time{})
	return server
}

// handshake answers a WebSocket handshake on a bare connection.
func handshake(t *testing.T, conn net.Conn, subprotocols ...string) *websocket.Conn {
	t.Helper()
	upgraded := make(chan *websocket.Conn, 1)
	l := testkit.NewPipes()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := (&websocket.Upgrader{Subprotocols: subprotocols}).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
		}
		upgraded <- c
	})}
	t.Cleanup(func() { srv.Close() })
	go srv.Serve(l)
	l.Conns <- conn
	return <-upgraded
}

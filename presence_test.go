package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// observer collects what a watcher is told.
type observer struct {
	t      testing.TB
	events chan crosscomm.PresenceEvent
	stop   func()
}

func observe(t testing.TB, svc *crosscomm.Service, only ...string) *observer {
	t.Helper()
	o := &observer{t: t, events: make(chan crosscomm.PresenceEvent, 100_000)}
	stop, err := svc.WatchPresence(func(e crosscomm.PresenceEvent) { o.events <- e }, crosscomm.PresenceOptions{ClientIDs: only})
	if err != nil {
		t.Fatal(err)
	}
	o.stop = stop
	return o
}

// next checks what is told next.
func (o *observer) next(kind crosscomm.PresenceKind, id string) crosscomm.PresenceEvent {
	o.t.Helper()
	e := testkit.Receive(o.t, o.events)
	if e.Kind != kind || e.ClientID != id {
		o.t.Fatalf("got %s of %q, want %s of %q", e.Kind, e.ClientID, kind, id)
	}
	return e
}

// nothing checks that nothing more was told. The time must be synctest's.
func (o *observer) nothing() {
	o.t.Helper()
	<-time.After(time.Second)
	synctest.Wait()
	if len(o.events) > 0 {
		o.t.Fatalf("got %+v", <-o.events)
	}
}

// A client and the server are told of all others, in order, plain peers included; a plain
// peer is told of nobody, and may not ask.
func TestPresence(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	began := time.Now().Add(-time.Second)
	local := observe(t, server.Service)
	login(t, server.addr, "a")
	raw := loginRaw(t, server.addr, "raw")
	for _, id := range []string{"a", "raw"} {
		local.next(crosscomm.PresenceJoined, id)
	}

	watcher := login(t, server.addr, "watcher")
	local.next(crosscomm.PresenceJoined, "watcher")
	o, few := observe(t, watcher), observe(t, watcher, "c", "nobody")
	for _, id := range []string{"a", "raw"} {
		if e := o.next(crosscomm.PresenceHere, id); e.Time.Before(began) || e.Time.After(time.Now().Add(time.Second)) {
			t.Errorf("%s is here since %v", id, e.Time)
		}
	}
	second := observe(t, watcher) // of a client that knows already
	second.next(crosscomm.PresenceHere, "a")
	second.next(crosscomm.PresenceHere, "raw")
	all := []*observer{local, o, second}

	c := newClient(t, server.addr, "c", crosscomm.Config{NoReconnect: true})
	if err := c.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for _, o := range append(all, few) {
		o.next(crosscomm.PresenceJoined, "c")
	}
	again := login(t, server.addr, "c")
	for _, o := range append(all, few) {
		o.next(crosscomm.PresenceReplaced, "c")
	}
	refused := server.Stats().Refused
	raw.write(frameOf("raw", "server", "presence_watch", `{"watch": true}`))
	raw.write(frameOf("raw", "raw", "text", `"nothing else came"`))
	if got := raw.read(); !strings.Contains(got, "nothing else came") || server.Stats().Refused != refused+1 {
		t.Errorf("got %s, and %d frames were refused", got, server.Stats().Refused-refused)
	}
	raw.Close()
	for _, o := range all {
		o.next(crosscomm.PresenceLeft, "raw")
	}
	if err := again.Logout(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for _, o := range append(all, few) {
		o.next(crosscomm.PresenceLeft, "c")
	}
	second.stop()
	if err := watcher.Logout(testContext(t)); err != nil {
		t.Fatal(err)
	}
	local.next(crosscomm.PresenceLeft, "watcher")
	if len(second.events)+len(o.events)+len(few.events) > 0 {
		t.Error("more was told than has happened")
	}
}

// Who times out and comes back on the same connection is told of so; also to those who
// begin to watch in between.
func TestPresenceOfTheSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		server, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true})
		defer stop()
		raw := rawOn(t, network, "raw")
		defer raw.Close()
		go raw.discard()
		watcher := clientOn(t, network, "watcher", crosscomm.Config{})
		o := observe(t, watcher) // before the login
		if err := watcher.Login(context.Background()); err != nil {
			t.Fatal(err)
		}
		defer watcher.Logout(context.Background())
		began := time.Now()
		o.next(crosscomm.PresenceHere, "raw")
		o.nothing()
		<-time.After(90 * time.Second)
		if e := o.next(crosscomm.PresenceTimedOut, "raw"); e.Time.Sub(began) < 60*time.Second || e.Time.Sub(began) > 90*time.Second {
			t.Errorf("after %v", e.Time.Sub(began))
		}
		late := observe(t, watcher)
		late.next(crosscomm.PresenceTimedOut, "raw")
		local := observe(t, server, "raw")
		local.next(crosscomm.PresenceTimedOut, "raw")
		raw.write(frameOf("raw", "server", "heartbeat", "{}"))
		sign := time.Now()
		for _, o := range []*observer{o, late, local} {
			if e := o.next(crosscomm.PresenceBack, "raw"); !e.Time.Equal(sign) {
				t.Errorf("at %v, it gave its sign at %v", e.Time, sign)
			}
		}
		now := observe(t, watcher)
		now.next(crosscomm.PresenceHere, "raw")
		<-time.After(90 * time.Second)
		o.next(crosscomm.PresenceTimedOut, "raw")
		raw.write(frameOf("raw", "server", "logout", "{}"))
		o.next(crosscomm.PresenceBack, "raw") // a logout is a sign of life
		o.next(crosscomm.PresenceLeft, "raw")
		o.nothing()
	})
}

// gate is a network of which the connections can be cut, and kept from coming back.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // nil while open
	conn net.Conn
}

func (g *gate) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut != nil {
		select {
		case <-shut:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conn = conn
	return conn, err
}

// cut cuts the connection; none comes until open.
func (g *gate) cut() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	shut := make(chan struct{})
	g.shut = shut
	g.conn.Close()
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.shut = nil
		close(shut)
	}
}

// After a reconnect, a restart of the server, and another Login only what is different is
// told; those who begin to watch while the link is down are told all.
func TestPresenceOverReconnects(t *testing.T) {
	server := startServerAt(t, crosscomm.Config{}, freeAddr(t))
	var g gate
	down := make(chan error, 10)
	watcher := newClient(t, server.addr, "watcher", crosscomm.Config{DialContext: g.dial, OnDown: func(err error) { down <- err }})
	if err := watcher.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	stays, goes := loginRaw(t, server.addr, "stays"), loginRaw(t, server.addr, "goes")
	o := observe(t, watcher)
	o.next(crosscomm.PresenceHere, "goes")
	o.next(crosscomm.PresenceHere, "stays")

	open := g.cut()
	testkit.Receive(t, down)
	goes.Close()
	loginRaw(t, server.addr, "comes")
	testkit.Eventually(t, "one has gone", func() bool { return slices.Equal(server.GetOnlineClients(), []string{"comes", "stays"}) })
	late := observe(t, watcher)
	open()
	o.next(crosscomm.PresenceLeft, "goes")
	o.next(crosscomm.PresenceJoined, "comes")
	late.next(crosscomm.PresenceHere, "comes")
	late.next(crosscomm.PresenceHere, "stays")
	stays.Close()
	o.next(crosscomm.PresenceLeft, "stays")
	late.next(crosscomm.PresenceLeft, "stays")

	server.stop()
	testkit.Receive(t, down)
	server = startServerAt(t, crosscomm.Config{}, server.addr)
	o.next(crosscomm.PresenceLeft, "comes")
	loginRaw(t, server.addr, "comes")
	o.next(crosscomm.PresenceJoined, "comes")

	if err := watcher.Logout(testContext(t)); err != nil {
		t.Fatal(err)
	}
	loginRaw(t, server.addr, "meanwhile")
	if err := watcher.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	o.next(crosscomm.PresenceJoined, "meanwhile")
	o.stop()
	late.stop()
	o = observe(t, watcher)
	o.next(crosscomm.PresenceHere, "comes")
	o.next(crosscomm.PresenceHere, "meanwhile")
}

// plainly takes a server's own wire away, as a proxy may.
func plainly(svc http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Sec-WebSocket-Protocol")
		svc.ServeHTTP(w, r)
	})
}

func TestPresenceOfAPlainServer(t *testing.T) {
	_, web := mountOn(t, crosscomm.Config{}, func(svc http.Handler) *httptest.Server { return httptest.NewServer(plainly(svc)) })
	logs := new(logBuffer)
	c := newClient(t, strings.TrimPrefix(web.URL, "http://"), "c", crosscomm.Config{Logger: logs.logger()})
	early := observe(t, c)
	if err := c.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(logs.String(), "does not speak crosscomm.v3") {
		t.Errorf("the log has %s", logs)
	}
	stop, err := c.WatchPresence(func(crosscomm.PresenceEvent) {}, crosscomm.PresenceOptions{})
	if !errors.Is(err, crosscomm.ErrNoPresence) || stop != nil {
		t.Errorf("got %v", err)
	}
	early.stop()
	if len(early.events) > 0 {
		t.Errorf("got %+v", <-early.events)
	}
}

// A watcher that is slow holds up nobody, and is told at last how everybody is.
func TestSlowPresenceWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		server, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true})
		defer stop()
		watcher := clientOn(t, network, "watcher", crosscomm.Config{})
		if err := watcher.Login(context.Background()); err != nil {
			t.Fatal(err)
		}
		defer watcher.Logout(context.Background())
		release := make(chan struct{})
		told := make([][]crosscomm.PresenceKind, 2)
		for i, svc := range []*crosscomm.Service{watcher, server} {
			stop, err := svc.WatchPresence(func(e crosscomm.PresenceEvent) {
				<-release
				told[i] = append(told[i], e.Kind)
			}, crosscomm.PresenceOptions{ClientIDs: []string{"flaps"}})
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
		}
		o := observe(t, watcher)
		synctest.Wait() // until the server knows
		for range 100 {
			flaps := rawOn(t, network, "flaps")
			o.next(crosscomm.PresenceJoined, "flaps") // who comes and goes at once may not be seen at all
			flaps.Close()
			o.next(crosscomm.PresenceLeft, "flaps")
		}
		stays := rawOn(t, network, "flaps")
		defer stays.Close()
		o.next(crosscomm.PresenceJoined, "flaps")
		close(release)
		synctest.Wait()
		for _, kinds := range told {
			// The one with which it was held up, and two that have waited.
			if !slices.Equal(kinds, []crosscomm.PresenceKind{crosscomm.PresenceJoined, crosscomm.PresenceLeft, crosscomm.PresenceJoined}) {
				t.Errorf("it was told: %v", kinds)
			}
		}
	})
}

// Functions that panic, end their goroutine, stop watching and call methods of the Service.
func TestPresenceWatchersThatMisbehave(t *testing.T) {
	logs := new(logBuffer)
	server := startServer(t, crosscomm.Config{Logger: logs.logger()})
	calls := make(chan string, 10)
	var stop func()
	stop, err := server.WatchPresence(func(e crosscomm.PresenceEvent) {
		calls <- fmt.Sprint(e.ClientID, server.GetOnlineClients())
		if e.ClientID == "c" {
			stop()
			return
		}
		panic("in a watcher")
	}, crosscomm.PresenceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b", "c", "d"} {
		login(t, server.addr, id)
		if id != "d" {
			if got := testkit.Receive(t, calls); !strings.HasPrefix(got, id) || !strings.Contains(got, id+"]") {
				t.Errorf("got %s", got)
			}
		}
	}
	stop() // again
	server.stop()
	if len(calls) > 0 {
		t.Errorf("after stop: %s", <-calls)
	}
	if n := strings.Count(logs.String(), "a function that watches presence panicked"); n != 2 {
		t.Errorf("%d panics are logged", n)
	}
}

// The Stop of a server waits until it is told that all have left.
func TestPresenceAtStop(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	o := observe(t, server.Service)
	loginRaw(t, server.addr, "a")
	loginRaw(t, server.addr, "b")
	server.stop()
	left := 0
	for len(o.events) > 0 {
		if e := <-o.events; e.Kind == crosscomm.PresenceLeft {
			left++
		}
	}
	if left != 2 {
		t.Errorf("%d have left", left)
	}
}

// Whatever happens at once, each watcher is told of each client what can be, and in the end
// what is: who has not joined does not leave, and nobody joins twice.
func TestPresenceIsTrue(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	const clients, watchers = 6, 4
	var mu sync.Mutex
	states := make([]map[string]bool, watchers+1)
	follow := func(i int, svc *crosscomm.Service) (stop func()) {
		mu.Lock()
		states[i] = map[string]bool{}
		mine := states[i]
		mu.Unlock()
		stop, err := svc.WatchPresence(func(e crosscomm.PresenceEvent) {
			mu.Lock()
			defer mu.Unlock()
			if !strings.HasPrefix(e.ClientID, "c") {
				return
			}
			if was := mine[e.ClientID]; was != (e.Kind == crosscomm.PresenceLeft || e.Kind == crosscomm.PresenceReplaced) {
				t.Errorf("watcher %d is told %s of %s, who was there: %t", i, e.Kind, e.ClientID, was)
			}
			mine[e.ClientID] = e.Kind.Online()
		}, crosscomm.PresenceOptions{})
		if err != nil {
			t.Error(err)
		}
		return stop
	}
	follow(watchers, server.Service)
	services := make([]*crosscomm.Service, watchers)
	for i := range services {
		services[i] = login(t, server.addr, fmt.Sprint("watcher ", i))
	}
	var coming, watching sync.WaitGroup
	for i := range clients {
		for range 2 { // for one id, which they take from each other
			coming.Go(func() {
				for range 30 {
					p := loginRaw(t, server.addr, fmt.Sprint("c", i))
					if rand.IntN(2) == 0 {
						_ = p.WriteMessage(websocket.TextMessage, []byte(frameOf(p.id, "server", "logout", "{}")))
					}
					if rand.IntN(4) > 0 {
						p.Close()
					}
				}
			})
		}
	}
	done := make(chan struct{})
	for i, svc := range services {
		watching.Go(func() {
			for stop := follow(i, svc); ; stop = follow(i, svc) {
				select {
				case <-done:
					return
				case <-time.After(time.Duration(rand.IntN(100)) * time.Millisecond):
				}
				if i > 0 {
					stop()
				}
				if i == 0 {
					<-done
					return
				}
			}
		})
	}
	coming.Wait()
	close(done)
	watching.Wait()
	testkit.Eventually(t, "all know who is there", func() bool {
		online := slices.DeleteFunc(server.GetOnlineClients(), func(id string) bool { return !strings.HasPrefix(id, "c") })
		mu.Lock()
		defer mu.Unlock()
		for _, state := range states {
			var told []string
			for id, is := range state {
				if is {
					told = append(told, id)
				}
			}
			slices.Sort(told)
			if !slices.Equal(told, online) {
				return false
			}
		}
		return true
	})
}

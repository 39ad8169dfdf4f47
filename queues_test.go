package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// tracked is a frame with a receipt.
func tracked(from, to, id, text, stage string) string {
	return strings.NewReplacer(`"m1"`, `"`+id+`"`, `null}`, `null, "headers": {"delivery": "`+stage+`"}}`).Replace(frameOf(from, to, "text", `"`+text+`"`))
}

// readType reads until there is a frame of the type.
func (p *rawPeer) readType(msgType string) string {
	p.t.Helper()
	for {
		if text := p.read(); strings.Contains(text, `"msg_type":"`+msgType+`"`) || strings.Contains(text, `"msg_type": "`+msgType+`"`) {
			return text
		}
	}
}

// A message that comes again, on the same link or another one, is not relayed again, and
// its sender is told once more what he was told.
func TestRepetitions(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	sender, receiver := agreedPeer(t, server.addr, "sender"), login(t, server.addr, "receiver")
	got := collect(receiver, crosscomm.ListenerOptions{})
	for i := range 3 {
		sender.write(tracked("sender", "receiver", "one", "1", "handled"))
		sender.write(tracked("sender", "nobody", "two", "2", "handled"))
		all := sender.readType("receipt")
		for !strings.Contains(all, `"handled":["one"]`) || !strings.Contains(all, `"msg_id":"two","error":"unknown_client"`) {
			all += sender.readType("receipt")
		}
		if i == 1 {
			sender = agreedPeer(t, server.addr, "sender") // takes over
		}
	}
	sender.write(tracked("sender", "receiver", "three", "3", "handled"))
	sender.readType("receipt")
	for _, want := range []string{"1", "3"} {
		if m := <-got; m.Text() != want {
			t.Errorf("got %s, want %s", m.Text(), want)
		}
	}
}

// Our client reports what comes again, and does not handle it again.
func TestRepetitionsAtAClient(t *testing.T) {
	server := startServer(t, dirConfig(t))
	receiver := agreedPeer(t, server.addr, "receiver")
	sender := login(t, server.addr, "sender")
	told := make(chan error, 1)
	go func() {
		told <- sender.SendMessage(context.Background(), "x", crosscomm.TypeText, "receiver", crosscomm.Handled)
	}()
	first := receiver.readType("text")
	receiver.Close() // without a report
	ours := newClient(t, server.addr, "receiver", crosscomm.Config{})
	got := collect(ours, crosscomm.ListenerOptions{})
	if err := ours.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-told; err != nil {
		t.Error(err)
	}
	if m := <-got; !strings.Contains(first, m.MsgID) {
		t.Errorf("first %s, then %s", first, m.Frame())
	}
	// The sender's own repetition goes by another way, as after a new start of the
	// server: the client knows it.
	forger := agreedPeer(t, server.addr, "forger")
	for range 2 {
		forger.write(tracked("forger", "receiver", "again", "y", "accepted"))
		forger.readType("receipt")
		forger.Close()
		server.stop()
		server = startServerAt(t, dirConfig(t), server.addr)
		testkit.Eventually(t, "the receiver is back", func() bool { return len(server.GetOnlineClients()) == 2 })
		forger = agreedPeer(t, server.addr, "forger")
	}
	if err := sender.SendMessage(testContext(t), "z", crosscomm.TypeText, "receiver", crosscomm.Handled); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"y", "z"} {
		if m := <-got; m.Text() != want {
			t.Errorf("got %s, want %s", m.Text(), want)
		}
	}
}

// Without a disk a lost link fails what was not reported, and nothing is silent.
func TestLostLinkWithoutDisk(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	sender, receiver := login(t, server.addr, "sender"), agreedPeer(t, server.addr, "receiver")
	told := make(chan error, 1)
	go func() {
		told <- sender.SendMessage(context.Background(), "x", crosscomm.TypeText, "receiver", crosscomm.Handled)
	}()
	receiver.readType("text")
	receiver.Close()
	if err := <-told; !errors.Is(err, crosscomm.ErrOffline) {
		t.Error(err)
	}
}

// A plain peer that answers no ping gets what there is room for, again when it comes
// again, and nothing is lost.
func TestPlainPeerWithoutPongs(t *testing.T) {
	server := startServer(t, dirConfig(t))
	sender := login(t, server.addr, "sender")
	const messages = 500
	plain := loginRaw(t, server.addr, "plain")
	plain.SetPingHandler(func(string) error { return nil })
	for i := range messages {
		if err := sender.SendMessage(testContext(t), fmt.Sprint(i), crosscomm.TypeText, "plain", crosscomm.Accepted); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		if got := plain.readType("text"); !strings.Contains(got, fmt.Sprintf(`"content":"%d"`, i)) {
			t.Fatalf("message %d is %s", i, got)
		}
	}
	plain = loginRaw(t, server.addr, "plain") // takes over
	for i := range messages {
		if got := plain.readType("text"); !strings.Contains(got, fmt.Sprintf(`"content":"%d"`, i)) {
			t.Fatalf("message %d is %s", i, got)
		}
	}
}

// The oldest are dropped for newer ones, and for their age, and their senders are told.
func TestQueueLimits(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Queues = crosscomm.Queues{MaxMessages: 10, Clients: []string{"away"}}
	server := startServer(t, cfg)
	sender := login(t, server.addr, "sender")
	told := make(chan error, 2)
	for n, svc := range []*crosscomm.Service{sender, server.Service} {
		go func() {
			told <- svc.SendMessage(testContext(t), "oldest", crosscomm.TypeText, "away", crosscomm.Handled)
		}()
		testkit.Eventually(t, "it waits", func() bool { return server.Stats().Kept == uint64(n+1) })
	}
	for i := range 10 {
		if err := sender.SendMessage(testContext(t), fmt.Sprint(i), crosscomm.TypeText, "away", crosscomm.Accepted); err != nil {
			t.Fatal(err)
		}
	}
	for range cap(told) {
		if err := <-told; !errors.Is(err, crosscomm.ErrExpired) {
			t.Error(err)
		}
	}
	if n := server.Stats().Expired; n != 2 {
		t.Errorf("%d have expired", n)
	}
	away := loginRaw(t, server.addr, "away")
	for i := range 10 {
		if got := away.readType("text"); !strings.Contains(got, fmt.Sprintf(`"content":"%d"`, i)) {
			t.Fatalf("message %d is %s", i, got)
		}
	}
}

func TestQueuedBroadcasts(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Queues = crosscomm.Queues{Broadcasts: true, Clients: []string{"away"}}
	server := startServer(t, cfg)
	sender := login(t, server.addr, "sender")
	if err := sender.SendMessage(testContext(t), "1", crosscomm.TypeText, crosscomm.All); err != nil {
		t.Fatal(err)
	}
	if r, err := sender.Deliver(testContext(t), "2", crosscomm.TypeText, crosscomm.All, crosscomm.Handled); err != nil || r.Receivers != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := server.SendMessage(testContext(t), "3", crosscomm.TypeText, crosscomm.All); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Deliver(testContext(t), "4", crosscomm.TypeText, crosscomm.All, crosscomm.Accepted); err != nil {
		t.Fatal(err)
	}
	away := loginRaw(t, server.addr, "away")
	for _, want := range []string{"1", "2", "3", "4"} {
		if got := away.readType("text"); !strings.Contains(got, `"content":"`+want+`"`) {
			t.Errorf("got %s", got)
		}
	}
}

// What the server itself sends to all waits like what others do.
func TestOwnQueuedBroadcasts(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Queues = crosscomm.Queues{Broadcasts: true, Clients: []string{"away"}}
	server := startServer(t, cfg)
	there := loginRaw(t, server.addr, "there")
	go there.discard()
	if err := server.SendMessage(testContext(t), "1", crosscomm.TypeText, crosscomm.All); err != nil {
		t.Fatal(err)
	}
	if r, err := server.Deliver(testContext(t), "2", crosscomm.TypeText, crosscomm.All, crosscomm.Written); err != nil || r.Receivers != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	away := loginRaw(t, server.addr, "away")
	away.patience = 5 * time.Second
	for _, want := range []string{"1", "2"} {
		if got := away.readType("text"); !strings.Contains(got, `"content":"`+want+`"`) {
			t.Errorf("got %s", got)
		}
	}
}

// A client that comes or goes while a message to all is on its way gets that.
func TestLoginDuringBroadcasts(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Queues = crosscomm.Queues{Broadcasts: true, Clients: []string{"guest"}}
	server := startServer(t, cfg)
	for i := range 200 {
		p := loginRaw(t, server.addr, fmt.Sprint("idle", i))
		go p.discard()
	}
	guest := loginRaw(t, server.addr, "guest")
	sender := login(t, server.addr, "sender")
	ctx, cancel := context.WithCancel(testContext(t))
	var sending sync.WaitGroup
	sending.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_ = sender.SendMessage(ctx, fmt.Sprint(i), crosscomm.TypeText, crosscomm.All)
		}
	})
	defer sending.Wait()
	defer cancel()
	next := 0
	for range 200 {
		// On one connection, so that nothing is lost with it.
		guest.write(frameOf("guest", "server", "logout", "{}"))
		guest.write(frameOf("guest", "server", "login", "{}"))
		for range 10 {
			_, text, _ := strings.Cut(guest.readType("text"), `"content":"`)
			var n int
			if _, err := fmt.Sscanf(text, "%d", &n); err != nil || n > next {
				t.Fatalf("%d comes before %d, %v", n, next, err)
			}
			next = max(next, n+1) // some come again
		}
	}
}

// With Unread, what went to a connection from which nothing is read any more, and of which
// nobody has noticed yet, comes on the next one: from plain senders and the server itself.
func TestUnreadComesAgain(t *testing.T) {
	for name, join := range map[string]func(testing.TB, string, string) *rawPeer{"plain": loginRaw, "agreed": agreedPeer} {
		t.Run(name, func(t *testing.T) {
			cfg := dirConfig(t)
			cfg.Queues.Unread = true
			server := startServer(t, cfg)
			desk := loginRaw(t, server.addr, "desk")
			join(t, server.addr, "phone") // in the lift
			for i := range 10 {
				if i%2 == 0 {
					desk.write(frameOf("desk", "phone", "text", fmt.Sprint(`"`, i, `"`)))
				} else if err := server.SendMessage(testContext(t), fmt.Sprint(i), crosscomm.TypeText, "phone"); err != nil {
					t.Fatal(err)
				}
				testkit.Eventually(t, "it is kept", func() bool { return server.Stats().Kept == uint64(i+1) })
			}
			phone := join(t, server.addr, "phone")
			desk.write(frameOf("desk", "phone", "text", `"10"`))
			for i := range 11 {
				if got := strings.ReplaceAll(phone.readType("text"), `": "`, `":"`); !strings.Contains(got, fmt.Sprintf(`"content":"%d"`, i)) {
					t.Fatalf("message %d is %s", i, got)
				}
			}
		})
	}
}

// startImpatient starts a server that takes those who are silent for 100 ms as away, and a
// client of it that is not.
func startImpatient(t *testing.T) (server *testServer, sender *crosscomm.Service) {
	t.Helper()
	cfg := dirConfig(t)
	cfg.HeartbeatInterval, cfg.HeartbeatTimeout = 20*time.Millisecond, 100*time.Millisecond
	server = startServer(t, cfg)
	sender = newClient(t, server.addr, "sender", crosscomm.Config{HeartbeatInterval: 10 * time.Millisecond})
	if err := sender.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	return server, sender
}

// texts reads all that comes, and answers pings.
func (p *rawPeer) texts() <-chan string {
	texts := make(chan string, 100)
	go func() {
		defer close(texts)
		for {
			_, data, err := p.ReadMessage()
			if err != nil {
				return
			}
			texts <- string(data)
		}
	}()
	return texts
}

// What is sent to a client that is silent waits, and comes on the same connection when it
// gives a sign of life.
func TestSilentClientsQueue(t *testing.T) {
	server, sender := startImpatient(t)
	silent := loginRaw(t, server.addr, "silent")
	texts := silent.texts()
	testkit.Eventually(t, "it has timed out", func() bool { return len(server.GetOnlineClients()) == 1 })
	for i := range 10 {
		if err := sender.SendMessage(testContext(t), fmt.Sprint(i), crosscomm.TypeText, "silent", crosscomm.Accepted); err != nil {
			t.Fatal(err)
		}
	}
	if len(texts) > 0 {
		t.Errorf("it got %s", <-texts)
	}
	if err := silent.WriteMessage(websocket.TextMessage, []byte(frameOf("silent", "server", "heartbeat", "{}"))); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if got := testkit.Receive(t, texts); !strings.Contains(got, fmt.Sprintf(`"content":"%d"`, i)) {
			t.Errorf("message %d is %s", i, got)
		}
	}
}

// A client that was silent while it works on a message gets what has waited meanwhile
// when it gives a sign of life, and not only when that message is done.
func TestSilentClientAtWork(t *testing.T) {
	server, sender := startImpatient(t)
	silent := agreedPeer(t, server.addr, "silent")
	texts := silent.texts()
	send := func(text string) {
		if err := sender.SendMessage(testContext(t), text, crosscomm.TypeText, "silent", crosscomm.Accepted); err != nil {
			t.Fatal(err)
		}
	}
	send("long work")
	testkit.Receive(t, texts)
	testkit.Eventually(t, "it has timed out", func() bool { return len(server.GetOnlineClients()) == 1 })
	send("meanwhile")
	silent.write(frameOf("silent", "server", "heartbeat", "{}"))
	if got := testkit.Receive(t, texts); !strings.Contains(got, "meanwhile") { // before it has reported the first one
		t.Errorf("got %s", got)
	}
}

// A server that is stopped and started again, by the same Service, has what it had.
func TestQueuesOutlastStop(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Queues.Clients = []string{"away"}
	server := startServer(t, cfg)
	sender := login(t, server.addr, "sender")
	for i := range 3 {
		for n := range 10 {
			if err := sender.SendMessage(testContext(t), fmt.Sprint(10*i+n), crosscomm.TypeText, "away", crosscomm.Accepted); err != nil {
				t.Fatal(err)
			}
		}
		server.stop()
		server = startServerAt(t, cfg, server.addr)
	}
	away := newClient(t, server.addr, "away", crosscomm.Config{})
	got := collect(away, crosscomm.ListenerOptions{})
	if err := away.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if m := <-got; m.Text() != fmt.Sprint(i) {
			t.Errorf("message %d is %s", i, m.Text())
		}
	}
}

func TestNoReceiptsOfAPlainServer(t *testing.T) {
	server := startPlainServer(t)
	c := login(t, server, "c")
	r, err := c.Deliver(testContext(t), "x", crosscomm.TypeText, "d", crosscomm.Accepted)
	if !errors.Is(err, crosscomm.ErrNoReceipts) || r.MsgID == "" || r.Reached != crosscomm.Sent {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := c.Request(testContext(t), "x", crosscomm.TypeText, "d"); !errors.Is(err, crosscomm.ErrNoReply) {
		t.Error(err)
	}
}

// When a plain server takes the place of ours it gets what was not answered, and what has
// waited until it could be sent, as it may look there.
func TestServerBecomesPlain(t *testing.T) {
	const messages = 1_001 // one more than go ahead of their receipts
	plain := make(chan struct{})
	frames := make(chan string, messages+1)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upgrader, isPlain := websocket.Upgrader{Subprotocols: []string{"crosscomm.v3"}}, false
		select {
		case <-plain:
			upgrader.Subprotocols, isPlain = nil, true
		default:
		}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for n := 0; ; {
			_, data, err := conn.ReadMessage()
			if err != nil {
				return
			}
			switch text := string(data); {
			case strings.Contains(text, `"login"`):
				_ = conn.WriteMessage(websocket.TextMessage, []byte(frameOf("server", "c", "login_response", `{"status": "success"}`)))
			case !strings.Contains(text, `"text"`):
			case isPlain:
				frames <- text
			default:
				if n++; n == 1_000 {
					close(plain)
					return
				}
			}
		}
	}))
	t.Cleanup(web.Close)
	c := login(t, web.Listener.Addr().String(), "c")
	requested, told := make(chan error, 1), make(chan error, messages)
	go func() {
		_, err := c.Request(testContext(t), "request", crosscomm.TypeText, "d")
		requested <- err
	}()
	for range messages {
		go func() { told <- c.SendMessage(testContext(t), "order", crosscomm.TypeText, "d", crosscomm.Handled) }()
	}
	for range messages {
		if err := testkit.Receive(t, told); !errors.Is(err, crosscomm.ErrNoReceipts) {
			t.Fatal(err)
		}
		if text := testkit.Receive(t, frames); !strings.Contains(text, "order") || strings.Contains(text, "headers") {
			t.Fatalf("it gets %s", text)
		}
	}
	if err := testkit.Receive(t, requested); !errors.Is(err, crosscomm.ErrNoReply) {
		t.Error(err)
	}
}

// startPlainServer starts a server that speaks only the original's wire, and answers
// logins and nothing else.
func startPlainServer(t *testing.T) (addr string) {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			_, data, err := conn.ReadMessage()
			if err != nil {
				return
			}
			if strings.Contains(string(data), `"login"`) {
				_ = conn.WriteMessage(websocket.TextMessage, []byte(frameOf("server", "c", "login_response", `{"status": "success"}`)))
			}
		}
	}))
	t.Cleanup(web.Close)
	return web.Listener.Addr().String()
}

package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// fillWindow sends as many messages as a receiver is sent ahead of its reports, and one
// more, which waits on disk.
func fillWindow(t *testing.T, server *testServer, to string) {
	t.Helper()
	filler := agreedPeer(t, server.addr, "filler")
	for i := range 1001 {
		filler.write(tracked("filler", to, fmt.Sprint("id", i), fmt.Sprint(i), "accepted"))
	}
	testkit.Eventually(t, "the last one waits on disk", func() bool { return server.Stats().Kept == 1001 })
	filler.Close()
	testkit.Eventually(t, "the filler is gone", func() bool { return !slices.Contains(server.GetOnlineClients(), "filler") })
}

// The server must not stop while a client that has a backlog, whose senders wait for
// more than accepted, logs in again and again.
func TestLoginsDuringLoad(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Queues.Clients = []string{"away"}
	server := startServer(t, cfg)
	sender := agreedPeer(t, server.addr, "sender")
	const messages = 20_000
	go func() {
		for {
			if _, _, err := sender.ReadMessage(); err != nil {
				return
			}
		}
	}()
	for i := range messages {
		sender.write(tracked("sender", "away", fmt.Sprint("id", i), fmt.Sprint(i), "handled"))
	}
	testkit.Eventually(t, "all wait", func() bool { return server.Stats().Kept == messages })
	within(t, 30*time.Second, "logins", func() {
		dialer := websocket.Dialer{Subprotocols: []string{"crosscomm.v3"}}
		for i := range 300 {
			conn, _, err := dialer.Dial("ws://"+server.addr+"/", nil)
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			_ = conn.WriteMessage(websocket.TextMessage, []byte(frameOf("away", "server", "login", "{}")))
			for {
				_, data, err := conn.ReadMessage()
				if err != nil {
					t.Errorf("login %d is not answered: %v", i, err)
					_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
					os.Exit(1)
				}
				if strings.Contains(string(data), `"text"`) {
					break
				}
			}
			go func() { defer conn.Close(); _, _ = io.Copy(io.Discard, conn.NetConn()) }()
		}
	})
}

// A broadcast with a stage ends, also if one of its receivers has letters on disk.
func TestBroadcastBehindDisk(t *testing.T) {
	server := startServer(t, dirConfig(t))
	sender := login(t, server.addr, "sender")
	slow := agreedPeer(t, server.addr, "slow")
	fillWindow(t, server, "slow")
	type result struct {
		r   crosscomm.Receipt
		err error
	}
	told := make(chan result, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	go func() {
		r, err := sender.Deliver(ctx, "to all", crosscomm.TypeText, crosscomm.All, crosscomm.Handled)
		told <- result{r, err}
	}()
	testkit.Eventually(t, "it waits on disk", func() bool { return server.Stats().Kept == 1002 })
	n := 0
	for {
		text := slow.readType("text")
		n++
		slow.write(frameOf("slow", "server", "report", fmt.Sprintf(`{"received": %d, "handled": [[%d, %d]]}`, n, n, n)))
		if strings.Contains(text, "to all") {
			break
		}
	}
	if r := <-told; r.err != nil || r.r.Handled != 1 {
		t.Errorf("the receiver has handled and reported it, and the sender is told: %+v, %v", r.r, r.err)
	}
}

// The sender of a broadcast is told of a receiver for which it was dropped from the queue.
func TestBroadcastDroppedFromTheQueue(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Queues.MaxMessages = 8
	server := startServer(t, cfg)
	sender := login(t, server.addr, "sender")
	agreedPeer(t, server.addr, "slow") // reports nothing
	send := func(text string) {
		if err := sender.SendMessage(testContext(t), text, crosscomm.TypeText, "slow", crosscomm.Accepted); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		send(strings.Repeat("x", 900_000)) // the last one waits
	}
	told := make(chan crosscomm.Receipt, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r, err := sender.Deliver(ctx, "to all", crosscomm.TypeText, crosscomm.All, crosscomm.Handled)
		if err != nil {
			t.Error(err)
		}
		told <- r
	}()
	testkit.Eventually(t, "it waits", func() bool { return server.Stats().Kept == 6 })
	for i := range 8 {
		send(fmt.Sprint(i))
	}
	if r := <-told; r.Receivers != 1 || r.Failed != 1 {
		t.Errorf("%+v", r)
	}
}

// What the server itself sends to all does not overtake what it has sent to one.
func TestOwnBroadcastBehindDisk(t *testing.T) {
	server := startServer(t, dirConfig(t))
	slow := agreedPeer(t, server.addr, "slow")
	fillWindow(t, server, "slow")
	if err := server.SendMessage(testContext(t), "to one", crosscomm.TypeText, "slow"); err != nil {
		t.Fatal(err)
	}
	if err := server.SendMessage(testContext(t), "to all", crosscomm.TypeText, crosscomm.All); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 1001; n++ {
		slow.readType("text")
		slow.write(frameOf("slow", "server", "report", fmt.Sprintf(`{"received": %d, "handled": [[%d, %d]]}`, n, n, n)))
	}
	for _, want := range []string{"to one", "to all"} {
		if got := slow.readType("text"); !strings.Contains(got, want) {
			t.Errorf("got %s in place of %q", got, want)
		}
	}
}

// Messages to all with a receipt wait behind others up to a number only: of each something
// stays in memory.
func TestManyBroadcastsBehindDisk(t *testing.T) {
	server := startServer(t, dirConfig(t))
	slow := agreedPeer(t, server.addr, "slow")
	go slow.discard() // and reports nothing
	fillWindow(t, server, "slow")
	sender := agreedPeer(t, server.addr, "sender")
	sender.patience = 15 * time.Second
	for i := range 1001 {
		sender.write(tracked("sender", "all", fmt.Sprint("all", i), "x", "written"))
	}
	if got := sender.readType("receipt"); !strings.Contains(got, `"msg_id":"all1000","receivers":1,"accepted":0,"written":0,"handled":0,"failed":1`) {
		t.Errorf("got %s", got)
	}
}

// A request without a deadline, for a receiver that is there, is not expired because
// others were in front of it.
func TestRequestBehindDisk(t *testing.T) {
	server := startServer(t, dirConfig(t))
	sender := login(t, server.addr, "sender")
	slow := agreedPeer(t, server.addr, "slow")
	fillWindow(t, server, "slow")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	told := make(chan error, 1)
	go func() {
		_, err := sender.Request(ctx, "request", crosscomm.TypeText, "slow")
		told <- err
	}()
	testkit.Eventually(t, "it waits", func() bool { return server.Stats().Kept == 1002 })
	go func() {
		n := 0
		for {
			_, data, err := slow.ReadMessage()
			if err != nil {
				return
			}
			if !strings.Contains(string(data), `"text"`) {
				continue
			}
			n++
			_ = slow.WriteMessage(websocket.TextMessage, []byte(frameOf("slow", "server", "report", fmt.Sprintf(`{"received": %d, "handled": [[%d, %d]]}`, n, n, n))))
			if strings.Contains(string(data), "request") {
				cancel()
			}
		}
	}()
	if err := <-told; !errors.Is(err, context.Canceled) {
		t.Errorf("a request without a time, which has come and was cancelled then: %v", err)
	}
}

// A request that is cancelled while it waits behind others is not carried out.
func TestCancelledBehindDisk(t *testing.T) {
	for _, who := range []string{"a client", "the server"} {
		t.Run(who, func(t *testing.T) {
			server := startServer(t, dirConfig(t))
			caller := server.Service
			if who == "a client" {
				caller = login(t, server.addr, "caller")
			}
			slow := agreedPeer(t, server.addr, "slow")
			fillWindow(t, server, "slow")
			ctx, cancel := context.WithCancel(t.Context())
			told := make(chan error, 1)
			go func() {
				_, err := caller.Request(ctx, "request", crosscomm.TypeText, "slow")
				told <- err
			}()
			testkit.Eventually(t, "it waits", func() bool { return server.Stats().Kept == 1002 })
			cancel()
			if err := testkit.Receive(t, told); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			// The server has it behind the cancellation.
			if err := caller.SendMessage(testContext(t), "after it", crosscomm.TypeText, "slow", crosscomm.Accepted); err != nil {
				t.Fatal(err)
			}
			for n := 1; ; n++ {
				text := slow.readType("text")
				if strings.Contains(text, `"request":true`) {
					t.Error("the request has come")
				}
				if strings.Contains(text, "after it") {
					return
				}
				slow.write(frameOf("slow", "server", "report", fmt.Sprintf(`{"received": %d, "handled": [[%d, %d]]}`, n, n, n)))
			}
		})
	}
}

// What waits only because others are in front of it has failed when it is dropped for
// newer messages.
func TestDroppedBehindDisk(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Queues.MaxMessages = 10
	server := startServer(t, cfg)
	caller := login(t, server.addr, "caller")
	agreedPeer(t, server.addr, "slow")
	fillWindow(t, server, "slow")
	requested, told := make(chan error, 1), make(chan crosscomm.Receipt, 1)
	go func() {
		_, err := caller.Request(testContext(t), "request", crosscomm.TypeText, "slow")
		requested <- err
	}()
	go func() {
		r, _ := caller.Deliver(testContext(t), "to all", crosscomm.TypeText, crosscomm.All, crosscomm.Handled)
		told <- r
	}()
	testkit.Eventually(t, "both wait on disk", func() bool { return server.Stats().Kept == 1003 })
	for range 10 {
		if err := caller.SendMessage(testContext(t), "newer", crosscomm.TypeText, "slow", crosscomm.Accepted); err != nil {
			t.Fatal(err)
		}
	}
	if err := testkit.Receive(t, requested); !errors.Is(err, crosscomm.ErrExpired) {
		t.Errorf("the request: %v", err)
	}
	if r := testkit.Receive(t, told); r.Receivers != 1 || r.Failed != 1 {
		t.Errorf("the message to all: %+v", r)
	}
}

// A request that waited behind others when the server was killed is not for the next one:
// it comes too late.
func TestRequestOfAKilledServer(t *testing.T) {
	cfg := dirConfig(t)
	server := startServer(t, cfg)
	caller := login(t, server.addr, "caller")
	agreedPeer(t, server.addr, "slow")
	fillWindow(t, server, "slow")
	go func() { _, _ = caller.Request(testContext(t), "request", crosscomm.TypeText, "slow") }()
	testkit.Eventually(t, "it waits", func() bool { return server.Stats().Kept == 1002 })
	file, err := os.ReadFile(filepath.Join(cfg.DataDir, "queues.db")) // as a kill would leave it
	if err != nil {
		t.Fatal(err)
	}
	cfg = dirConfig(t)
	if err := os.WriteFile(filepath.Join(cfg.DataDir, "queues.db"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	next := startServer(t, cfg)
	slow := agreedPeer(t, next.addr, "slow")
	if err := next.SendMessage(testContext(t), "newer", crosscomm.TypeText, "slow"); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 1001; n++ {
		slow.readType("text")
		slow.write(frameOf("slow", "server", "report", fmt.Sprintf(`{"received": %d, "handled": [[%d, %d]]}`, n, n, n)))
	}
	if got := slow.readType("text"); !strings.Contains(got, "newer") {
		t.Errorf("it gets %s", got)
	}
}

// Receivers that report nothing do not take the room of those that do.
func TestHungReceiversTakeAllRoom(t *testing.T) {
	var cfg crosscomm.Config
	cfg.Limits.QueuedBytes, cfg.Limits.TotalQueuedBytes = 1<<20, 4<<20
	server := startServer(t, cfg)
	sender := login(t, server.addr, "sender")
	login(t, server.addr, "good")
	raw := agreedPeer(t, server.addr, "raw")
	go raw.discard()
	for i := range 5 {
		p := agreedPeer(t, server.addr, fmt.Sprint("hung", i)) // reads, and reports nothing
		go p.discard()
		for j := range 20 {
			raw.write(tracked("raw", p.id, fmt.Sprint(i, "_", j), strings.Repeat("x", 50_000), "accepted"))
		}
	}
	p := agreedPeer(t, server.addr, "hung5")
	go p.discard()
	for j := range 300 {
		raw.write(tracked("raw", p.id, fmt.Sprint("last_", j), strings.Repeat("x", max(1, 50_000>>(j/20))), "accepted"))
	}
	testkit.Eventually(t, "all have come", func() bool { return server.Stats().Received >= 400 })
	if err := sender.SendMessage(testContext(t), "x", crosscomm.TypeText, "good", crosscomm.Accepted); err != nil {
		t.Errorf("for a receiver that is owed nothing: %v", err)
	}
}

// heap returns how many bytes are in use.
func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools have is gone only by the second time
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// What is on disk is not in memory, too, while receivers that have got it do not report it.
func TestUnreportedIsNotInMemory(t *testing.T) {
	const clients, size = 24, 400_000
	cfg := dirConfig(t)
	cfg.Limits.TotalQueuedBytes = 4 << 20
	for i := range clients {
		cfg.Queues.Clients = append(cfg.Queues.Clients, fmt.Sprint("away", i))
	}
	server := startServer(t, cfg)
	sender := agreedPeer(t, server.addr, "sender")
	for i := range clients {
		sender.write(tracked("sender", fmt.Sprint("away", i), fmt.Sprint(i), strings.Repeat("x", size), "accepted"))
	}
	testkit.Eventually(t, "all wait", func() bool { return server.Stats().Kept == clients })
	before := heap()
	for i := range clients {
		agreedPeer(t, server.addr, fmt.Sprint("away", i)).readType("text")
	}
	testkit.Eventually(t, "it is in use no more", func() bool { return heap()-before < 4<<20 })
}

// Nor are messages to all that wait behind others for a receiver that reports nothing.
func TestBroadcastsBehindDiskAreNotInMemory(t *testing.T) {
	const broadcasts, size = 40, 400_000
	server := startServer(t, dirConfig(t))
	sender, slow := agreedPeer(t, server.addr, "sender"), agreedPeer(t, server.addr, "slow")
	for i := range 11 {
		sender.write(tracked("sender", "slow", fmt.Sprint(i), strings.Repeat("x", size), "accepted"))
	}
	go slow.discard()
	testkit.Eventually(t, "the last one waits", func() bool { return server.Stats().Kept == 11 })
	before := heap()
	for i := range broadcasts {
		sender.write(tracked("sender", "all", fmt.Sprint("all", i), strings.Repeat("x", size), "handled"))
	}
	testkit.Eventually(t, "all wait", func() bool { return server.Stats().Kept == 11+broadcasts })
	testkit.Eventually(t, "they are in use no more", func() bool { return heap()-before < 4<<20 })
}

// A message that is dropped for newer ones while it is on its way is not told as expired
// before it is handled.
func TestDroppedInFlight(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Queues = crosscomm.Queues{MaxMessages: 10}
	server := startServer(t, cfg)
	sender := login(t, server.addr, "sender")
	slow := agreedPeer(t, server.addr, "slow")
	told := make(chan error, 1)
	go func() {
		told <- sender.SendMessage(testContext(t), "first", crosscomm.TypeText, "slow", crosscomm.Handled)
	}()
	slow.readType("text") // it has it, and works on it
	for i := range 20 {
		if err := sender.SendMessage(testContext(t), fmt.Sprint(i), crosscomm.TypeText, "slow", crosscomm.Accepted); err != nil {
			t.Fatal(err)
		}
	}
	// By now the sender would have been told, before what it is told for this report.
	slow.write(frameOf("slow", "server", "report", `{"received": 1, "handled": [[1, 1]]}`))
	if err := <-told; err != nil {
		t.Errorf("its receiver has it and has not failed, and the sender is told: %v", err)
	}
}

// A message of a plain sender that fits is not lost because it has waited.
func TestSizeOfWhatWaited(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Queues.Clients = []string{"away"}
	server := startServer(t, cfg)
	plain := loginRaw(t, server.addr, "plain")
	const size = 64 << 10
	frame := strings.Replace(frameOf("plain", "away", "text", `"y"`), `"y"`, `"`+strings.Repeat("y", size-len(frameOf("plain", "away", "text", `""`)))+`"`, 1)
	if len(frame) != size {
		t.Fatal(len(frame))
	}
	away := newClient(t, server.addr, "away", crosscomm.Config{MaxMessageSize: size})
	got := collect(away, crosscomm.ListenerOptions{})
	if err := away.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	plain.write(frame)
	testkit.Receive(t, got)
	_ = away.Logout(context.Background())
	plain.write(frame)
	testkit.Eventually(t, "it waits", func() bool { return server.Stats().Kept == 1 })
	if err := away.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, got)
}

// A plain sender need not have unique ids: the original looks at none.
func TestPlainSenderOfOneID(t *testing.T) {
	server := startServer(t, dirConfig(t))
	receiver := login(t, server.addr, "receiver")
	got := collect(receiver, crosscomm.ListenerOptions{})
	_ = receiver.Logout(context.Background())
	plain := loginRaw(t, server.addr, "plain")
	for i := range 3 {
		plain.write(frameOf("plain", "receiver", "text", fmt.Sprintf(`"%d"`, i)))
	}
	testkit.Eventually(t, "they wait", func() bool { return server.Stats().Kept == 3 })
	if err := receiver.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if m := testkit.Receive(t, got); m.Text() != fmt.Sprint(i) {
			t.Errorf("message %d is %s", i, m.Text())
		}
	}
}

type usingHandler struct{ use sync.Map }

func (h *usingHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *usingHandler) Handle(_ context.Context, r slog.Record) error {
	if svc, ok := h.use.Load("svc"); ok && strings.Contains(r.Message, "cannot be kept") {
		_ = svc.(*crosscomm.Service).SendMessage(context.Background(), r.Message, crosscomm.TypeText, "away")
	}
	return nil
}
func (h *usingHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h *usingHandler) WithGroup(string) slog.Handler      { return h }

// A handler of the log may use the Service, as it could before.
func TestLogHandler(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Queues.Clients = []string{"away"}
	cfg.Queues.MaxTotalBytes = 1
	h := &usingHandler{}
	cfg.Logger = slog.New(h)
	server := startServer(t, cfg)
	h.use.Store("svc", server.Service)
	sender := login(t, server.addr, "sender")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := sender.SendMessage(ctx, "2", crosscomm.TypeText, "away", crosscomm.Accepted); !errors.Is(err, crosscomm.ErrQueueFull) {
		t.Errorf("a handler that tells another client of warnings: %v", err)
		buf := make([]byte, 1<<20)
		t.Logf("%s", buf[:runtime.Stack(buf, true)])
		panic("deadlock")
	}
}

// A message that could not be saved while its receiver has not reported it is saved when
// there is room again.
func TestSavedWhenThereIsRoom(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Queues.Clients = []string{"away"}
	cfg.Queues.MaxTotalBytes = 1500
	var log testkit.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	server := startServer(t, cfg)
	sender := agreedPeer(t, server.addr, "sender")
	sender.write(tracked("sender", "away", "first", strings.Repeat("x", 1000), "accepted"))
	sender.readType("receipt")
	agreedPeer(t, server.addr, "slow")
	sender.write(tracked("sender", "slow", "second", strings.Repeat("x", 1000), "accepted"))
	testkit.Eventually(t, "the second one cannot be kept", func() bool { return strings.Contains(log.String(), "cannot be kept") })
	away := agreedPeer(t, server.addr, "away")
	away.readType("text")
	away.write(frameOf("away", "server", "report", `{"received": 1, "handled": [[1, 1]]}`))
	if got := sender.readType("receipt"); !strings.Contains(got, "second") || !strings.Contains(got, "accepted") {
		t.Errorf("got %s", got)
	}
}

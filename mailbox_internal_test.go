package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/backlog"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// serveOne starts a server with queues on disk, at which the client c has logged in.
func serveOne(t *testing.T) (*Service, *member) {
	svc, err := New(Config{Role: Server, DataDir: t.TempDir(), NoStateFile: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	dialer := websocket.Dialer{Subprotocols: []string{subprotocol}}
	conn, _, err := dialer.Dial("ws://"+l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.WriteMessage(websocket.TextMessage, frameOfC(ServerID, TypeLogin, "{}")); err != nil {
		t.Fatal(err)
	}
	hub := svc.server.hub
	testkit.Eventually(t, "it has logged in", func() bool { return hub.isPresent("c") })
	return svc, hub.member([]byte("c"))
}

func frameOfC(to string, kind MsgType, content string) []byte {
	m := Message{MsgID: content, FromClientID: "c", ToClientID: to, MsgType: kind, Content: []byte(content)}
	return m.AppendFrame(nil)
}

// What comes for a client while that gives back what it has not reported goes to disk
// behind that, so that a server which is killed then has not the later messages alone.
func TestGivenBackIsSavedFirst(t *testing.T) {
	svc, m := serveOne(t)
	office := svc.server.running().deliveries
	var n notices
	bring := func(i int) {
		t.Helper()
		if why, _ := office.bring(m, newLetter(sender{}, frameOfC("c", TypeText, fmt.Sprint(i)), true), nil, &n); why != "" {
			t.Fatal(why)
		}
	}
	for i := range 3 {
		bring(i)
	}
	office.mailboxOf(m).detach(m.peer.Load(), &n) // and before n is sent
	bring(3)
	if err := office.store.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept, err := office.store.Load("c", 0, 10, 1<<20)
	if err != nil || len(kept) != 4 {
		t.Errorf("%d messages are on disk, %v", len(kept), err)
	}
	n.send(svc.server, nil)
}

// What is dropped from disk while it is on its way, and is lost with the connection then,
// fails: nothing has it any more.
func TestDroppedOnItsWay(t *testing.T) {
	from := &member{id: "a"}
	l := &letter{sender: sender{from: from, msgID: []byte(`"m"`), want: Handled}, keep: true, sent: true, saving: true, saved: true, seq: 7}
	b := &mailbox{to: new(peer), office: &deliveries{hub: newHub(&Service{})}}
	b.letters.Push(sentLetter{letter: l, number: 1})
	var n notices
	if b.dropped(8, &n) || !b.dropped(7, &n) {
		t.Error("the wrong one is known")
	}
	if l.told {
		t.Error("it has failed, and may yet be handled")
	}
	l.saving = false // there is no store to delete it from
	if b.leave(&n); !l.told || len(n.of) != 1 || n.of[0].list.notices[0].failure != failedOffline {
		t.Errorf("it was lost, and its sender is told %+v", n.of)
	}
}

// What is dropped from disk while it is being read there does not come: its sender was
// told that it has expired.
func TestDroppedWhileItIsRead(t *testing.T) {
	svc, m := serveOne(t)
	office, hub, p := svc.server.running().deliveries, svc.server.hub, m.peer.Load()
	b := office.mailboxOf(m)
	var n notices
	b.detach(p, &n)
	for i := range 2 {
		s := sender{from: m, msgID: []byte(`"m"`), want: Handled}
		if why, _ := office.bring(m, newLetter(s, frameOfC("c", TypeText, fmt.Sprint(i)), true), nil, &n); why != "" {
			t.Fatal(why)
		}
	}
	if err := office.store.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	hub.mu.Lock() // with it the senders of what is read are looked for
	b.attach(p, &n)
	b.sendWaiting()
	testkit.Eventually(t, "it is being read", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.gone != nil
	})
	if b.dropped(1, &n) {
		t.Error("one that is only on disk is known")
	}
	hub.mu.Unlock()
	var sent []sentLetter
	testkit.Eventually(t, "what is left was sent", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		sent = slices.Clone(b.letters.All())
		return len(sent) > 0
	})
	if len(sent) != 1 || sent[0].letter.seq != 2 {
		t.Errorf("%d letters were sent", len(sent))
	}
}

// What waits behind others on disk has failed when nothing comes from there any more: else
// a message to all would never be told of, nor a request.
func TestLostOnDisk(t *testing.T) {
	for what, lose := range map[string]func(*backlog.Store) error{
		"it is gone":        func(s *backlog.Store) error { s.Delete("c", []uint64{1}, nil); return s.Sync(t.Context()) },
		"it cannot be read": (*backlog.Store).Close,
	} {
		t.Run(what, func(t *testing.T) {
			svc, err := New(Config{Role: Server, DataDir: t.TempDir(), NoStateFile: true})
			if err != nil {
				t.Fatal(err)
			}
			office, err := svc.server.openDeliveries()
			if err != nil {
				t.Fatal(err)
			}
			defer office.close()
			hub := svc.server.hub
			m := hub.memberFor("c")
			m.peer.Store(&peer{agreed: true, takes: 1 << 20})
			m.lastSeen.Store(hub.now())
			b := office.mailboxOf(m)
			b.setOnDisk(true)
			told := false
			all := newBroadcast(func(r Receipt) { told = r.Failed == 1 })
			all.add()
			all.close()
			var n notices
			if why, toDisk := b.put(newLetter(sender{from: m, want: Handled, group: all}, frameOfC("c", TypeText, "x"), false), nil, &n); why != "" || !toDisk {
				t.Fatal(why, toDisk)
			}
			if err := errors.Join(office.store.Sync(t.Context()), lose(office.store)); err != nil {
				t.Fatal(err)
			}
			for range mostMisses {
				b.load(&n)
			}
			if b.onDisk || len(b.behind) > 0 || !told {
				t.Errorf("%d letters are waited for, and the sender was told: %v", len(b.behind), told)
			}
		})
	}
}

// A message to all that is on disk, and has failed since the connection was lost,
// does not come on the next one, however soon that is there.
func TestGivenUpDoesNotCome(t *testing.T) {
	svc, m := serveOne(t)
	office, p := svc.server.running().deliveries, m.peer.Load()
	b := office.mailboxOf(m)
	var n notices
	b.put(newLetter(sender{}, frameOfC("c", TypeText, "x"), true), nil, &n)
	b.mu.Lock()
	b.setOnDisk(true) // as if there was one more
	b.mu.Unlock()
	b.put(newLetter(sender{want: Handled, group: newBroadcast(func(Receipt) {})}, frameOfC("c", TypeText, "y"), false), nil, &n)
	testkit.Eventually(t, "both are on their way, and on disk", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.letters.Len() == 2 && b.letters.All()[0].letter.saved && !b.onDisk
	})
	begun, on := make(chan struct{}), make(chan struct{})
	office.store.Put("other", backlog.Message{Seq: 1}, func(error) {
		close(begun)
		<-on // until then nothing is committed
	})
	<-begun
	b.detach(p, &n)
	b.attach(p, &n)
	b.load(&n)
	close(on)
	testkit.Eventually(t, "all that waits is read", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return !b.onDisk
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if sent := b.letters.Len(); sent != 1 {
		t.Errorf("%d letters were sent again", sent)
	}
}

package crosscomm

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// What comes for a client while that gives back what it has not reported goes to disk
// behind that, so that a server which is killed then has not the later messages alone.
func TestGivenBackIsSavedFirst(t *testing.T) {
	svc, err := New(Config{Role: Server, DataDir: t.TempDir(), NoStateFile: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- svc.Serve(ctx, l) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	dialer := websocket.Dialer{Subprotocols: []string{subprotocol}}
	conn, _, err := dialer.Dial("ws://"+l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	frameTo := func(to string, kind MsgType, content string) []byte {
		m := Message{MsgID: content, FromClientID: "c", ToClientID: to, MsgType: kind, Content: []byte(content)}
		return m.AppendFrame(nil)
	}
	if err := conn.WriteMessage(websocket.TextMessage, frameTo(ServerID, TypeLogin, "{}")); err != nil {
		t.Fatal(err)
	}
	hub := svc.server.hub
	testkit.Eventually(t, "it has logged in", func() bool { return hub.isPresent("c") })
	office := svc.server.running().deliveries
	m := hub.member([]byte("c"))
	var n notices
	bring := func(i int) {
		t.Helper()
		if why, _ := office.bring(m, newLetter(sender{}, frameTo("c", TypeText, fmt.Sprint(i)), true), nil, &n); why != "" {
			t.Fatal(why)
		}
	}
	for i := range 3 {
		bring(i)
	}
	office.mailboxOf(m).detach(m.peer.Load(), &n) // and before n is sent
	bring(3)
	if err := office.store.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	kept, err := office.store.Load("c", 0, 10, 1<<20)
	if err != nil || len(kept) != 4 {
		t.Errorf("%d messages are on disk, %v", len(kept), err)
	}
	n.send(svc.server, nil)
}

package link_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// relay is a server whose links forward all that they get to one target, and
// flush as Run does.
type relay struct {
	url    string
	target *link.Link
	peer   *websocket.Conn // of the target
	ended  <-chan error    // of the target
}

func newRelay(t *testing.T, opts link.Options) *relay {
	t.Helper()
	r := new(relay)
	r.target, r.peer, r.ended = pair(t, opts, nil)
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	r.url = newServer(t, func(w http.ResponseWriter, req *http.Request) {
		running.Add(1) // before the client knows that it is connected
		defer running.Done()
		l := accept(t, w, req, roomy)
		if l == nil {
			return
		}
		_ = l.Run(func(data []byte, _ bool) bool {
			f := l.NewFrame(data)
			if err := l.Forward(r.target, &f); err != nil && !errors.Is(err, link.ErrClosed) && !errors.Is(err, link.ErrFull) {
				t.Error(err)
			}
			return true
		})
	})
	return r
}

// Messages of all sizes pass, also those at the limits of a frame's header, of
// a block, and of what is copied.
func TestSizes(t *testing.T) {
	sizes := []int{0, 1, 125, 126, 127, 8<<10 - 1, 8 << 10, 30_000, 30_000, 3, 65_535, 65_536, 64 << 10, 64<<10 + 1, 1 << 20, 3, 64<<10 - 1, 200}
	for _, writes := range []int{1, len(sizes)} {
		r := newRelay(t, roomy)
		sender := dial(t, r.url)
		var texts []string
		for i, n := range sizes {
			texts = append(texts, strings.Repeat(string(rune('a'+i)), n))
		}
		go func() {
			if writes == 1 {
				_, _ = sender.NetConn().Write(testkit.Burst(texts...))
				return
			}
			for _, text := range texts {
				_, _ = sender.NetConn().Write(testkit.Burst(text))
			}
		}()
		for i, n := range sizes {
			kind, data, err := r.peer.ReadMessage()
			if err != nil || kind != websocket.TextMessage || string(data) != texts[i] {
				t.Fatalf("message %d of %d bytes: got %d of kind %d, %v", i, n, len(data), kind, err)
			}
		}
		r.target.Close(1000, "", 0)
		testkit.Receive(t, r.ended)
	}
}

// What is forwarded by several links, sent and written with Write, while pings
// come, arrives in the order of each, whole, and its memory is not used for
// something else before.
func TestOrderOfAllWays(t *testing.T) {
	r := newRelay(t, roomy)
	const senders, count = 6, 3000
	text := func(s, i int) string {
		return fmt.Sprintf("%d %d %s", s, i, strings.Repeat(string(rune('a'+(s+i)%26)), i*7%600))
	}
	var sending sync.WaitGroup
	for s := range senders {
		var conn *websocket.Conn
		if s < 3 {
			conn = dial(t, r.url)
		}
		sending.Go(func() {
			for i := 0; i < count; {
				var err error
				switch {
				case conn != nil:
					var texts []string
					for n := i%50 + 1; n > 0 && i < count; n-- {
						texts = append(texts, text(s, i))
						i++
					}
					_, err = conn.NetConn().Write(testkit.Burst(texts...))
				case s == 3:
					err = r.target.Write(context.Background(), []byte(text(s, i)))
					i++
				default:
					err = r.target.Send([]byte(text(s, i)))
					i++
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	pongs := 0
	r.peer.SetPongHandler(func(string) error {
		pongs++
		return nil
	})
	next := make([]int, senders)
	for n := range senders * count {
		if n%1000 == 0 {
			if err := r.peer.WriteControl(websocket.PingMessage, nil, time.Now().Add(testkit.Patience)); err != nil {
				t.Fatal(err)
			}
		}
		_, data, err := r.peer.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		var s, i int
		if _, err := fmt.Sscanf(string(data), "%d %d", &s, &i); err != nil || i != next[s] || string(data) != text(s, i) {
			t.Fatalf("got %.20q, want number %d; %v", data, next[s], err)
		}
		next[s]++
	}
	sending.Wait()
	r.target.Close(1000, "", 0)
	testkit.Receive(t, r.ended)
	if pongs == 0 {
		t.Error("no ping was answered")
	}
}

// A peer that reads nothing for a while holds up neither the link that forwards
// to it nor what that forwards to others, and gets everything in the end.
func TestSlowTarget(t *testing.T) {
	slow, slowPeer, slowEnded := pair(t, roomy, nil)
	quick, quickPeer, quickEnded := pair(t, roomy, nil)
	url := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		if l := accept(t, w, req, roomy); l != nil {
			_ = l.Run(func(data []byte, _ bool) bool {
				f := l.NewFrame(data)
				for _, to := range []*link.Link{slow, quick} {
					if err := l.Forward(to, &f); err != nil {
						t.Error(err)
					}
				}
				return true
			})
		}
	})
	sender := dial(t, url)
	const count = 3000
	text := func(i int) string { return fmt.Sprint(i, strings.Repeat("x", 10_000)) } // 30 MB: more than sockets buffer
	go func() {
		for i := range count {
			_, _ = sender.NetConn().Write(testkit.Burst(text(i), "small"))
		}
	}()
	for _, peer := range []*websocket.Conn{quickPeer, slowPeer} {
		for i := range 2 * count {
			want := "small"
			if i%2 == 0 {
				want = text(i / 2)
			}
			if _, data, err := peer.ReadMessage(); err != nil || string(data) != want {
				t.Fatalf("message %d: got %.20q, %v", i, data, err)
			}
		}
	}
	for l, ended := range map[*link.Link]<-chan error{slow: slowEnded, quick: quickEnded} {
		l.Close(1000, "", 0)
		testkit.Receive(t, ended)
	}
}

// A target that is reset while much is written to it ends, and whoever forwards
// to it or writes goes on.
func TestTargetVanishes(t *testing.T) {
	r := newRelay(t, roomy)
	sender := dial(t, r.url)
	stop := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		data := testkit.Burst(strings.Repeat("x", 20_000), "y")
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := sender.NetConn().Write(data); err != nil {
				t.Error(err)
				return
			}
		}
	})
	results := make(chan error, 100)
	for range cap(results) {
		go func() { results <- r.target.Write(context.Background(), bytes.Repeat([]byte("z"), 1<<18)) }()
	}
	if _, _, err := r.peer.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	r.peer.Close()
	testkit.Receive(t, r.ended)
	for range cap(results) {
		testkit.Receive(t, results)
	}
	close(stop)
	sending.Wait()
	if err := r.target.Write(context.Background(), nil); !errors.Is(err, link.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// A link that breaks the rules of WebSocket is told so, whatever is being written
// to it.
func TestMalformedFrame(t *testing.T) {
	for name, bytes := range map[string]string{
		"reserved bit": "\xa1\x80\x00\x00\x00\x00",
		"not masked":   "\x81\x01x",
		"lone rest":    "\x80\x80\x00\x00\x00\x00",
		"long ping":    "\x89\xfe\x00\x7e\x00\x00\x00\x00" + strings.Repeat("x", 126),
	} {
		l, peer, ended := pair(t, roomy, nil)
		for range 12 { // which the peer reads within the time that it has after the end
			if err := l.Send([]byte(unruly)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := peer.NetConn().Write([]byte(bytes)); err != nil {
			t.Fatal(err)
		}
		err := error(nil)
		for data := []byte(unruly); err == nil; _, data, err = peer.ReadMessage() {
			if string(data) != unruly {
				t.Fatalf("%s: %d bytes in a message", name, len(data))
			}
		}
		if !websocket.IsCloseError(err, websocket.CloseProtocolError) {
			t.Errorf("%s: the peer got %v", name, err)
		}
		if err := testkit.Receive(t, ended); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// So is one whose compressed messages cannot be inflated.
func TestMalformedDeflate(t *testing.T) {
	if way != deflating {
		return // it is a reserved bit then
	}
	_, peer, ended := pair(t, roomy, nil)
	if _, err := peer.NetConn().Write(wsframe.AppendUnmasked(nil, wsframe.Deflated|wsframe.OpText, []byte("no deflate"))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := peer.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseInvalidFramePayloadData) {
		t.Errorf("the peer got %v", err)
	}
	if err := testkit.Receive(t, ended); err == nil {
		t.Error("no error")
	}
}

// Texts of 128 bytes and more are compressed, if that makes them smaller.
func TestWhatIsCompressed(t *testing.T) {
	if way != deflating {
		return
	}
	l, peer, ended := pair(t, roomy, nil)
	for text, want := range map[string]byte{strings.Repeat("x", 127): 0, strings.Repeat("x", 128): wsframe.Deflated, unruly[:128]: 0} {
		if err := l.Send([]byte(text)); err != nil {
			t.Fatal(err)
		}
		header := make([]byte, 4)
		if _, err := io.ReadFull(peer.NetConn(), header[:2]); err != nil {
			t.Fatal(err)
		}
		n := int64(header[1])
		if n == 126 {
			if _, err := io.ReadFull(peer.NetConn(), header[2:]); err != nil {
				t.Fatal(err)
			}
			n = int64(header[2])<<8 | int64(header[3])
		}
		if _, err := io.CopyN(io.Discard, peer.NetConn(), n); err != nil {
			t.Fatal(err)
		}
		if header[0] != wsframe.Final|want|wsframe.OpText {
			t.Errorf("%d bytes of %.3s…: the frame begins with %#x", len(text), text, header[0])
		}
	}
	l.Close(1000, "", 0)
	testkit.Receive(t, ended)
}

package link_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// markPayload is what a mark is on the wire.
func markPayload(n uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte("mark"), n))
}

// markedOptions are roomy ones, and a channel that gets the numbers of marks.
func markedOptions() (link.Options, <-chan uint64) {
	opts, marks := roomy, make(chan uint64, 100)
	opts.OnMark = func(n uint64) { marks <- n }
	return opts, marks
}

// idleLink is a link over a connection that nobody reads: frames are made and
// forwarded by it, and there is no goroutine whose part that would be.
func idleLink(t *testing.T, conn net.Conn) *link.Link {
	t.Helper()
	input := new(link.Input)
	input.Take(conn)
	return link.New(input, roomy)
}

// pipe returns both ends of one.
func pipe(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far
}

// forward forwards a text.
func forward(t *testing.T, from, to *link.Link, text string) {
	t.Helper()
	f := from.NewFrame([]byte(text))
	if err := from.Forward(to, &f); err != nil {
		t.Fatal(err)
	}
}

// forwardMark forwards a mark.
func forwardMark(t *testing.T, from, to *link.Link, n uint64) {
	t.Helper()
	if err := from.ForwardMark(to, n); err != nil {
		t.Fatal(err)
	}
}

// pong has a peer send a pong.
func pong(t *testing.T, peer *websocket.Conn, payload string) {
	t.Helper()
	if err := peer.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
}

// readUntil has a peer read up to a text, or the end of the link, and returns what
// has come before: texts, and pings, which it answers.
func readUntil(peer *websocket.Conn, last string) (came []string) {
	answer := peer.PingHandler()
	defer peer.SetPingHandler(answer)
	peer.SetPingHandler(func(payload string) error {
		came = append(came, "ping "+payload)
		return answer(payload)
	})
	for {
		_, data, err := peer.ReadMessage()
		if err != nil || string(data) == last {
			return came
		}
		came = append(came, string(data))
	}
}

// Marks that are forwarded keep their places between the frames, wait for the Flush,
// and are answered, although the link is closing.
func TestForwardedMarks(t *testing.T) {
	opts, marks := markedOptions()
	to, peer, ended := pair(t, opts, nil)
	near, _ := pipe(t)
	from := idleLink(t, near)
	large := unruly[:40_000] // which is not copied into a block
	for _, text := range []string{"a", "b"} {
		forward(t, from, to, text)
	}
	forwardMark(t, from, to, 1)
	for _, text := range []string{"c", "d"} {
		forward(t, from, to, text)
	}
	forwardMark(t, from, to, 2)
	forward(t, from, to, large)
	forwardMark(t, from, to, 9)
	want := 8
	if way == direct || way == deflating {
		want = 6 // a and b are one entry, and so are c and d
	}
	if got := to.Queued(); got != want {
		t.Errorf("%d entries are queued, not %d", got, want)
	}
	from.Flush()
	to.Close(1000, "", testkit.Patience)
	came := readUntil(peer, "none")
	peer.Close()
	testkit.Receive(t, ended)
	if want := []string{"a", "b", "ping " + markPayload(1), "c", "d", "ping " + markPayload(2), large, "ping " + markPayload(9)}; !slices.Equal(came, want) {
		t.Errorf("the peer got %.200q", came)
	}
	for _, want := range []uint64{1, 2, 9} {
		if got := testkit.Receive(t, marks); got != want {
			t.Errorf("mark %d is answered, not %d", got, want)
		}
	}
	if err := to.Mark(10); !errors.Is(err, link.ErrClosed) {
		t.Errorf("Mark after the end: %v", err)
	}
	if err := from.ForwardMark(to, 10); !errors.Is(err, link.ErrClosed) {
		t.Errorf("ForwardMark after the end: %v", err)
	}
}

// writeCounter is a connection that counts writes.
type writeCounter struct {
	net.Conn
	writes atomic.Int32
}

func (c *writeCounter) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// Marks are written with the messages before and after them.
func TestMarksInOneWrite(t *testing.T) {
	near, far := pipe(t)
	counter := &writeCounter{Conn: near}
	to := idleLink(t, counter)
	other, _ := pipe(t)
	from := idleLink(t, other)
	var want []byte
	for n := range uint64(100) {
		text := fmt.Sprint("message ", n)
		forward(t, from, to, text)
		forwardMark(t, from, to, n+1)
		want = append(wsframe.AppendHeader(want, wsframe.OpText, len(text), 0), text...)
		want = append(wsframe.AppendHeader(want, wsframe.OpPing, 12, 0), markPayload(n+1)...)
	}
	if writes := counter.writes.Load(); writes != 0 {
		t.Errorf("%d writes before the Flush", writes)
	}
	from.Flush()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) || counter.writes.Load() != 1 {
		t.Errorf("%d writes of %q", counter.writes.Load(), got)
	}
}

// A mark is answered when the peer has read what was before it, and not before.
func TestMarkWaitsForTheReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts, marks := markedOptions()
		l, peer, ended := pipePair(t, opts)
		for n := uint64(1); n <= 2; n++ {
			if err := errors.Join(l.Send([]byte("x")), l.Mark(n)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if len(marks) > 0 {
			t.Errorf("mark %d is answered, and nobody has read it", <-marks)
		}
		l.Close(1000, "", testkit.Patience)
		came := readUntil(peer, "none")
		peer.Close()
		<-ended
		if want := []string{"x", "ping " + markPayload(1), "x", "ping " + markPayload(2)}; !slices.Equal(came, want) {
			t.Errorf("the peer got %q", came)
		}
		if first, second := <-marks, <-marks; first != 1 || second != 2 {
			t.Errorf("marks %d and %d are answered", first, second)
		}
	})
}

// A peer may answer only the latest of several pings, also if that is no mark.
func TestOnlyTheLatestPingIsAnswered(t *testing.T) {
	opts, marks := markedOptions()
	l, peer, ended := pair(t, opts, nil)
	pings := make(chan string, 10)
	peer.SetPingHandler(func(payload string) error {
		pings <- payload
		return nil
	})
	go func() {
		for {
			if _, _, err := peer.ReadMessage(); err != nil {
				return
			}
		}
	}()
	expect := func(want ...string) {
		t.Helper()
		for _, want := range want {
			if got := testkit.Receive(t, pings); got != want {
				t.Errorf("a ping of %q, not %q", got, want)
			}
		}
	}
	mark := func(n uint64) {
		t.Helper()
		if err := l.Mark(n); err != nil {
			t.Fatal(err)
		}
	}
	l.Ping()
	mark(1)
	mark(4)
	mark(6)
	l.Ping()
	expect("", markPayload(1), markPayload(4), markPayload(6), markPayload(6))
	pong(t, peer, markPayload(6))
	if got := testkit.Receive(t, marks); got != 6 {
		t.Errorf("mark %d is answered", got)
	}
	l.Ping()
	mark(7)
	expect("", markPayload(7))
	for _, n := range []uint64{4, 7} { // the first one is late
		pong(t, peer, markPayload(n))
	}
	if got := testkit.Receive(t, marks); got != 7 {
		t.Errorf("mark %d is answered", got)
	}
	l.Close(1000, "", 0)
	testkit.Receive(t, ended)
}

// Pongs that answer no mark are signs of life, and nothing else.
func TestForgedPongs(t *testing.T) {
	opts, marks := markedOptions()
	pongs := 0 // of the reading goroutine
	opts.OnPong = func() { pongs++ }
	seen := make(chan int)
	l, peer, ended := pair(t, opts, func([]byte, bool) bool {
		seen <- pongs
		return true
	})
	sent := 0
	send := func(payloads ...string) {
		t.Helper()
		for _, payload := range payloads {
			pong(t, peer, payload)
			sent++
		}
		if err := peer.WriteMessage(websocket.TextMessage, nil); err != nil {
			t.Fatal(err)
		}
		if got := testkit.Receive(t, seen); got != sent {
			t.Errorf("%d pongs of %d", got, sent)
		}
	}
	send("", markPayload(0), markPayload(1))
	marked := make(chan struct{})
	peer.SetPingHandler(func(string) error {
		close(marked)
		return nil
	})
	go func() { _, _, _ = peer.ReadMessage() }()
	if err := l.Mark(5); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, marked)
	five := markPayload(5)
	send("", markPayload(0), markPayload(6), markPayload(math.MaxUint64), five[1:], five[:11], five+"\x00", "m", "Mark"+five[4:], "mark")
	if len(marks) > 0 {
		t.Fatalf("mark %d is answered", <-marks)
	}
	send(five, five, markPayload(4), markPayload(6))
	if got := testkit.Receive(t, marks); got != 5 || len(marks) > 0 {
		t.Errorf("mark %d is answered, and %d more", got, len(marks))
	}
	l.Close(1000, "", 0)
	testkit.Receive(t, ended)
}

// Marks wait in the queue of a peer that does not read, between the messages. To know
// their numbers does not help it: what was not written was not read.
func TestMarksOfASlowReader(t *testing.T) {
	opts, marks := markedOptions()
	handled := make(chan struct{})
	l, peer, ended := pair(t, opts, func([]byte, bool) bool {
		handled <- struct{}{}
		return true
	})
	if err := tcpOf(peer).SetReadBuffer(1 << 16); err != nil { // or the kernel might hold all
		t.Fatal(err)
	}
	near, _ := pipe(t)
	from := idleLink(t, near)
	const count, each = 40, 20 // 8 MB
	text := func(i int) string { return fmt.Sprint(i, " ", unruly[i%100:i%100+10_000]) }
	for n := range uint64(count) {
		for i := range each {
			if text := text(int(n)*each + i); n%2 == 0 {
				forward(t, from, l, text)
			} else if err := l.Send([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		if n%2 == 0 {
			forwardMark(t, from, l, n+1)
			from.Flush()
		} else if err := l.Mark(n + 1); err != nil {
			t.Fatal(err)
		}
	}
	if l.Queued() == 0 {
		t.Fatal("nothing waits for the peer")
	}
	pong(t, peer, markPayload(count))
	if err := peer.WriteMessage(websocket.TextMessage, nil); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, handled)
	if len(marks) > 0 {
		t.Errorf("mark %d is answered, and was not written", <-marks)
	}
	if err := l.Send([]byte("last")); err != nil {
		t.Fatal(err)
	}
	came := readUntil(peer, "last")
	for n := range uint64(count) {
		for i := range each {
			if i := int(n)*each + i; len(came) == 0 || came[0] != text(i) {
				t.Fatalf("message %d: got %.20q", i, came)
			}
			came = came[1:]
		}
		if len(came) == 0 || came[0] != "ping "+markPayload(n+1) {
			t.Fatalf("mark %d: got %.20q", n+1, came)
		}
		came = came[1:]
		if got := testkit.Receive(t, marks); got != n+1 {
			t.Fatalf("mark %d is answered, not %d", got, n+1)
		}
	}
	l.Close(1000, "", 0)
	testkit.Receive(t, ended)
}

// Both ends can mark, and each answers the other; a client's marks are masked.
func TestMarksOfBothEnds(t *testing.T) {
	serverOpts, serverMarks := markedOptions()
	servers := make(chan *link.Link, 1)
	serverEnded := make(chan error, 1)
	url := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if l := accept(t, w, r, serverOpts); l != nil {
			servers <- l
			serverEnded <- l.Run(func([]byte, bool) bool { return true })
		}
	})
	clientOpts, clientMarks := markedOptions()
	client, clientEnded := dialLink(t, url, clientOpts, func(*link.Link, []byte, bool) bool { return true })
	server := testkit.Receive(t, servers)
	for n := uint64(1); n <= 3; n++ {
		for l, marks := range map[*link.Link]<-chan uint64{server: serverMarks, client: clientMarks} {
			if err := errors.Join(l.Send([]byte("x")), l.Mark(n)); err != nil {
				t.Fatal(err)
			}
			if got := testkit.Receive(t, marks); got != n {
				t.Errorf("mark %d is answered, not %d", got, n)
			}
		}
	}
	client.Close(1000, "", 0)
	testkit.Receive(t, clientEnded)
	testkit.Receive(t, serverEnded)
}

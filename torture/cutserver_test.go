package torture

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// cutter is a client that is cut in the middle of its conversation, with the witness
// that hears what it says. Of several each has an id of its own.
type cutter struct {
	id, witness string
	shape       *conversation // that of each round, but for the number of that
	server      *server
	tls         *tls.Config   // nil for none
	loggedOut   chan struct{} // of the id, by the server
	heard       chan *crosscomm.Message
	round       int
	cutAt       map[int]int // by round, of those not checked yet; never for not at all
	whole, lost int         // messages that were written whole, and those of them that did not arrive
}

// attempt has the conversation once, with the fault. A conversation that is halved
// is read to its end; so the server has got all that was written.
func (c *cutter) attempt(t *testing.T, f fault) {
	t.Helper()
	c.round++
	conv := converse(c.id, c.witness, c.round)
	raw, err := net.Dial("tcp", c.server.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(testkit.Patience))
	faulty := newFaultConn(raw, f)
	var conn net.Conn = faulty
	if c.tls != nil {
		conn = tls.Client(faulty, c.tls)
	}
	if f.writeCut == 0 {
		_ = faulty.cut(false)
	}
	// What a TLS client has written is known to it alone if it is cut.
	c.cutAt[c.round] = len(conv.bytes)
	if f.writeCut != never && c.tls == nil {
		c.cutAt[c.round] = min(f.writeCut, len(conv.bytes))
	}
	var reading sync.WaitGroup
	answered := make(chan struct{})
	reading.Go(func() {
		_, _ = conn.Read(make([]byte, 1))
		close(answered)
		_, _ = io.Copy(io.Discard, conn)
	})
	if _, err := conn.Write(conv.bytes[:conv.handshake]); err == nil {
		<-answered // the rules of WebSocket want that
		_, _ = conn.Write(conv.bytes[conv.handshake:])
	}
	if f.how == halving || !faulty.isCut() {
		reading.Wait() // for the server's end
	}
	conn.Close()
	reading.Wait()
}

// exact has the conversation with its writing end closed after so many bytes, and
// checks that what was whole has arrived, and that the client is offline after
// that.
func (c *cutter) exact(t *testing.T, f fault) {
	t.Helper()
	c.attempt(t, f)
	cut := c.cutAt[c.round]
	if cut >= c.shape.login {
		testkit.Receive(t, c.loggedOut)
	}
	lost := c.lost
	c.settle(t)
	if c.lost != lost {
		t.Fatalf("cut at %d, %v: %d whole messages have not arrived", cut, f.how, c.lost-lost)
	}
}

// settle waits until the cut connections are done with, and checks what was heard of
// them.
func (c *cutter) settle(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, c.id+" is offline", func() bool { return !slices.Contains(c.server.GetOnlineClients(), c.id) })
	mark := fmt.Sprint("mark ", c.round)
	if err := c.server.SendMessage(patience(t), mark, crosscomm.TypeText, c.witness); err != nil {
		t.Fatal(err)
	}
	arrived := 0
	// A connection may be handled later than the one after it: only of each by
	// itself there is an order.
	next := map[int]int{}
	for {
		m := testkit.Receive(t, c.heard)
		if m.FromClientID == crosscomm.ServerID {
			if m.Text() != mark {
				t.Fatalf("got %q, want %q", m.Text(), mark)
			}
			break
		}
		arrived++
		var round, n int
		if _, err := fmt.Sscanf(m.Text(), "%d/%d ", &round, &n); err != nil {
			t.Fatalf("%.40q has arrived", m.Text())
		}
		cut, ok := c.cutAt[round]
		switch {
		case m.FromClientID != c.id, n != next[round]:
			t.Fatalf("message %d of %s in round %d, want %d", n, m.FromClientID, round, next[round])
		case !ok, n >= c.shape.until(cut), m.Text() != content(round, n):
			t.Fatalf("%d bytes of message %d in round %d, which was cut at %d", len(m.Text()), n, round, cut)
		}
		next[round]++
	}
	whole := 0
	for _, cut := range c.cutAt {
		whole += c.shape.until(cut)
	}
	c.whole, c.lost = c.whole+whole, c.lost+whole-arrived
	clear(c.cutAt)
}

// cutServer starts a server for cutters, so many of them.
func cutServer(t *testing.T, n int, secure bool) (cutters []*cutter) {
	t.Helper()
	loggedOut := map[string]chan struct{}{}
	for i := range n {
		loggedOut[fmt.Sprint("cut-", i)] = make(chan struct{}, 1<<20)
	}
	cfg := crosscomm.Config{OnLogout: func(id string, _ error) {
		if ch := loggedOut[id]; ch != nil {
			ch <- struct{}{}
		}
	}}
	srv, trust := startMaybeSecure(t, cfg, secure)
	for i := range n {
		c := &cutter{
			id: fmt.Sprint("cut-", i), witness: fmt.Sprint("witness-", i), server: srv, tls: trust,
			shape:     converse(fmt.Sprint("cut-", i), fmt.Sprint("witness-", i), 0),
			loggedOut: loggedOut[fmt.Sprint("cut-", i)], heard: make(chan *crosscomm.Message, 1<<16), cutAt: map[int]int{},
		}
		witness := newClient(t, srv.addr, c.witness, crosscomm.Config{URL: srv.url(), TLS: trust})
		witness.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
			c.heard <- m
			return nil
		}, crosscomm.ListenerOptions{})
		if err := witness.Login(patience(t)); err != nil {
			t.Fatal(err)
		}
		cutters = append(cutters, c)
	}
	return cutters
}

// places returns where to cut: near the edges of frames at every stride-th byte, and
// elsewhere at every farStride-th with -full, or else at a few.
func places(near, far []int, stride, farStride int) (places []int) {
	for i := 0; i < len(near); i += ofFull(stride, 1) {
		places = append(places, near[i])
	}
	for i := 0; i < len(far); i += ofFull(len(far)/10+1, farStride) {
		places = append(places, far[i])
	}
	return places
}

// share has the cutters do something at each place, and checks what has become of
// it; before is what the process holds while there are none.
func share(t *testing.T, cutters []*cutter, places []int, before rest, do func(c *cutter, place int)) {
	t.Helper()
	for batch := range slices.Chunk(places, 400) { // what was heard is held until it is checked
		var next atomic.Int64
		var all sync.WaitGroup
		for _, c := range cutters {
			all.Go(func() {
				for {
					i := int(next.Add(1)) - 1
					if i >= len(batch) || t.Failed() {
						return
					}
					do(c, batch[i])
				}
			})
		}
		all.Wait()
		if t.Failed() {
			t.FailNow()
		}
		// Once a later one is accepted, no connection waits for that unseen.
		conn, err := net.Dial("tcp", cutters[0].server.addr)
		if err != nil {
			t.Fatal(err)
		}
		if cutters[0].tls != nil {
			conn = tls.Client(conn, cutters[0].tls)
		}
		_, _ = io.WriteString(conn, "no HTTP\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
		returnsTo(t, before)
		for _, c := range cutters {
			c.settle(t)
		}
	}
}

// report prints what became of the messages, and forgets it.
func report(t *testing.T, cutters []*cutter, what string, cuts int, before rest) {
	t.Helper()
	whole, lost := 0, 0
	for _, c := range cutters {
		whole, lost = whole+c.whole, lost+c.lost
		c.whole, c.lost = 0, 0
	}
	t.Logf("%s: %d cuts; of %d messages before them %d arrived, none twice, in part or out of order; %d goroutines and %d files before and after",
		what, cuts, whole, whole-lost, before.goroutines, before.files)
}

// A client's connection is cut at every byte of what it writes, and of what it
// reads. What it has said before comes whole, once and in order, and all of it if the
// server could read it; the client is offline, and nothing of it is left.
func TestClientIsCut(t *testing.T) {
	cutters := cutServer(t, 4, false)
	before := atRest(t)
	conv := cutters[0].shape
	const stride = 25
	near, far := conv.places()
	written, fewer := places(near, far, stride, 1), places(near, far, stride, 7)
	share(t, cutters, written, before, func(c *cutter, i int) {
		c.exact(t, fault{readCut: never, writeCut: i, how: halving})
	})
	report(t, cutters, fmt.Sprintf("of %d bytes written, halved", len(conv.bytes)), len(written), before)
	// The answer has about as many bytes as the messages of the client to itself.
	const answers = large + 2000
	near, far = nil, nil
	for i := range answers {
		if i < 2000 || i > large {
			near = append(near, i)
		} else {
			far = append(far, i)
		}
	}
	everywhere := places(near, far, stride, 1)
	for _, how := range []cutting{closing, resetting} {
		read := everywhere
		if how == resetting { // the same again, but for the last packet
			read = places(near, far, stride, 7)
		}
		one := func(f fault) func(c *cutter, i int) {
			return func(c *cutter, i int) {
				f := f
				if f.writeCut == 0 {
					f.writeCut = i
				} else {
					f.readCut = i
				}
				c.attempt(t, f)
			}
		}
		share(t, cutters, fewer, before, one(fault{readCut: never, how: how}))
		report(t, cutters, fmt.Sprintf("of %d bytes written, %v", len(conv.bytes), how), len(fewer), before)
		share(t, cutters, read, before, one(fault{writeCut: never, how: how}))
		report(t, cutters, fmt.Sprintf("of %d bytes read, %v", answers, how), len(read), before)
	}
	for _, c := range cutters[:ofFull(1, len(cutters))] {
		c.exact(t, fault{readCut: never, writeCut: never, piece: 1})
	}
	report(t, cutters, fmt.Sprintf("a byte at a time, %d of them", len(conv.bytes)), 0, before)
}

// The same over TLS, where the bytes that are cut are those of TLS.
func TestClientIsCutOverTLS(t *testing.T) {
	cutters := cutServer(t, 4, true)
	before := atRest(t)
	near, far := cutters[0].shape.places()
	cuts := places(near, far, 120, 20)
	for i := range cuts {
		cuts[i]++ // TLS begins with a write
	}
	for _, how := range []cutting{halving, closing, resetting} {
		for _, direction := range []string{"written", "read"} {
			if how == halving && direction == "read" {
				continue
			}
			share(t, cutters, cuts, before, func(c *cutter, i int) {
				f := fault{readCut: never, writeCut: i, how: how}
				if direction == "read" {
					f.readCut, f.writeCut = i, never
				}
				c.attempt(t, f)
			})
			report(t, cutters, fmt.Sprintf("TLS, of bytes %s, %v", direction, how), len(cuts), before)
		}
	}
	for _, c := range cutters[:ofFull(1, len(cutters))] {
		c.exact(t, fault{readCut: never, writeCut: never, piece: 1})
	}
	report(t, cutters, "TLS, a byte at a time", 0, before)
}

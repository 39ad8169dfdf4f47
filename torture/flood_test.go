package torture

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// Connections that say half of a handshake, and no more, one after another and many at
// a time: the server ends those that stay, nothing of them remains, and others go on.
func TestHalfOpenHandshakes(t *testing.T) {
	sideBySide(t)
	server := startChild(t, childConfig{})
	pair := newPair(t, server.addr)
	before := server.figures()
	idle := make(chan struct{})
	close(idle)
	t.Logf("without them: %v", pair.measure(t, idle))
	// The halves end within a line, within a name, before the empty line, and whole
	// but without a login.
	halves := []string{"", "G", upgrade[:20], upgrade[:60], upgrade[:len(upgrade)-2]}

	inTurn := ofFull(400, 20_000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range inTurn {
			conn, err := net.Dial("tcp", server.addr)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, halves[i%len(halves)])
			if i%2 == 0 {
				_ = conn.(*net.TCPConn).SetLinger(0)
			}
			conn.Close()
		}
	}()
	trips := pair.measure(t, done)
	t.Logf("%d, one after another: %v", inTurn, trips)
	t.Logf("before: %v", before)
	t.Logf("after:  %v", server.returnsTo(before))

	atOnce := ofFull(100, 1000)
	var conns []net.Conn
	for _, half := range append(halves, upgrade) {
		conns = append(conns, hold(t, server.addr, atOnce/(len(halves)+1), half)...)
	}
	held := make(chan struct{})
	go func() {
		defer close(held)
		endedBy(t, conns)
	}()
	trips = pair.measure(t, held)
	t.Logf("%d at once, until the server ended them: %v", len(conns), trips)
	t.Logf("after:  %v", server.returnsTo(before))
}

// An attack on a server by way of many that are logged in.
type attack int

const (
	theyRead    attack = iota // none: they are sent as much, and read it
	toAll                     // they do not read what is said to all
	toEachOfAll               // they do not read what is said to each of them, which is held for each
)

// String implements fmt.Stringer.
func (a attack) String() string {
	return [...]string{"they read", "they do not read what is said to all", "they do not read what is said to each"}[a]
}

// stall has so many clients log in, and a sender send them so many messages of a size,
// while the pair measures.
func stall(t *testing.T, server *childServer, pair *pair, how attack, readers, count, size int) times {
	t.Helper()
	before := server.figures()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var reading sync.WaitGroup
	defer reading.Wait()
	for i := range readers {
		p, err := loginRaw(server.addr, fmt.Sprint("reader-", i))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if how == theyRead {
			reading.Go(func() { _, _ = io.Copy(io.Discard, p.NetConn()) })
		} else {
			_ = p.NetConn().(*net.TCPConn).SetReadBuffer(4 << 10)
		}
	}
	sender, err := loginRaw(server.addr, "sender")
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	passed := make(chan struct{}, count)
	defer pair.b.MessageListener(func(context.Context, *crosscomm.Message) error {
		passed <- struct{}{}
		return nil
	}, crosscomm.ListenerOptions{From: "sender"})()
	go func() {
		defer cancel()
		content := `"` + strings.Repeat("b", size) + `"`
		for range count {
			to := []string{crosscomm.All}
			if how == toEachOfAll {
				to = to[:0]
				for i := range readers {
					to = append(to, fmt.Sprint("reader-", i))
				}
				to = append(to, pair.b.ClientID())
			}
			for _, id := range to {
				if err := sender.write(id, "text", content); err != nil {
					t.Errorf("the sender: %v", err)
					return
				}
			}
			testkit.Receive(t, passed) // as fast as others get it
		}
	}()
	trips := pair.measure(t, ctx.Done())
	memory, peak := memoryOf(server.process.Cmd.Process.Pid)
	t.Logf("%d clients, %v: %d messages of %d bytes for each; %v; the server has %s, at most %s so far (it had %s)", readers, how, count, size, trips, mb(memory), mb(peak), mb(before.Memory))
	if *rssBound > 0 && peak > *rssBound {
		t.Errorf("the server had %s, which is more than %s", mb(peak), mb(*rssBound))
	}
	return trips
}

// Many that do not read do not slow down others, and what is held for them is bounded.
func TestStalledReaders(t *testing.T) {
	sideBySide(t)
	server := startChild(t, childConfig{})
	pair := newPair(t, server.addr)
	before := server.figures()
	readers := ofFull(20, 1000)
	const size = 20_000
	count := ofFull(250, 300) // 5 and 6 MB for each: what its socket takes at the server, and some more
	run := func(how attack) times {
		trips := stall(t, server, pair, how, readers, count, size)
		t.Logf("after them: %v", server.returnsTo(before))
		return trips
	}
	without := run(theyRead)
	for _, how := range []attack{toAll, toEachOfAll} {
		ratio := float64(run(how).at(99)) / float64(without.at(99))
		verdict := ""
		if *full {
			verdict = "; the goal, at most 2, is reached"
			if ratio > 2 {
				verdict = "; the goal, at most 2, is missed"
			}
		}
		t.Logf("%v: p99 of others is %.2f times that with readers%s", how, ratio, verdict)
	}
}

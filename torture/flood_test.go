package torture

import (
	"context"
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

// Many that do not read do not slow down others, and what is held for them is bounded.
func TestStalledReaders(t *testing.T) {
	sideBySide(t)
	server := startChild(t, childConfig{})
	pair := newPair(t, server.addr)
	before := server.figures()
	readers := ofFull(50, 1000)
	const size = 20_000
	count := ofFull(300, 500) // 6 and 10 MB for each: what its socket takes at the server, and some more

	// A round is a broadcast to all of them while the pair measures; the first time they
	// read.
	round := func(stalled bool) times {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var reading sync.WaitGroup
		var peers []*rawPeer
		for i := range readers {
			p, err := loginRaw(server.addr, "reader-"+string(rune('a'+i%26))+strings.Repeat("x", i/26))
			if err != nil {
				t.Fatal(err)
			}
			peers = append(peers, p)
			if stalled {
				_ = p.NetConn().(*net.TCPConn).SetReadBuffer(4 << 10)
				continue
			}
			reading.Go(func() { _, _ = io.Copy(io.Discard, p.NetConn()) })
		}
		sender, err := loginRaw(server.addr, "sender")
		if err != nil {
			t.Fatal(err)
		}
		pairHears := make(chan struct{}, count)
		remove := pair.b.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
			pairHears <- struct{}{}
			return nil
		}, crosscomm.ListenerOptions{From: "sender"})
		defer remove()
		go func() {
			defer cancel()
			content := `"` + strings.Repeat("b", size) + `"`
			for range count {
				if err := sender.write(crosscomm.All, "text", content); err != nil {
					t.Errorf("the sender: %v", err)
					return
				}
				testkit.Receive(t, pairHears) // one at a time, as fast as others get it
			}
		}()
		trips := pair.measure(t, ctx.Done())
		memory, peak := memoryOf(server.process.Cmd.Process.Pid)
		t.Logf("%d readers, stalled: %v; %d broadcasts of %d bytes; %v; the server has %s, at most %s", readers, stalled, count, size, trips, mb(memory), mb(peak))
		if *rssBound > 0 && peak > *rssBound {
			t.Errorf("the server had %s, which is more than %s", mb(peak), mb(*rssBound))
		}
		sender.Close()
		for _, p := range peers {
			p.Close()
		}
		reading.Wait()
		t.Logf("after them: %v", server.returnsTo(before))
		return trips
	}
	without := round(false)
	with := round(true)
	ratio := float64(with.at(99)) / float64(without.at(99))
	if *full {
		verdict := "reached"
		if ratio > 2 {
			verdict = "missed"
		}
		t.Logf("p99 of others with stalled readers is %.2f times that with readers; the goal of at most 2 is %s", ratio, verdict)
	} else {
		t.Logf("p99 of others with stalled readers is %.2f times that with readers", ratio)
	}
}

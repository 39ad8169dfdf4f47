package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/testkit/subprocess"
)

// receipted are numbers that go from one client to another, in several rows at once: in
// each row one goes when the one before was accepted, or written, or handled.
type receipted struct {
	from, to *crosscomm.Service
	unread   bool           // whether nobody waits for receipts, as the server keeps what is not read
	accepted []atomic.Int64 // how many of each row

	mu   sync.Mutex
	got  [][]int64 // by row, in the order in which they came
	bad  []string
	seen atomic.Int64
}

const rows = 8

// mostUnread is how far a row is at most ahead of what the average row has got.
const mostUnread = 1_000

func newReceipted(t *testing.T, from, to *crosscomm.Service) *receipted {
	t.Helper()
	r := &receipted{from: from, to: to, accepted: make([]atomic.Int64, rows), got: make([][]int64, rows)}
	to.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		row, number, err := parseRow(m.Text())
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil {
			r.bad = append(r.bad, m.Text())
			return nil
		}
		r.got[row] = append(r.got[row], number)
		r.seen.Add(1)
		return nil
	}, crosscomm.ListenerOptions{From: from.ClientID()})
	for _, c := range []*crosscomm.Service{to, from} {
		if err := c.Login(patience(t)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func parseRow(text string) (row int, number int64, err error) {
	before, after, _ := strings.Cut(text, ":")
	if row, err = strconv.Atoi(before); err == nil {
		number, err = strconv.ParseInt(after, 10, 64)
	}
	if err == nil && (row < 0 || row >= rows) {
		err = fmt.Errorf("row %d", row)
	}
	return row, number, err
}

// send sends until ctx ends; each row then waits for its last one.
func (r *receipted) send(ctx context.Context, t *testing.T, sending *sync.WaitGroup) {
	for row := range rows {
		stage := crosscomm.Accepted + crosscomm.Stage(row%3)
		if r.unread {
			stage = crosscomm.Sent
		}
		sending.Go(func() {
			for ctx.Err() == nil {
				number := r.accepted[row].Load()
				if number > mostUnread && r.seen.Load() < rows*(number-mostUnread) {
					<-time.After(time.Millisecond) // or its queue would drop the oldest
					continue
				}
				if err := r.from.SendMessage(t.Context(), fmt.Sprintf("%d:%d", row, number), crosscomm.TypeText, r.to.ClientID(), stage); err != nil {
					t.Errorf("%s, row %d, number %d: %v", r.from.ClientID(), row, number, err)
					return
				}
				r.accepted[row].Add(1)
			}
		})
	}
}

// check waits until all that was accepted has come, and checks that it came once, in
// order.
func (r *receipted) check(t *testing.T) (messages int64) {
	t.Helper()
	for row := range rows {
		messages += r.accepted[row].Load()
	}
	testkit.Eventually(t, fmt.Sprintf("%s has %d messages", r.to.ClientID(), messages), func() bool { return r.seen.Load() >= messages })
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.bad) > 0 {
		t.Errorf("it got %q", r.bad)
	}
	for row, got := range r.got {
		want := int64(0)
		for i, number := range got {
			if number != want {
				t.Errorf("%s, row %d: message %d is number %d: %v", r.to.ClientID(), row, i, number, got[max(0, i-5):min(len(got), i+5)])
				break
			}
			want++
		}
		if want != r.accepted[row].Load() {
			t.Errorf("%s, row %d: %d of %d came", r.to.ClientID(), row, want, r.accepted[row].Load())
		}
	}
	return messages
}

// startReceiptServer starts the program with queues in the directory. It may be started
// before another one on the same port has ended.
func startReceiptServer(t *testing.T, port, dir string) (p *subprocess.Process, listening func()) {
	t.Helper()
	p, events := startProgram(t, nil, "server", "--ip", "127.0.0.1", "--port", port, "--data-dir", dir, "--json", "--log-level", "warn", "--start-timeout", "1m")
	return p, func() {
		t.Helper()
		await(t, events, "listening")
	}
}

// The server is killed at random moments while clients send with receipts. All that
// was accepted comes once, in order; also to one who comes and goes meanwhile.
func TestAcceptedOutlastsKills(t *testing.T) {
	outlasts(t, "killed", func(server *subprocess.Process, start func() (*subprocess.Process, func())) *subprocess.Process {
		server.Stop()
		server, listening := start()
		listening()
		return server
	})
}

// The same with servers that are told to end, while their successors wait already.
func TestAcceptedOutlastsSuccessions(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // there is no such signal
	}
	outlasts(t, "succeeded", func(server *subprocess.Process, start func() (*subprocess.Process, func())) *subprocess.Process {
		successor, listening := start()
		if err := server.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		testkit.Receive(t, server.Ended())
		if err := server.Cmd.Wait(); err != nil {
			t.Errorf("it ended with %v: %v", err, &server.Stderr)
		}
		listening()
		return successor
	})
}

// outlasts has clients send while one server is replaced by another, again and again.
func outlasts(t *testing.T, how string, replace func(*subprocess.Process, func() (*subprocess.Process, func())) *subprocess.Process) {
	sideBySide(t)
	dir := t.TempDir()
	port := strconv.Itoa(testkit.FreePort(t))
	addr := "127.0.0.1:" + port
	start := func() (*subprocess.Process, func()) { return startReceiptServer(t, port, dir) }
	server, listening := start()
	listening()
	var all []*receipted
	for i := range 3 {
		all = append(all, newReceipted(t, newClient(t, addr, fmt.Sprint("from-", i), crosscomm.Config{}), newClient(t, addr, fmt.Sprint("to-", i), crosscomm.Config{})))
	}
	visitor := all[len(all)-1].to
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sending sync.WaitGroup
	for _, r := range all {
		r.send(ctx, t, &sending)
	}
	rounds := ofFull(5, 100)
	for round := range rounds {
		<-time.After(time.Duration(rand.IntN(ofFull(150, 1000))) * time.Millisecond)
		if round%2 == 0 {
			_ = visitor.Logout(t.Context())
		} else if err := visitor.Login(patience(t)); err != nil {
			t.Logf("round %d: %v", round, err) // the server is away
		}
		<-time.After(time.Duration(rand.IntN(100)) * time.Millisecond)
		server = replace(server, start)
	}
	cancel()
	_ = visitor.Logout(t.Context())
	if err := visitor.Login(patience(t)); err != nil {
		t.Fatal(err)
	}
	sending.Wait()
	messages := int64(0)
	for _, r := range all {
		messages += r.check(t)
	}
	t.Logf("%d times %s: %d messages were accepted, and came once, in order", rounds, how, messages)
}

// The links of both sides are cut at random bytes. All that was accepted comes once, in
// order.
func TestAcceptedOutlastsCuts(t *testing.T) {
	sideBySide(t)
	server := startServer(t, crosscomm.Config{DataDir: t.TempDir()}, nil)
	var links cutLinks
	var all []*receipted
	for i := range 3 {
		all = append(all, newReceipted(t, newClient(t, server.addr, fmt.Sprint("from-", i), links.config(200_000)), newClient(t, server.addr, fmt.Sprint("to-", i), links.config(200_000))))
	}
	links.cut(t, all, ofFull(30, 1000))
}

// A server that keeps what is not read loses nothing with the links of its receivers,
// although nobody waits for a receipt.
func TestUnreadOutlastsCuts(t *testing.T) {
	sideBySide(t)
	server := startServer(t, crosscomm.Config{DataDir: t.TempDir(), Queues: crosscomm.Queues{Unread: true}}, nil)
	var links cutLinks
	var all []*receipted
	for i := range 3 {
		r := newReceipted(t, newClient(t, server.addr, fmt.Sprint("from-", i), crosscomm.Config{}), newClient(t, server.addr, fmt.Sprint("to-", i), links.config(4_000))) // it writes nothing but reports
		r.unread = true
		all = append(all, r)
	}
	links.cut(t, all, ofFull(30, 1000))
}

// cutLinks are links that are cut at random bytes, as long as they are not calm.
type cutLinks struct {
	cuts atomic.Int64
	calm atomic.Bool
}

// config is of a client whose links are cut after some bytes that they have read, or
// written: at most so many.
func (c *cutLinks) config(mostWritten int) crosscomm.Config {
	return crosscomm.Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil || c.calm.Load() {
			return conn, err
		}
		c.cuts.Add(1)
		f := fault{readCut: never, writeCut: never, how: cutting(rand.IntN(2))}
		if rand.IntN(2) == 0 {
			f.readCut = 2000 + rand.IntN(200_000)
		} else {
			f.writeCut = 2000 + rand.IntN(mostWritten)
		}
		return newFaultConn(conn, f), nil
	}}
}

// cut has all of them send until so many links were cut, and checks what came.
func (c *cutLinks) cut(t *testing.T, all []*receipted, links int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sending sync.WaitGroup
	for _, r := range all {
		r.send(ctx, t, &sending)
	}
	for c.cuts.Load() < int64(links) && !t.Failed() {
		<-time.After(10 * time.Millisecond)
	}
	c.calm.Store(true)
	cancel()
	sending.Wait()
	messages := int64(0)
	for _, r := range all {
		messages += r.check(t)
	}
	t.Logf("%d links cut at random bytes: %d messages came once, in order", c.cuts.Load(), messages)
}

// The receiver is killed at random moments. Nothing is lost, and what it gets again is
// what it had not reported.
func TestReceiverIsKilled(t *testing.T) {
	sideBySide(t)
	server := startServer(t, crosscomm.Config{DataDir: t.TempDir()}, nil)
	sender := login(t, server.addr, "sender")
	var accepted atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	listen := func() (*subprocess.Process, <-chan map[string]any) {
		p, events := startProgram(t, nil, "listen", "--server", server.addr, "--id", "killed", "--json")
		await(t, events, "up")
		return p, events
	}
	listener, events := listen()
	var sending sync.WaitGroup
	sending.Go(func() {
		for ctx.Err() == nil {
			if err := sender.SendMessage(t.Context(), fmt.Sprint(accepted.Load()), crosscomm.TypeText, "killed", crosscomm.Accepted); err != nil {
				t.Error(err)
				return
			}
			accepted.Add(1)
		}
	})
	next, again := int64(0), int64(0)
	take := func(event map[string]any, isFirst bool) {
		if event["event"] != "message" {
			return
		}
		content, _ := event["content"].(string)
		number, err := strconv.ParseInt(content, 10, 64)
		switch {
		case err != nil, number > next, !isFirst && number != next:
			t.Fatalf("it got %v, and not %d", event, next)
		}
		again += next - number
		next = number + 1
	}
	rounds := ofFull(4, 100)
	for range rounds {
		<-time.After(time.Duration(rand.IntN(ofFull(150, 1000))) * time.Millisecond)
		listener.Stop()
		first := true
		for len(events) > 0 {
			event := <-events
			take(event, first)
			first = first && event["event"] != "message"
		}
		listener, events = listen()
	}
	cancel()
	sending.Wait()
	for first := true; next < accepted.Load(); {
		event := testkit.Receive(t, events)
		take(event, first)
		first = first && event["event"] != "message"
	}
	t.Logf("%d times killed: %d messages were accepted and came in order; %d of them came again", rounds, accepted.Load(), again)
}

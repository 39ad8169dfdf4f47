package torture

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// cutRun is one life of our client, whose first connection is cut.
type cutRun struct {
	server *server
	heard  <-chan *crosscomm.Message // by the server, of this client
	secure *tls.Config               // nil for none
	url    string
	id     string
	round  int

	mu    sync.Mutex
	conns []*faultConn // guarded by mu
}

// dialer returns how the client opens connections, of which the first has the fault:
// itself, or, which leaves the client a real socket, on the way to the server.
func (r *cutRun) dialer(f fault, onTheWay bool, proxies *sync.WaitGroup) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		mine := f
		if len(r.conns) > 0 {
			mine = fault{readCut: never, writeCut: never}
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if !onTheWay {
			faulty := newFaultConn(conn, mine)
			r.conns = append(r.conns, faulty)
			if mine.readCut == 0 {
				_ = faulty.cut(true)
			} else if mine.writeCut == 0 {
				_ = faulty.cut(false)
			}
			return faulty, nil
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			conn.Close()
			return nil, err
		}
		defer l.Close()
		outer, err := new(net.Dialer).DialContext(ctx, network, l.Addr().String())
		if err != nil {
			conn.Close()
			return nil, err
		}
		inner, err := l.Accept()
		if err != nil {
			conn.Close()
			outer.Close()
			return nil, err
		}
		mine.readCut, mine.writeCut = mine.writeCut, mine.readCut // as its other end sees it
		faulty := newFaultConn(inner, mine)
		r.conns = append(r.conns, faulty)
		proxies.Go(func() { proxy(faulty, newFaultConn(conn, fault{readCut: never, writeCut: never})) })
		return outer, nil
	}
}

const eachWay = 4

// text is a message of the client's or to it.
func (r *cutRun) text(n int) string {
	size := n
	if n == 2 {
		size = large
	}
	return fmt.Sprintf("%d/%d %s", r.round, n, strings.Repeat("x", size))
}

// live has the client log in, list, send and hear, while its first connection has the
// fault, and log out. It returns how many bytes of each direction passed there, and
// whether it was cut.
func (r *cutRun) live(t *testing.T, f fault, onTheWay bool) (read, written int, cut bool) {
	t.Helper()
	r.round++
	r.conns = nil
	var proxies sync.WaitGroup
	defer proxies.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	var ups, downs atomic.Int32
	c, err := crosscomm.New(crosscomm.Config{
		Role: crosscomm.Client, ClientID: r.id, URL: r.url, TLS: r.secure, DialContext: r.dialer(f, onTheWay, &proxies),
		BackoffMin: time.Millisecond, BackoffMax: 5 * time.Millisecond,
		OnUp: func() { ups.Add(1) }, OnDown: func(error) { downs.Add(1) },
	})
	if err != nil {
		t.Error(err)
		return 0, 0, false
	}
	defer logout(t, c)
	onClient := collect(c)
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%+v, on the way: %v: %s", f, onTheWay, fmt.Sprintf(format, args...))
	}
	if err := c.Login(ctx); err != nil {
		if !strings.HasPrefix(err.Error(), "crosscomm: Login to "+c.Config().URL+": ") || ctx.Err() != nil || errors.Is(err, crosscomm.ErrLoginRejected) {
			fail("Login: %v", err)
		}
		if err := c.Login(ctx); err != nil {
			fail("Login again: %v", err)
			return 0, 0, true
		}
	}
	var both sync.WaitGroup
	both.Go(func() {
		for n := range eachWay {
			// It may be offline just now.
			if err := r.server.SendMessage(ctx, r.text(n), crosscomm.TypeText, r.id); err != nil && !errors.Is(err, crosscomm.ErrOffline) {
				fail("the server's SendMessage: %v", err)
			}
		}
	})
	toServer := func(text string) error { return c.SendMessage(ctx, text, crosscomm.TypeText, crosscomm.ServerID) }
	for n := range eachWay {
		if err := toServer(r.text(n)); err != nil {
			fail("SendMessage: %v", err)
		}
	}
	both.Wait()
	// Its answer is the last that the cut connection can have brought, or the first of
	// the next one. A link that breaks under it makes it fail.
	for _, err = c.ListClients(ctx, true); err != nil && ctx.Err() == nil; {
		_, err = c.ListClients(ctx, true)
	}
	if err != nil {
		fail("ListClients: %v", err)
	}
	toClient := func(text string) error {
		for {
			err := r.server.SendMessage(ctx, text, crosscomm.TypeText, r.id)
			if !errors.Is(err, crosscomm.ErrOffline) || ctx.Err() != nil {
				return err
			}
			runtime.Gosched()
		}
	}
	r.talkAgain(ctx, toClient, onClient, fail)
	sent := r.talkAgain(ctx, toServer, r.heard, fail)
	logout(t, c)
	proxies.Wait() // what passed is known then
	if up, down := ups.Load(), downs.Load(); down != up && down != up-1 {
		fail("%d times up, %d times down", up, down)
	}
	first := r.conns[0]
	if onTheWay {
		return 0, 0, first.isCut()
	}
	if r.secure == nil { // else it is not to be read
		r.checkWritten(sent, fail)
	}
	read, bytes := first.passed()
	return read, len(bytes), first.isCut()
}

// talkAgain checks what has come, and sends further messages until one has come. A
// link that breaks may take such with it that it has taken. It returns how many were
// sent.
func (r *cutRun) talkAgain(ctx context.Context, send func(text string) error, heard <-chan *crosscomm.Message, fail func(string, ...any)) (sent int) {
	last := -1
	for sent = eachWay; ctx.Err() == nil; sent++ {
		if err := send(r.text(sent)); err != nil {
			fail("SendMessage: %v", err)
		}
		for again := time.After(200 * time.Millisecond); again != nil; {
			select {
			case m := <-heard:
				var round, n int
				if _, err := fmt.Sscanf(m.Text(), "%d/%d ", &round, &n); err != nil || round != r.round || m.Text() != r.text(n) {
					fail("got %.40q", m.Text())
				} else if n <= last {
					fail("got message %d after %d", n, last)
				}
				if last = n; last == sent {
					return sent + 1
				}
			case <-again:
				again = nil
			}
		}
	}
	fail("nothing comes any more")
	return sent
}

// checkWritten checks that of each message for which SendMessage has returned nil the
// whole was written once, in order.
func (r *cutRun) checkWritten(sent int, fail func(string, ...any)) {
	n := 0
	for _, conn := range r.conns {
		_, written := conn.passed()
		for _, text := range texts(written) {
			if !strings.Contains(text, `"msg_type":"text"`) {
				continue
			}
			if !strings.Contains(text, `"`+r.text(n)+`"`) {
				fail("%.300s was written as message %d", text, n)
			}
			n++
		}
	}
	if n != sent {
		fail("%d messages were written whole, want %d", n, sent)
	}
}

// clientRuns are so many clients of a server.
func clientRuns(t *testing.T, n int, secure bool) (runs []*cutRun) {
	t.Helper()
	srv, trust := startMaybeSecure(t, crosscomm.Config{}, secure)
	for i := range n {
		r := &cutRun{server: srv, id: fmt.Sprint("client-", i), secure: trust, url: srv.url()}
		r.heard = collectFrom(srv.Service, r.id)
		runs = append(runs, r)
	}
	return runs
}

// cutEverywhere has the clients' first connections cut, at every stride-th byte of the
// first and of the last thousands, and elsewhere at every farStride-th with -full.
func cutEverywhere(t *testing.T, secure bool, stride, farStride int) {
	runs := clientRuns(t, 4, secure)
	whole := fault{readCut: never, writeCut: never}
	read, written, _ := runs[0].live(t, whole, false)
	before := atRest(t)
	for _, direction := range []struct {
		name  string
		bytes int
		at    func(f *fault) *int
	}{
		{"read", read, func(f *fault) *int { return &f.readCut }},
		{"written", written, func(f *fault) *int { return &f.writeCut }},
	} {
		var near, far []int
		for i := range direction.bytes {
			if i < 2500 || i > direction.bytes-2500 {
				near = append(near, i)
			} else {
				far = append(far, i)
			}
		}
		cuts := places(near, far, stride, farStride)
		for _, how := range []cutting{closing, resetting, halving} {
			for _, onTheWay := range []bool{false, true} {
				var next, cut atomic.Int64
				var all sync.WaitGroup
				for _, r := range runs {
					all.Go(func() {
						for i := int(next.Add(1)) - 1; i < len(cuts) && !t.Failed(); i = int(next.Add(1)) - 1 {
							f := whole
							f.how = how
							*direction.at(&f) = cuts[i]
							if _, _, was := r.live(t, f, onTheWay); was {
								cut.Add(1)
							}
						}
					})
				}
				all.Wait()
				if t.Failed() {
					return
				}
				returnsTo(t, before)
				where := "at the client"
				if onTheWay {
					where = "on the way"
				}
				t.Logf("TLS: %v; of %d bytes %s, %v %s: %d cuts, %d lives; the client has come back each time, no message was doubled, torn or out of order", secure, direction.bytes, direction.name, how, where, cut.Load(), len(cuts))
				if cut.Load() < int64(len(cuts))/2 {
					t.Errorf("only %d of %d were cut", cut.Load(), len(cuts))
				}
			}
		}
	}
	for _, onTheWay := range []bool{false, true}[:ofFull(1, 2)] {
		slow := whole
		slow.piece = 1
		runs[0].live(t, slow, onTheWay)
	}
	returnsTo(t, before)
	t.Logf("TLS: %v; a byte at a time, %d read and %d written: all came", secure, read, written)
}

// The connection of our client is cut at every byte that it reads or writes, by itself
// and on the way. Login fails or the client comes back by itself; what SendMessage has
// sent was written whole, once and in order.
func TestServerIsCutOff(t *testing.T) { cutEverywhere(t, false, 200, 7) }

// The same over TLS.
func TestServerIsCutOffOverTLS(t *testing.T) { cutEverywhere(t, true, 1000, 50) }

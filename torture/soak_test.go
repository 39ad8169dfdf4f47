package torture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// A rawPeer is a client by hand, for what none of ours would do.
type rawPeer struct {
	*websocket.Conn
	id string
}

// dialRaw opens a connection with a handshake.
func dialRaw(addr string) (*rawPeer, error) {
	conn, _, err := (&websocket.Dialer{HandshakeTimeout: testkit.Patience, ReadBufferSize: 512, WriteBufferSize: 512}).Dial("ws://"+addr+"/", nil)
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(testkit.Patience))
	return &rawPeer{Conn: conn}, nil
}

// loginRaw opens one, and logs in.
func loginRaw(addr, id string) (*rawPeer, error) {
	p, err := dialRaw(addr)
	if err != nil {
		return nil, err
	}
	p.id = id
	if err = p.write("server", "login", "{}"); err == nil {
		var answer []byte
		_, answer, err = p.ReadMessage()
		if err == nil && !strings.Contains(string(answer), `"login_response"`) {
			err = fmt.Errorf("the login was answered with %s", answer)
		}
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	_ = p.SetReadDeadline(time.Time{})
	return p, nil
}

func (p *rawPeer) write(to, typ, content string) error {
	return p.WriteMessage(websocket.TextMessage, []byte(message(p.id, to, typ, content)))
}

// churn is a client that comes and goes until ctx ends: it logs in, sends, says
// something to all, and logs out, closes, is cut or is cut in the middle of a message.
// What others say it reads, but now and then it does not.
func churn(ctx context.Context, addr, id string, lives *atomic.Int64) error {
	r := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	for ctx.Err() == nil {
		p, err := loginRaw(addr, id)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		lives.Add(1)
		var reading sync.WaitGroup
		if r.IntN(10) > 0 {
			reading.Go(func() {
				for {
					if _, _, err := p.NextReader(); err != nil {
						return
					}
				}
			})
		}
		for range r.IntN(20) {
			to := fmt.Sprint("churn-", r.IntN(50))
			if r.IntN(50) == 0 {
				to = crosscomm.All
			}
			if err := p.write(to, "text", `"`+strings.Repeat("z", r.IntN(2000))+`"`); err != nil {
				break
			}
		}
		switch r.IntN(4) {
		case 0:
			_ = p.write("server", "logout", "{}")
			_ = p.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
		case 1:
			_ = p.NetConn().(*net.TCPConn).SetLinger(0)
		case 2:
			_, _ = p.NetConn().Write([]byte{wholeText, 0xfe, 0x10, 0})
		}
		p.Close()
		reading.Wait()
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(r.IntN(50)) * time.Millisecond):
		}
	}
	return nil
}

// stayers are two clients of ours that stay, of which one sends to the other.
type stayers struct {
	from, to *crosscomm.Service
	got      atomic.Int64
}

// newStayers has the receiver count, and complain of what is not the next one.
func newStayers(t *testing.T, addr string, i int) *stayers {
	t.Helper()
	s := &stayers{from: login(t, addr, fmt.Sprint("from-", i))}
	s.to = login(t, addr, fmt.Sprint("to-", i))
	s.to.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		if want := fmt.Sprint(s.got.Load()); m.Text() != want {
			t.Errorf("%s got %.20q, want %q", s.to.ClientID(), m.Text(), want)
		}
		s.got.Add(1)
		return nil
	}, crosscomm.ListenerOptions{From: s.from.ClientID()})
	return s
}

// Clients come and go for hours while others stay. Whenever all that come and go have
// gone, the server holds what it held before: neither memory nor goroutines nor files
// grow. What is sent between those that stay comes once and in order.
func TestSoak(t *testing.T) {
	sideBySide(t)
	duration := *soakFor
	if duration == 0 {
		duration = time.Duration(ofFull(4, 7200)) * time.Second
	}
	clients := ofFull(100, 2000)
	const cycles = 12
	server := startChild(t, childConfig{})
	var staying []*stayers
	for i := range 5 {
		staying = append(staying, newStayers(t, server.addr, i))
	}
	var sent, lives atomic.Int64
	cycle := func(d time.Duration) figures {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				if err := churn(ctx, server.addr, fmt.Sprint("churn-", i), &lives); err != nil {
					t.Error(err)
				}
			})
		}
		for _, s := range staying {
			all.Go(func() {
				for n := s.got.Load(); ctx.Err() == nil; n++ {
					if err := s.from.SendMessage(t.Context(), fmt.Sprint(n), crosscomm.TypeText, s.to.ClientID()); err != nil {
						t.Error(err)
						return
					}
					sent.Add(1)
					if n%20 == 0 {
						<-time.After(time.Millisecond)
					}
				}
			})
		}
		all.Wait()
		testkit.Eventually(t, "all that was sent has come", func() bool {
			got := int64(0)
			for _, s := range staying {
				got += s.got.Load()
			}
			return got == sent.Load()
		})
		testkit.Eventually(t, "only those that stay are there", func() bool {
			list, err := staying[0].from.ListClients(t.Context(), true)
			return err == nil && list.TotalCount == 2*len(staying)
		})
		return server.figures()
	}
	cycle(min(duration/cycles, time.Minute)) // the first brings pools to their size
	var samples []figures
	for range cycles {
		if t.Failed() {
			return
		}
		samples = append(samples, cycle(duration/cycles))
		t.Logf("at rest: %v", samples[len(samples)-1])
	}
	t.Logf("%d clients for %v: %d lives; %d messages between those that stayed, each came once and in order", clients, duration, lives.Load(), sent.Load())
	first, last := samples[:cycles/3], samples[cycles-cycles/3:]
	for _, f := range []struct {
		name string
		of   func(figures) int64
		// How much more the last third may have, as a part and in itself.
		part, more int64
		because    string
	}{
		{"goroutines", func(f figures) int64 { return int64(f.Goroutines) }, 0, 5, "a connection of the last moment may still be ending, and the state file be written"},
		{"files", func(f figures) int64 { return int64(f.Files) }, 0, 5, "the same"},
		{"heap", func(f figures) int64 { return f.Heap }, 10, 2 << 20, "pools have been emptied or not, and blocks lie in them"},
		{"resident memory", func(f figures) int64 { return f.Memory }, 10, 8 << 20, "of the pages in use some are full and some are not"},
	} {
		mean := func(samples []figures) (sum int64) {
			for _, s := range samples {
				sum += f.of(s)
			}
			return sum / int64(len(samples))
		}
		before, after := mean(first), mean(last)
		t.Logf("%s: %d in the first third, %d in the last; it may be %d%% and %d more, for %s", f.name, before, after, f.part, f.more, f.because)
		if after > before+before*f.part/100+f.more {
			t.Errorf("%s: grows from %d to %d", f.name, before, after)
		}
	}
}

// hold opens so many connections at once that have said something, and returns them.
func hold(t *testing.T, addr string, n int, say string) (conns []net.Conn) {
	t.Helper()
	for range n {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_, err = io.WriteString(conn, say)
		}
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	return conns
}

// endedBy waits until the other end has ended the connections.
func endedBy(t *testing.T, conns []net.Conn) {
	t.Helper()
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(testkit.Patience))
		_, err := io.Copy(io.Discard, conn)
		var network net.Error
		if errors.As(err, &network) && network.Timeout() {
			t.Fatal("the server does not end it")
		}
		conn.Close()
	}
}

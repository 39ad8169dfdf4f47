package crosscomm_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

const (
	burstMessages  = 100 // in a burst of a flood
	aheadOfReaders = 20  // bursts that are written and not read yet
)

// flood writes the bursts until stop is closed or the connection ends. With a
// window it is only so far ahead of who reads.
func (p *rawPeer) flood(stop <-chan struct{}, ahead window, next func() []byte) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if ahead != nil {
			select {
			case <-stop:
				return
			case ahead <- struct{}{}:
			}
		}
		if _, err := p.NetConn().Write(next()); err != nil {
			return
		}
	}
}

// window holds a token for each burst that is written and not read yet. A reader
// that a flood outruns would be closed as too slow, or not get in time what is
// queued when it is replaced, which is not what is tested.
type window chan struct{}

// read takes the token of one burst.
func (w window) read() {
	select {
	case <-w:
	default: // it was written without one
	}
}

// The answer to the login is the first frame of a connection, however many
// messages wait for the client.
func TestWelcomeComesFirst(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	stop := make(chan struct{})
	var floods sync.WaitGroup
	for s := range 3 {
		p := loginRaw(t, server.addr, fmt.Sprint("s", s))
		text := frameOf(p.id, "x", "text", `"flood"`)
		data := testkit.Burst(text, text, text, text, text)
		floods.Go(func() { p.flood(stop, nil, func() []byte { return data }) })
	}
	for range 100 {
		p := dialRaw(t, server.addr)
		p.write(frameOf("x", "server", "login", "{}"))
		if got := p.read(); !strings.Contains(got, "login_response") {
			t.Errorf("first came %s", got)
		}
		p.Close()
	}
	close(stop)
	floods.Wait()
}

// What a listener of the server answers comes after what came before, or with,
// the message that it answers.
func TestAnswerComesAfterItsCause(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	server.MessageListener(func(ctx context.Context, m *crosscomm.Message) error {
		return server.SendMessage(ctx, "answer", crosscomm.TypeText, "c")
	}, crosscomm.ListenerOptions{})
	c, a := loginRaw(t, server.addr, "c"), loginRaw(t, server.addr, "a")
	others := make([]string, 100) // so that the input is not used up at once
	for i := range others {
		others[i] = frameOf("a", "nobody", "text", `"x"`)
	}
	for i := range 200 {
		texts := []string{frameOf("a", "c", "text", `"cause"`), frameOf("a", "server", "text", `"x"`)}
		if i%2 == 0 {
			texts = []string{frameOf("a", "all", "text", `"cause"`)}
		}
		if _, err := a.NetConn().Write(testkit.Burst(append(texts, others...)...)); err != nil {
			t.Fatal(err)
		}
		if first, second := c.read(), c.read(); !strings.Contains(first, "cause") || !strings.Contains(second, "answer") {
			t.Fatalf("%s came before %s", first, second)
		}
	}
}

// What the older connection of a client brought comes before all that the newer
// one brings.
func TestTakeOverKeepsTheOrder(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	c := loginRaw(t, server.addr, "c")
	for i := range 60 {
		older, newer := fmt.Sprintf(`"old %d"`, i), fmt.Sprintf(`"new %d"`, i)
		old := loginRaw(t, server.addr, "x")
		many := make([]string, burstMessages)
		for n := range many {
			many[n] = frameOf("x", "c", "text", older)
		}
		data := testkit.Burst(many...)
		var flood sync.WaitGroup
		stop, ahead := make(chan struct{}), make(window, aheadOfReaders)
		flood.Go(func() { old.flood(stop, ahead, func() []byte { return data }) })
		c.read() // it is under way
		p := dialRaw(t, server.addr)
		if _, err := p.NetConn().Write(testkit.Burst(frameOf("x", "server", "login", "{}"), frameOf("x", "c", "text", newer))); err != nil {
			t.Fatal(err)
		}
		for n := 1; !strings.Contains(c.read(), newer); n++ {
			if n%burstMessages == 0 {
				ahead.read()
			}
		}
		close(stop)
		flood.Wait()
		p.write(frameOf("x", "c", "text", `"end"`))
		for text := ""; !strings.Contains(text, `"end"`); {
			if text = c.read(); strings.Contains(text, older) {
				t.Fatalf("take-over %d: the older connection's came after the newer one's", i)
			}
		}
		p.Close()
		old.Close()
	}
}

// While an id goes from one connection to the next, each message for it comes at
// one of them, once.
func TestTakeOverLosesNothing(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	a, last := loginRaw(t, server.addr, "a"), loginRaw(t, server.addr, "x")
	var sent, read atomic.Int64
	stop, ahead := make(chan struct{}), make(window, aheadOfReaders)
	var flood, readers sync.WaitGroup
	flood.Go(func() {
		a.flood(stop, ahead, func() []byte {
			texts := make([]string, burstMessages)
			for i := range texts {
				texts[i] = frameOf("a", "x", "text", fmt.Sprintf(`"%d"`, sent.Add(1)))
			}
			return testkit.Burst(texts...)
		})
	})
	var mu sync.Mutex
	seen := map[int]int{}
	for n := range 400 {
		if n > 0 {
			last = loginRaw(t, server.addr, "x")
		}
		p := last
		some := make(chan struct{})
		readers.Go(func() {
			for n := 0; ; n++ {
				if n == 20 {
					close(some)
				}
				_, data, err := p.next()
				if err != nil {
					if !websocket.IsCloseError(err, crosscomm.CloseReplaced, websocket.CloseNormalClosure) {
						t.Error(err)
					}
					return
				}
				var number int
				if _, text, ok := strings.Cut(string(data), `"content": "`); ok {
					if _, err := fmt.Sscanf(text, `%d"`, &number); err == nil {
						mu.Lock()
						seen[number]++
						mu.Unlock()
						if read.Add(1)%burstMessages == 0 {
							ahead.read()
						}
					}
				}
			}
		})
		testkit.Receive(t, some)
	}
	close(stop)
	flood.Wait()
	end := int(sent.Load())
	testkit.Eventually(t, "the last message has come", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return seen[end] > 0
	})
	last.write(frameOf("x", "server", "logout", "{}"))
	_ = last.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
	readers.Wait()
	for number, times := range seen {
		if times != 1 {
			t.Errorf("message %d came %d times", number, times)
		}
	}
	if missing := end - len(seen); missing > 0 {
		t.Errorf("%d of %d messages came nowhere", missing, end)
	}
}

package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

var numberInLine = regexp.MustCompile(`\d+`)

// counted returns what a line says with N in the place of its number, and that number.
func (l conversationLine) counted() (text string, n int) {
	n, _ = strconv.Atoi(numberInLine.FindString(l.text))
	return numberInLine.ReplaceAllString(l.text, "N"), n
}

// serverOf returns the server of a conversation.
func (c conversation) serverOf(t *testing.T) crosscomm.Config {
	var cfg crosscomm.Config
	keepQueues := func(q crosscomm.Queues) { cfg.DataDir, cfg.Queues = t.TempDir(), q }
	for _, l := range c.lines {
		if l.who != "server" {
			continue
		}
		switch text, n := l.counted(); text {
		case "keeps queues":
			keepQueues(crosscomm.Queues{})
		case "keeps queues for N s":
			keepQueues(crosscomm.Queues{MaxAge: time.Duration(n) * time.Second})
		case "keeps queues of N bytes in all":
			keepQueues(crosscomm.Queues{MaxTotalBytes: int64(n)})
		case "holds N bytes for a client":
			cfg.Limits.QueuedBytes = n
		case "holds N bytes in all":
			cfg.Limits.TotalQueuedBytes = n
		case "asks for tokens":
			cfg.TokenFile = filepath.Join(t.TempDir(), "tokens")
			if err := os.WriteFile(cfg.TokenFile, []byte("* SECRET\nrobot ROBOTS\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		case "takes N failed login a minute":
			cfg.Limits.FailedLoginsPerMinute = n
		case "waits N s for a login":
			cfg.Limits.LoginTimeout = time.Duration(n) * time.Second
		case "stops", "N s pass": // later
		default:
			t.Fatalf("%v: %q is not understood", l, l.text)
		}
	}
	return cfg
}

// inMemory reports whether a conversation has what needs synctest's clock, or a network
// that holds nothing for who does not read.
func (c conversation) inMemory() bool {
	for _, l := range c.lines {
		if text, _ := l.counted(); text == "N s pass" || l.text == "reads no more" {
			return true
		}
	}
	return false
}

// talkedTo is our server as the clients of a conversation find it.
type talkedTo struct {
	*crosscomm.Service
	addr   string
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	stop   func()
	settle func() // in memory it waits until all is done that was begun
}

func (c conversation) startServer(t *testing.T) talkedTo {
	cfg := c.serverOf(t)
	if !c.inMemory() {
		server := startServer(t, cfg)
		return talkedTo{server.Service, server.addr, new(net.Dialer).DialContext, server.stop, func() {}}
	}
	cfg.NoStateFile = true
	pipes := testkit.NewPipes()
	server, stop := serveOn(t, pipes, cfg)
	stop = sync.OnceFunc(stop)
	t.Cleanup(stop)
	return talkedTo{server, "server", pipes.Dial, stop, synctest.Wait}
}

// gatedConn is a connection from which nothing more is read while its gate is shut; what
// is read just then is held back.
type gatedConn struct {
	net.Conn
	gate chan struct{} // holds a token while it is open
}

func newGatedConn(conn net.Conn) *gatedConn {
	c := &gatedConn{conn, make(chan struct{}, 1)}
	c.open()
	return c
}

func (c *gatedConn) shut() { <-c.gate }

// open opens the gate, if it is not open.
func (c *gatedConn) open() {
	select {
	case c.gate <- struct{}{}:
	default:
	}
}

func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	<-c.gate
	c.open()
	return n, err
}

func (c *gatedConn) Close() error {
	c.open()
	return c.Conn.Close()
}

// The clients' side of each conversation gets from our server what the conversation has,
// and nothing else.
func TestConversationServer(t *testing.T) {
	for _, c := range conversations(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.inMemory() {
				synctest.Test(t, func(t *testing.T) { playClients(t, c) })
				return
			}
			playClients(t, c)
		})
	}
}

// clientsPart is a run of the clients' side.
type clientsPart struct {
	t       *testing.T
	server  talkedTo
	open    map[string]*wireConn
	refused map[string]int // the status of handshakes
	values  placeholders
}

func playClients(t *testing.T, c conversation) {
	p := &clientsPart{t: t, server: c.startServer(t), open: map[string]*wireConn{}, refused: map[string]int{}, values: placeholders{}}
	for _, l := range c.lines {
		if err := p.play(l); err != nil {
			t.Fatalf("%v: %v", l, err)
		}
		p.server.settle()
	}
	for who, conn := range p.open {
		if err := conn.write(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")); err != nil {
			t.Fatal(err)
		}
		if e := testkit.Receive(t, conn.events); e.kind != "close" {
			t.Errorf("%s got more than the conversation has: %v", who, e)
		}
	}
}

// play has one line happen.
func (p *clientsPart) play(l conversationLine) error {
	if l.who == "server" {
		switch text, n := l.counted(); text {
		case "stops":
			go p.server.stop()
		case "N s pass":
			<-time.After(time.Duration(n) * time.Second)
		}
		return nil
	}
	if with, ok := l.connects(); ok {
		return p.connect(l.who, with)
	}
	if status, ok := l.is("<", "http"); ok {
		if fmt.Sprint(p.refused[l.who]) != status {
			return fmt.Errorf("got %d", p.refused[l.who])
		}
		return nil
	}
	conn := p.open[l.who]
	if conn == nil {
		return errors.New("there is no connection")
	}
	switch l.way {
	case ">":
		return conn.say(l, p.values)
	case "<":
		if err := heard(l, testkit.Receive(p.t, conn.events), p.values); err != nil {
			return err
		}
		if _, ok := l.is("<", "close"); ok {
			p.gone(l.who)
		}
		return nil
	}
	switch l.text {
	case "loses its link":
		conn.NetConn().Close()
		p.gone(l.who)
	case "reads no more":
		conn.NetConn().(*gatedConn).shut()
	case "reads on":
		conn.NetConn().(*gatedConn).open()
	case "answers no ping":
		conn.mute.Store(true)
	default:
		return fmt.Errorf("%q is not understood", l.text)
	}
	return nil
}

func (p *clientsPart) connect(who string, with connecting) error {
	dialer := websocket.Dialer{NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := p.server.dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return newGatedConn(conn), nil
	}}
	if with.agreed {
		dialer.Subprotocols = []string{"crosscomm.v3"}
	}
	ws, resp, err := dialer.DialContext(testContext(p.t), "ws://"+p.server.addr+with.address, with.header)
	switch {
	case errors.Is(err, websocket.ErrBadHandshake):
		p.refused[who] = resp.StatusCode
		return nil
	case err != nil:
		return err
	}
	p.open[who] = newWireConn(p.t, ws)
	if selected := ws.Subprotocol(); (selected == "crosscomm.v3") != with.agreed {
		return fmt.Errorf("the subprotocol is %q", selected)
	}
	return nil
}

// gone is called when a connection has ended. The server must know that before others say
// what depends on it.
func (p *clientsPart) gone(who string) {
	p.open[who].Close()
	delete(p.open, who)
	testkit.Eventually(p.t, who+" is gone", func() bool { return p.server.Stats().Connections == len(p.open) })
}

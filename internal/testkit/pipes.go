package testkit

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Pipes is a network in memory, for tests whose clock is synctest's: a wait
// for a real socket would stop that. It is the listener of its one server.
type Pipes struct {
	Conns chan net.Conn // the server's ends of the connections
	done  chan struct{}
	once  sync.Once
}

// NewPipes returns a network without connections.
func NewPipes() *Pipes { return &Pipes{Conns: make(chan net.Conn), done: make(chan struct{})} }

// Accept implements net.Listener.
func (p *Pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.Conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *Pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// Addr implements net.Listener.
func (p *Pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// Dial connects to the server.
func (p *Pipes) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.Conns <- there:
		return here, nil
	case <-p.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

package torture

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
)

// A cutting is how a connection is cut.
type cutting int

// A closed connection says goodbye to the other end, one that was reset says that
// it is gone, and one that is halved goes on in the other direction.
const (
	closing cutting = iota
	resetting
	halving
)

// String implements fmt.Stringer.
func (c cutting) String() string { return [...]string{"closed", "reset", "halved"}[c] }

// never is after how many bytes what is never cut is cut.
const never = -1

// fault is what befalls a connection.
type fault struct {
	readCut, writeCut int // after so many bytes of this direction, or never
	how               cutting
	piece             int // how many bytes pass at a time, at most; 0 is any number
}

var errCut = errors.New("the connection was cut")

// faultConn is a TCP connection that a fault befalls. It has no more than the methods
// of net.Conn: with others package net would go past Read and Write.
type faultConn struct {
	net.Conn
	tcp *net.TCPConn // the same
	fault
	mu       sync.Mutex
	read     int          // bytes; guarded by mu
	written  bytes.Buffer // what the socket has taken; guarded by mu
	readEnd  error        // what reading has come to; guarded by mu
	writeEnd error        // the same of writing
}

func newFaultConn(conn net.Conn, f fault) *faultConn {
	return &faultConn{Conn: conn, tcp: conn.(*net.TCPConn), fault: f}
}

// room returns how many of n bytes may pass now, if so many have.
func (f fault) room(n, passed, cut int) int {
	if f.piece > 0 {
		n = min(n, f.piece)
	}
	if cut != never {
		n = min(n, cut-passed)
	}
	return n
}

// Read implements net.Conn.
func (c *faultConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	end, room := c.readEnd, c.room(len(p), c.read, c.readCut)
	c.mu.Unlock()
	if end == nil && room == 0 && len(p) > 0 {
		end = c.cut(true)
	}
	if end != nil {
		return 0, end
	}
	n, err := c.tcp.Read(p[:room])
	c.mu.Lock()
	c.read += n
	last := c.read == c.readCut
	c.mu.Unlock()
	if last {
		_ = c.cut(true)
	}
	return n, err
}

// Write implements net.Conn.
func (c *faultConn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		c.mu.Lock()
		end, room := c.writeEnd, c.room(len(p)-n, c.written.Len(), c.writeCut)
		c.mu.Unlock()
		if end == nil && room == 0 {
			end = c.cut(false)
		}
		if end != nil {
			return n, end
		}
		m, err := c.tcp.Write(p[n : n+room])
		c.mu.Lock()
		c.written.Write(p[n : n+m])
		last := c.written.Len() == c.writeCut
		c.mu.Unlock()
		n += m
		if last {
			_ = c.cut(false)
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// CloseWrite closes the direction that is written, as that of net.TCPConn.
func (c *faultConn) CloseWrite() error { return c.tcp.CloseWrite() }

// cut cuts the connection, and returns what the direction has come to. One that
// is halved while it is read is as if the other end had closed its half.
func (c *faultConn) cut(reading bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.how == halving && reading {
		c.readEnd = io.EOF
		return c.readEnd
	}
	c.writeEnd = errCut
	switch c.how {
	case halving:
		_ = c.tcp.CloseWrite()
		return errCut
	case resetting:
		_ = c.tcp.SetLinger(0)
	}
	c.readEnd = errCut
	c.Close()
	return errCut
}

// isCut reports whether the fault has befallen it.
func (c *faultConn) isCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.readEnd != nil || c.writeEnd != nil
}

// passed returns how many bytes were read, and those that were written.
func (c *faultConn) passed() (read int, written []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read, bytes.Clone(c.written.Bytes())
}

// proxy passes bytes between two connections, of which one may have a fault, until
// one direction ends, which it passes on; it returns when both have ended.
func proxy(near, far *faultConn) {
	var both sync.WaitGroup
	for _, way := range [][2]*faultConn{{near, far}, {far, near}} {
		both.Go(func() {
			from, to := way[0], way[1]
			if _, err := io.Copy(to, from); err == nil {
				_ = to.CloseWrite()
				return
			}
			from.Close()
			to.Close()
		})
	}
	both.Wait()
	near.Close()
	far.Close()
}

package link

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// ReadBufferSize is what gorilla is to be given as its own read buffer, at
	// both ends: below it lies that of the Input, which is there only while it is
	// needed.
	ReadBufferSize = 128
	// ownBuffer is how large an Input's buffer is that cannot be given back while
	// it waits.
	ownBuffer = 4 << 10
	// mostAhead is how often in a row input is read without a word to beforeWait,
	// although there is always more.
	mostAhead = 4
)

// Input is the bytes that come in on a connection. A plain socket is read into a
// block, which is given back before the socket is waited for. It belongs to the
// goroutine that reads, but for raw, which never changes after Conn, and waiting.
// The zero value is ready.
type Input struct {
	beforeWait func() // called before input is waited for, and now and then while there is always more; may be nil

	block *block // for what is read from a plain socket; nil while it is waited for
	own   []byte // the same for other connections, for good
	left  []byte // what was read and is not taken yet
	full  bool   // whether the last read has filled its buffer, so that there may be more
	ahead int    // reads since beforeWait was last called

	raw     syscall.RawConn       // nil if it is no plain socket
	readRaw func(fd uintptr) bool // readNow
	n       int                   // what it has read
	err     error                 // why not
	timed   bool                  // whether waiting is kept
	epoch   time.Time
	waiting atomic.Int64 // since when it waits for input, in ns after epoch; 0 for not
}

// Watch returns a ResponseWriter for a WebSocket handshake, whose connection's
// input this is.
func (i *Input) Watch(w http.ResponseWriter) http.ResponseWriter { return &watched{w, i} }

type watched struct {
	http.ResponseWriter
	input *Input
}

// Unwrap is for http.ResponseController.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w *watched) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return w.input.Conn(conn), rw, nil
}

// Conn returns the connection, but that its input is this.
func (i *Input) Conn(conn net.Conn) net.Conn {
	if i.raw = plainSocket(conn); i.raw != nil {
		i.readRaw = i.readNow
	} else {
		i.own = make([]byte, ownBuffer)
	}
	return &inputConn{Conn: conn, input: i}
}

// read takes some bytes of what comes in on the connection.
func (i *Input) read(conn net.Conn, p []byte) (int, error) {
	if len(i.left) == 0 {
		if err := i.fill(conn); err != nil {
			return 0, err
		}
	}
	n := copy(p, i.left)
	i.left = i.left[n:]
	return n, nil
}

// fill reads, so that something is left.
func (i *Input) fill(conn net.Conn) error {
	if i.full && i.ahead < mostAhead {
		i.ahead++
		if err := i.raw.Read(i.readRaw); err != nil {
			return err
		}
		if i.block != nil {
			return i.filled(conn)
		}
	}
	i.release()
	i.ahead = 0
	if i.beforeWait != nil {
		i.beforeWait()
	}
	if i.timed {
		i.waiting.Store(int64(time.Since(i.epoch)))
		defer i.waiting.Store(0)
	}
	if i.raw != nil {
		if err := i.raw.Read(i.readRaw); err != nil {
			return err
		}
		return i.filled(conn)
	}
	n, err := conn.Read(i.own)
	i.left = i.own[:n]
	if n > 0 {
		return nil // the error comes again
	}
	return err
}

// filled takes the outcome of readNow.
func (i *Input) filled(conn net.Conn) error {
	switch {
	case i.err != nil:
		return &net.OpError{Op: "read", Net: conn.LocalAddr().Network(), Source: conn.LocalAddr(), Addr: conn.RemoteAddr(), Err: i.err}
	case i.n == 0:
		return io.EOF
	}
	i.left, i.full = i.block.data[:i.n], i.n == len(i.block.data)
	return nil
}

// readNow reads without waiting. It reports false to wait for more if there is
// nothing yet, but not while it reads ahead: then there is no block after it.
func (i *Input) readNow(fd uintptr) bool {
	if i.block == nil {
		i.block = newBlock()
	}
	i.n, i.err = readSocket(fd, i.block.data[:])
	if i.err == errWouldBlock {
		i.release()
		return i.ahead > 0
	}
	return true
}

// release gives up what is left, and the room for it.
func (i *Input) release() {
	i.block.release()
	i.block, i.left, i.full = nil, nil, false
}

// inputConn is a connection of which an Input reads.
type inputConn struct {
	net.Conn
	input *Input
	ours  bool // whether a link writes, after the handshake, and gorilla may not
	// lastWords is what gorilla would have written by itself, on the reading
	// goroutine: the close frame with which it answers a peer that breaks the
	// rules. It must take its turn after what is being written.
	lastWords []byte
}

// Read implements net.Conn.
func (c *inputConn) Read(p []byte) (int, error) { return c.input.read(c.Conn, p) }

// Write implements net.Conn.
func (c *inputConn) Write(p []byte) (int, error) {
	if !c.ours {
		return c.Conn.Write(p)
	}
	c.lastWords = bytes.Clone(p)
	return len(p), nil
}

// SetWriteDeadline implements net.Conn.
func (c *inputConn) SetWriteDeadline(t time.Time) error {
	if !c.ours {
		return c.Conn.SetWriteDeadline(t)
	}
	return nil
}

// CloseWrite closes one direction of a TCP connection; others it leaves alone.
func (c *inputConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

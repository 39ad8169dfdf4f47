package link

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// ReadBufferSize is what gorilla is to be given as its own read buffer, at
	// both ends: it needs that only for the handshake, and below it lies that of the
	// Input.
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
	conn       net.Conn
	blankLine  bool   // during the handshake: whether the line that comes is empty so far
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
	i.conn = conn
	if i.raw = plainSocket(conn); i.raw != nil {
		i.readRaw = i.readNow
	} else {
		i.own = make([]byte, ownBuffer)
	}
	return &inputConn{conn, i}
}

// fill reads when nothing is left, so that something is.
func (i *Input) fill() error {
	if i.full && i.ahead < mostAhead {
		i.ahead++
		if err := i.raw.Read(i.readRaw); err != nil {
			return err
		}
		if i.block != nil {
			return i.filled()
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
		return i.filled()
	}
	n, err := i.conn.Read(i.own)
	i.left = i.own[:n]
	if n > 0 {
		return nil // the error comes again
	}
	return err
}

// filled takes the outcome of readNow.
func (i *Input) filled() error {
	switch {
	case i.err != nil:
		conn := i.conn
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

// inputConn is a connection of which an Input reads, as the handshake sees it.
type inputConn struct {
	net.Conn
	input *Input
}

// Read implements net.Conn. Who makes the handshake reads ahead, and what he has read
// of the first frames would be lost: so he gets no more at once than up to an empty
// line, with which the headers end.
func (c *inputConn) Read(p []byte) (int, error) {
	i := c.input
	if len(i.left) == 0 {
		if err := i.fill(); err != nil {
			return 0, err
		}
	}
	n := i.upToBlankLine(min(len(p), len(i.left)))
	copy(p, i.left[:n])
	i.left = i.left[n:]
	return n, nil
}

// upToBlankLine returns how many of the next n bytes come before the end of the next
// empty line, that included.
func (i *Input) upToBlankLine(n int) int {
	for k, c := range i.left[:n] {
		switch {
		case c == '\n' && i.blankLine:
			return k + 1
		case c == '\n':
			i.blankLine = true
		case c != '\r':
			i.blankLine = false
		}
	}
	return n
}

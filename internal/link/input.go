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
	// ReadBufferSize is what gorilla is to be given as its read buffer, which it
	// does not use: it makes a server's handshake.
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
// goroutine that reads, but for raw, which never changes after Take, and waiting.
// The zero value is ready.
type Input struct {
	conn       net.Conn
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

// Watch returns a ResponseWriter for a server's handshake, whose connection's input
// this is. Who makes the handshake must read nothing of that connection, and write
// nothing after it.
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
	w.input.Take(conn)
	return conn, rw, nil
}

// Take makes this the input of a client's connection, of which nothing was read yet.
func (i *Input) Take(conn net.Conn) {
	i.conn = conn
	if i.raw = plainSocket(conn); i.raw != nil {
		i.readRaw = i.readNow
	} else {
		i.own = make([]byte, ownBuffer)
	}
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

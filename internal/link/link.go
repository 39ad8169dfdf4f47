// Package link is one WebSocket connection as both roles use it: a bounded
// queue of outgoing messages, one goroutine that writes them in order, one
// that reads, and one orderly way to end.
//
// Who may touch the connection: only the reading goroutine (the caller of
// [Link.Run]) reads, only the writing goroutine (started by Run) writes
// messages, pings and pongs. A close frame may be written by either, which
// gorilla allows.
//
// What costs a relay most are system calls and goroutines that are woken. So a
// server's link writes the frames itself ([Options.Join]), as many at once as
// are queued; and whoever relays wakes the writers of many links at once, when
// his own input is used up: see [Batch].
package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

const (
	// lingerTime is how long a connection that we close stays open for the peer
	// to read our close frame and to answer it. Java peers never answer, so it
	// is short; without it, closing a socket with unread input resets it,
	// and the peer may lose what we wrote last.
	lingerTime = 500 * time.Millisecond

	// writeTimeout is how long one message may take to reach the kernel. A peer
	// that stops reading is normally found by its full queue; this finds one to
	// which little is sent.
	writeTimeout = 60 * time.Second
)

var (
	// ErrFull is returned by Send if the message would exceed the bound of
	// the queue.
	ErrFull = errors.New("send queue is full")
	// ErrClosed is returned by Send and Write once the link is closing.
	ErrClosed = errors.New("connection is closing")
	// ErrWithdrawn is returned by Write if its context has ended before the
	// writing of the message began: it was not sent.
	ErrWithdrawn = errors.New("message withdrawn")
)

// itemOverhead is what a message in the queue costs beside its bytes, roughly.
const itemOverhead = 64

// A CloseError is the end of a link by a close frame.
type CloseError struct {
	Code   int
	Reason string
	ByPeer bool // who closed first
}

func (e *CloseError) Error() string {
	who := "closed"
	if e.ByPeer {
		who = "closed by peer"
	}
	if e.Reason == "" {
		return fmt.Sprintf("%s with code %d", who, e.Code)
	}
	return fmt.Sprintf("%s with code %d: %q", who, e.Code, e.Reason)
}

// Options are a link's limits.
type Options struct {
	MaxMessage int           // bytes of one incoming message, after inflation
	MaxQueued  int           // bytes waiting to be written by Send, with an allowance for each message
	PingEvery  time.Duration // 0: no pings, and no limit on the peer's silence
	// Join has messages written together, past gorilla. It is for the server's
	// end of a connection that has not agreed on compression.
	Join bool
}

// A Link is a WebSocket connection. All methods but Run may be called
// concurrently, also before Run.
type Link struct {
	conn *websocket.Conn
	opts Options

	wake    chan struct{} // holds a token if the writer should look at the fields below
	written chan struct{} // closed when the writing goroutine has ended
	read    chan struct{} // closed when reading has ended

	input bytes.Buffer // of the reading goroutine

	deadline  time.Time   // of the writing goroutine: when its time was last extended
	closeSent atomic.Bool // whether a close frame may have been written

	closed chan struct{} // closed when closing becomes true

	mu         sync.Mutex
	queue      []message
	head       int     // where the queue begins
	bytes      int     // of the queue and of the messages being written
	batch      *Batch  // that will wake the writer; nil for none
	pong       *string // the payload of a ping that is to be answered
	closing    bool
	end        error // why, once closing; the first reason stays
	forceClose *time.Timer
	forceAt    time.Time // when that fires
}

// message is one in the queue.
type message struct {
	data   []byte
	waiter *waiter // nil if nobody waits for it
}

// waiter is who waits until his message is written.
type waiter struct {
	written   chan error // has room for the one result
	withdrawn bool       // guarded by Link.mu
}

func (m message) cost() int { return len(m.data) + itemOverhead }

func (m message) finish(err error) {
	if m.waiter != nil {
		m.waiter.written <- err
	}
}

// New makes a link of a connection after its handshake.
func New(conn *websocket.Conn, opts Options) *Link {
	return &Link{
		conn:    conn,
		opts:    opts,
		wake:    make(chan struct{}, 1),
		written: make(chan struct{}),
		read:    make(chan struct{}),
		closed:  make(chan struct{}),
	}
}

// Send queues a text message and never blocks. The data must not be changed
// afterwards; it may be shared by many links. The error is ErrFull or ErrClosed.
func (l *Link) Send(data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.sendLocked(data)
	if err == nil {
		l.signal()
	}
	return err
}

// sendLocked queues a message without a word to the writer, with mu held.
func (l *Link) sendLocked(data []byte) error {
	if l.bytes+len(data) > l.opts.MaxQueued && l.bytes > 0 {
		return ErrFull
	}
	return l.enqueue(message{data: data})
}

// Write queues a text message, whatever the bound of the queue, and waits until
// the kernel has the whole of it. If the link ends before that, the peer cannot
// have got the whole of it, and the error is ErrClosed or the link's. If the
// context ends before that, the error is the context's, and wraps ErrWithdrawn
// if the message was not sent; else it may still arrive.
func (l *Link) Write(ctx context.Context, data []byte) error {
	w := &waiter{written: make(chan error, 1)}
	l.mu.Lock()
	err := l.enqueue(message{data, w})
	l.signal()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case err := <-w.written:
		return err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.queue[l.head:], func(m message) bool { return m.waiter == w })
	if i < 0 {
		select {
		case err := <-w.written: // both at once
			return err
		default:
			return context.Cause(ctx)
		}
	}
	m := &l.queue[l.head+i]
	l.bytes -= m.cost()
	m.data, w.withdrawn = nil, true
	return fmt.Errorf("%w: %w", ErrWithdrawn, context.Cause(ctx))
}

// enqueue must be called with mu held.
func (l *Link) enqueue(m message) error {
	if l.closing {
		return ErrClosed
	}
	l.bytes += m.cost()
	l.queue = append(l.queue, m)
	return nil
}

// Close ends the link, and returns at once: no message is taken any more, what
// is queued is still written, then a close frame with code and reason, and the
// socket is closed when the peer has answered or after a short while. After
// patience it is closed however far this has come. Incoming messages are
// dropped from now on. It reports whether it began the closing; if the link
// was closing already, only the patience counts.
func (l *Link) Close(code int, reason string, patience time.Duration) (began bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	began = !l.closing
	l.closeLocked(&CloseError{Code: code, Reason: reason})
	if at := time.Now().Add(patience); l.forceClose == nil || at.Before(l.forceAt) {
		if l.forceClose != nil {
			l.forceClose.Stop()
		}
		l.forceAt = at
		l.forceClose = time.AfterFunc(patience, func() { l.conn.Close() })
	}
	return began
}

func (l *Link) closeLocked(end error) {
	if !l.closing {
		l.closing, l.end = true, end
		close(l.closed)
		l.signal()
	}
}

// beginEnd begins the end, if it has not begun.
func (l *Link) beginEnd(end error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeLocked(end)
}

// Closing returns a channel that is closed when the link begins to end.
func (l *Link) Closing() <-chan struct{} { return l.closed }

// signal must be called with mu held.
func (l *Link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run reads messages and calls handle with each until the link ends, and
// returns why: a *CloseError or the error of the socket. When it returns the
// socket is closed, no goroutine is left and every Write has its result. It
// must be called once. The data given to handle is handle's to keep.
//
// The handle function reports whether the message is well-formed, which for
// this protocol's messages implies valid UTF-8. So only of a text message that
// is not is UTF-8 looked at here, and bad UTF-8 ends the link, as RFC 6455
// wants it.
func (l *Link) Run(handle func(data []byte, text bool) bool) error {
	go l.writeLoop()
	err := l.readLoop(handle)
	close(l.read)

	l.beginEnd(asCloseError(err))
	l.conn.Close() // frees the writer, should the peer have stopped reading
	<-l.written

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.forceClose != nil {
		l.forceClose.Stop()
	}
	for _, m := range l.queue[l.head:] {
		m.finish(l.end)
	}
	l.queue, l.head = nil, 0
	return l.end
}

func asCloseError(err error) error {
	var ce *websocket.CloseError
	if errors.As(err, &ce) && ce.Code != websocket.CloseAbnormalClosure {
		return &CloseError{Code: ce.Code, Reason: ce.Text, ByPeer: true}
	}
	return err
}

// readLoop returns when reading is over: the peer closed, the socket broke, or
// the peer broke the rules, in which case it was told so.
func (l *Link) readLoop(handle func(data []byte, text bool) bool) error {
	// This limit is for the bytes on the wire, and readMessage's for what they
	// inflate to; deflate may add a little to what it cannot compress.
	l.conn.SetReadLimit(int64(l.opts.MaxMessage) + int64(l.opts.MaxMessage>>8) + 64)
	l.conn.SetPongHandler(func(string) error {
		l.extendDeadline()
		return nil
	})
	// gorilla's own handler would wait for the message that is being written,
	// or give up the pong, for which a peer may end a link that is only slow.
	l.conn.SetPingHandler(func(payload string) error {
		l.extendDeadline()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.pong = &payload
		l.signal()
		return nil
	})
	// The reason must be noted before the close frame is answered: after that
	// writing fails, which is no reason.
	l.conn.SetCloseHandler(func(code int, text string) error {
		l.beginEnd(&CloseError{Code: code, Reason: text, ByPeer: true})
		if code == websocket.CloseNoStatusReceived {
			code = websocket.CloseNormalClosure
		}
		l.writeClose(code, "")
		return nil
	})
	for {
		l.extendDeadline()
		kind, r, err := l.conn.NextReader()
		if err == nil {
			l.extendDeadline()
			err = l.readMessage(kind, r, handle)
		}
		if err != nil {
			return l.readFailed(err)
		}
	}
}

// readFailed tells the peer why it is not read any more, if that is its fault
// and gorilla has not told it, and returns the reason.
func (l *Link) readFailed(err error) error {
	var network net.Error
	var closed *websocket.CloseError
	var ours *CloseError
	switch {
	case errors.As(err, &network):
		return err
	case errors.As(err, &closed), errors.As(err, &ours), errors.Is(err, io.EOF):
	case errors.Is(err, websocket.ErrReadLimit):
		err = &CloseError{Code: websocket.CloseMessageTooBig, Reason: "message too big"}
	default:
		// Malformed frames, of which gorilla has told, or malformed deflate.
		l.beginEnd(err)
		l.writeClose(websocket.CloseInvalidFramePayloadData, "malformed data")
	}
	l.beginEnd(asCloseError(err))
	l.discardInput()
	return err
}

func (l *Link) readMessage(kind int, r io.Reader, handle func([]byte, bool) bool) error {
	if l.input.Cap() > 4<<10 {
		l.input = bytes.Buffer{} // what a large message needed is not kept
	}
	l.input.Reset()
	if _, err := l.input.ReadFrom(io.LimitReader(aliveReader{r, l}, int64(l.opts.MaxMessage)+1)); err != nil {
		return err
	}
	data := bytes.Clone(l.input.Bytes()) // in a slice of its size, for it may be queued for long
	if len(data) > l.opts.MaxMessage {
		return l.refuse(websocket.CloseMessageTooBig, fmt.Sprintf("message over %d bytes", l.opts.MaxMessage))
	}
	l.mu.Lock()
	closing := l.closing
	l.mu.Unlock()
	text := kind == websocket.TextMessage
	if !closing && !handle(data, text) && text && !utf8.Valid(data) {
		return l.refuse(websocket.CloseInvalidFramePayloadData, "invalid UTF-8")
	}
	return nil
}

// refuse tells the peer why the link ends, and returns it.
func (l *Link) refuse(code int, reason string) error {
	refusal := &CloseError{Code: code, Reason: reason}
	l.beginEnd(refusal)
	l.writeClose(code, reason)
	return refusal
}

// aliveReader extends the deadline with everything that comes: a large message
// may take longer than a peer may be silent.
type aliveReader struct {
	r io.Reader
	l *Link
}

func (a aliveReader) Read(p []byte) (int, error) {
	a.l.extendDeadline()
	return a.r.Read(p)
}

// discardInput reads on for a moment after the end of the conversation: see
// lingerTime.
func (l *Link) discardInput() {
	raw := l.conn.NetConn()
	_ = raw.SetReadDeadline(time.Now().Add(lingerTime))
	if half, ok := raw.(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
		return
	}
	_, _ = io.Copy(io.Discard, raw)
}

func (l *Link) extendDeadline() {
	if l.opts.PingEvery > 0 {
		_ = l.conn.SetReadDeadline(time.Now().Add(2 * l.opts.PingEvery))
	}
}

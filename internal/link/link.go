// Package link is one WebSocket connection as both roles use it: a bounded
// queue of outgoing messages, one goroutine that reads, and one orderly way to
// end.
//
// What costs a relay most are system calls and goroutines that are woken, and
// what costs it memory is what every idle connection holds. So:
//
//   - Nobody writes but who has set [Link.writing], until he clears it. He is
//     whoever has queued something, if the socket takes it at once, and a
//     goroutine that ends when the queue is empty if it does not. A message
//     that was queued meanwhile is his.
//   - What a link's input brings for other links is queued there by [Link.Forward]
//     and written when that input is used up, for each of them in one write, or
//     a few: see flush.go. Flush never blocks.
//   - What is forwarded is copied once, into frames that lie in a block, which is
//     used again when no queue needs it any more: see forward.go. A queue that does
//     not get empty at once copies what it has, so that a slow peer holds
//     nobody's block.
//   - A ping that is a mark keeps its place between the messages: a peer that answers it
//     has read all before it. See mark.go.
//   - While a plain socket waits for input, and not in the middle of a message, it
//     has no buffer: see input.go and burst.go.
//   - A message that lies whole in its input is unmasked and handled there. One of
//     which a part has come holds up to twice that part, and is inflated when it is
//     whole: see read.go.
//
// A server's handshake is gorilla's; all else is read and written here.
//
// A connection that is not a plain socket is written by the goroutine alone. It
// takes the same way through the same queue.
package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/crosscomm/crosscomm-go/internal/fifo"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

const (
	// lingerTime is how long a connection that we close stays open for the peer
	// to read our close frame and to answer it. Java peers never answer, so it
	// is short; without it, closing a socket with unread input resets it,
	// and the peer may lose what we wrote last.
	lingerTime = 500 * time.Millisecond

	// writeTimeout is how long a write may wait for the kernel at most; it may be
	// extendEvery less. A peer that stops reading is normally found by its full
	// queue; this finds one to which little is sent.
	writeTimeout = 60 * time.Second
)

var (
	// ErrFull is returned by Send and Forward if the message would exceed the
	// bound of the queue.
	ErrFull = errors.New("send queue is full")
	// ErrClosed is returned by Send, Forward and Write once the link is closing.
	ErrClosed = errors.New("connection is closing")
	// ErrWithdrawn is returned by Write if its context has ended before the
	// writing of the message began: it was not sent.
	ErrWithdrawn = errors.New("message withdrawn")
)

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

// Options are a link's limits, and what is known of its connection.
type Options struct {
	MaxMessage int           // bytes of one incoming message, after inflation; see LimitMessages
	MaxQueued  int           // bytes waiting to be written by Send and Forward, with an allowance for each entry of the queue; what is no plain socket may have 640 KiB more
	Budget     *Budget       // bounds the same for several links together, and what they hold of messages of which only a part has come; nil for none
	PingEvery  time.Duration // 0: no pings, and no limit on the peer's silence
	Client     bool          // whether this is the client's end, which must mask what it writes
	Deflate    bool          // whether the ends have agreed on permessage-deflate, without context takeover
	// BeforeFlush, if not nil, is called by Flush before anything else.
	BeforeFlush func()
	// Throttle, if not nil, is called by the reading goroutine when the input is
	// used up, with how many frames of any kind, and bytes, have come since it was
	// last called. It returns how long nothing more is read.
	Throttle func(frames, bytes int) time.Duration
	// OnPong, if not nil, is called by the reading goroutine for each pong.
	OnPong func()
	// OnMark, if not nil, is called by the reading goroutine, after OnPong, when the
	// peer has shown that it has read all up to Mark(n), also while the link is closing.
	// The numbers rise.
	OnMark func(n uint64)
}

// A Link is a WebSocket connection. All methods but Run, NewFrame, Forward, ForwardMark
// and Flush may be called concurrently, also before Run.
type Link struct {
	// Each message that is forwarded to a link looks at these: with thousands of
	// receivers, it is cache lines that cost. All but those that never change are
	// guarded by mu; closing may be read without it.
	mu        sync.Mutex
	closing   atomic.Bool          // set with mu held
	direct    bool                 // whether what is written to is a plain socket; it never changes
	deflate   bool                 // Options.Deflate; it never changes
	writing   bool                 // whether there is somebody who writes
	draining  bool                 // whether he is a goroutine that may wait for the socket
	bound     int                  // of bytes; it never changes
	budget    *Budget              // Options.Budget; it never changes
	bytes     int                  // of the queue and of the messages being written
	queue     *fifo.Queue[message] // nil if it is empty
	flusher   *Link                // who has this one among his touched; nil for nobody
	readEnded bool                 // nothing is written any more

	// These are guarded by mu, too.
	rest   *rest         // what a socket has not taken at once; before the queue
	pong   *string       // the payload of a ping that is to be answered
	end    *ending       // nil before closing
	closed chan struct{} // closed when closing becomes true; nil before somebody wants it
	pace   *pace         // nil if there are no pings
	marks  *marks        // nil before the first one has left the queue

	accounted int // of the bytes, what the budget counts

	writers  sync.WaitGroup // has one while writing is true
	extended time.Time      // of who writes: when the time for it was last extended
	burst    *burst         // of the reading goroutine; nil while input is waited for

	frames, octets int // of the reading goroutine: what has come since Options.Throttle was called
	holds          int // of the reading goroutine: bytes of the message whose parts are coming

	socket net.Conn
	input  *Input
	opts   Options
}

// ending is what a link has that is closing.
type ending struct {
	reason  error         // the first
	drained chan struct{} // closed when nothing is to be written any more
	linger  *time.Timer   // runs from then on
	force   *time.Timer   // nil if nothing bounds the time
	forceAt time.Time     // when that fires
}

// New makes a link of a connection after its handshake, which must have been made
// over the input: that of a server by Watch, or of a client by Handshake. Who has made
// it must leave the connection alone from now on.
func New(input *Input, opts Options) *Link {
	l := &Link{
		direct:  input.raw != nil,
		deflate: opts.Deflate,
		bound:   opts.MaxQueued,
		budget:  opts.Budget,
		socket:  input.conn,
		input:   input,
		opts:    opts,
	}
	if !l.direct && l.bound < math.MaxInt-mostAtOnce {
		l.bound += mostAtOnce // the goroutine needs its time to write
	}
	input.beforeWait = l.beforeWait
	return l
}

// Close ends the link, and returns at once: no message is taken any more, what
// is queued is still written, then a close frame with code and reason, and the
// socket is closed when the peer has answered or after a short while. After
// patience it is closed however far this has come. Incoming messages are
// dropped from now on. It reports whether it began the closing; if the link
// was closing already, only the patience counts.
func (l *Link) Close(code int, reason string, patience time.Duration) (began bool) {
	l.mu.Lock()
	began = l.closeWith(&CloseError{Code: code, Reason: reason}, closeFrame(code, reason))
	if at, end := time.Now().Add(patience), l.end; !l.readEnded && (end.force == nil || at.Before(end.forceAt)) {
		if end.force != nil {
			end.force.Stop()
		}
		end.force, end.forceAt = time.AfterFunc(patience, func() { l.socket.Close() }), at
	}
	l.mu.Unlock()
	l.write()
	return began
}

// closeWith begins the end with a close frame, if it has not begun, with mu held.
func (l *Link) closeWith(end error, frame message) (began bool) {
	if l.closing.Load() {
		return false
	}
	_ = l.enqueue(frame)
	l.closeLocked(end)
	return true
}

// refuse ends the link at once: of the messages that are queued none is written
// any more, only the close frame, if there was none.
func (l *Link) refuse(end error, frame message) {
	l.mu.Lock()
	l.drop(end)
	l.closeWith(end, frame)
	l.mu.Unlock()
	l.write()
}

// closeLocked begins the end, if it has not begun, with mu held.
func (l *Link) closeLocked(reason error) {
	if l.closing.Load() {
		return
	}
	l.end = &ending{reason: reason, drained: make(chan struct{})}
	l.closing.Store(true)
	if l.closed != nil {
		close(l.closed)
	}
	l.noteDrained()
}

// noteDrained notes if nothing is to be written any more, with mu held.
func (l *Link) noteDrained() {
	if !l.closing.Load() || l.writing || l.hasWork() || isClosed(l.end.drained) {
		return
	}
	close(l.end.drained)
	if !l.readEnded {
		l.end.linger = time.AfterFunc(lingerTime, func() { l.socket.Close() })
	}
}

// failLocked ends the link, whose connection is broken, with mu held; meanwhile
// it gives that up.
func (l *Link) failLocked(err error) {
	l.closeLocked(err)
	l.drop(l.end.reason)
	for _, m := range l.queue.All() { // a close frame
		l.bytes -= m.cost()
	}
	l.queue = nil
	l.account()
	l.noteDrained()
	l.mu.Unlock()
	l.socket.Close() // that of TLS may take its time
	l.mu.Lock()
}

// Closing returns a channel that is closed when the link begins to end.
func (l *Link) Closing() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed == nil {
		l.closed = make(chan struct{})
		if l.closing.Load() {
			close(l.closed)
		}
	}
	return l.closed
}

// IsClosing reports whether the link has begun to end.
func (l *Link) IsClosing() bool { return l.closing.Load() }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Run reads messages and calls handle with each until the link ends, and
// returns why: a *CloseError or the error of the socket. When it returns the
// socket is closed, no goroutine is left and every Write has its result. It
// must be called once. The data given to handle is valid until that returns, and
// must not be changed; see Forward.
//
// The handle function reports whether the message is well-formed, which for
// this protocol's messages implies valid UTF-8. So only of a text message that
// is not is UTF-8 looked at here, and bad UTF-8 ends the link, as RFC 6455
// wants it.
func (l *Link) Run(handle func(data []byte, text bool) bool) error {
	l.keepPace()
	err := l.readLoop(handle)
	l.Flush()

	l.mu.Lock()
	l.closeLocked(err)
	l.readEnded = true // the peer is gone: writing has no sense any more
	l.drop(l.end.reason)
	l.mu.Unlock()
	l.socket.Close() // frees who writes, should the peer have stopped reading
	l.writers.Wait()

	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(l.end.reason)
	l.noteDrained()
	for _, timer := range []*time.Timer{l.end.force, l.end.linger} {
		if timer != nil {
			timer.Stop()
		}
	}
	if l.pace != nil {
		l.pace.timer.Stop()
	}
	l.input.release()
	l.endBurst()
	return l.end.reason
}

// closeFrame makes a close frame.
func closeFrame(code int, reason string) message {
	const room = wsframe.MaxControl - 2 // the code
	for len(reason) > room || !utf8.ValidString(reason) {
		reason = reason[:len(reason)-1]
	}
	return message{op: wsframe.OpClose, data: append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)}
}

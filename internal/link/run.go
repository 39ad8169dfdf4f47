package link

import (
	"bytes"
	"encoding/binary"

	"github.com/gorilla/websocket"
)

// largestCopied is up to which size messages are copied into a run.
const largestCopied = blockBytes / 2

// Audience is whom messages are for: a [Link], or many. Two are the same if they
// are equal. It is used by the goroutine of the link that forwards.
type Audience interface {
	// Accept reports why a message of that size cannot be taken, as Send does.
	Accept(size int) error
	// Take queues what was accepted.
	Take(*Run)
}

// Accept implements [Audience].
func (l *Link) Accept(size int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acceptLocked(size)
}

// Take implements [Audience].
func (l *Link) Take(r *Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = r.queue(l) // if it is closing now, it ends with what it has, as it would after a Send
}

// Run is messages in a row that a link forwards to the same audience, made into
// frames that lie one after the other in a block. It costs the queues as much as
// one message: most of what comes in at once is for the same receiver.
type Run struct {
	// Count is of how many messages.
	Count int

	from   *Link
	to     Audience // nil if there is nothing
	block  *block   // where the frames, and runs before them, lie; nil for none
	frames []byte   // in the block, or memory of its own
	own    bool     // which of them
	copied []byte   // the frames, for where they may have to wait for long; nil before they are needed
}

// Queue queues the messages of the run for a link, which is not the only one that
// they are for. The error is ErrFull or ErrClosed.
func (r *Run) Queue(to *Link) error {
	to.mu.Lock()
	defer to.mu.Unlock()
	if err := to.acceptLocked(len(r.frames)); err != nil {
		return err
	}
	return r.queue(to)
}

// queue is Queue without the bound, with the other link's mu held.
func (r *Run) queue(to *Link) (err error) {
	m := message{op: websocket.TextMessage, framed: true, data: r.frames}
	switch {
	case to.plain == nil: // gorilla makes frames of its own
		for rest := r.copy(); len(rest) > 0 && err == nil; {
			var text []byte
			text, rest = cutFrame(rest)
			err = to.enqueue(message{op: websocket.TextMessage, data: text})
		}
	case r.own:
		err = to.enqueue(m)
	case to.draining:
		m.data = r.copy()
		err = to.enqueue(m)
	default:
		m.block = r.block
		if err = to.enqueue(m); err == nil {
			m.block.refs.Add(1)
		}
	}
	if err == nil && to.flusher != r.from {
		to.flusher = r.from
		r.from.burst.touched = append(r.from.burst.touched, to)
	}
	return err
}

// copy returns the frames in memory that is not used again.
func (r *Run) copy() []byte {
	switch {
	case r.own:
		return r.frames
	case r.copied == nil:
		r.copied = bytes.Clone(r.frames)
	}
	return r.copied
}

// Forward queues a text message for others, or for this link, which may be
// written only by the next Flush. Only this link's handle function may call it;
// it copies the data. The error is that of the audience, for a Link ErrFull or
// ErrClosed. It comes at the latest with the first message after the Flush that
// finds the link closed.
func (l *Link) Forward(to Audience, data []byte) error {
	r := &l.burst.run
	size := len(data) + maxHeader
	if r.to != to || r.block.used+size > blockBytes {
		l.endRun()
		if err := to.Accept(len(data)); err != nil {
			return err
		}
		r.from, r.to, r.Count = l, to, 1
		if size > largestCopied {
			frame := appendHeader(make([]byte, 0, size), websocket.TextMessage, len(data), 0)
			r.frames, r.own = append(frame, data...), true
			l.endRun()
			return nil
		}
		if r.block != nil && r.block.used+size > blockBytes {
			r.leaveBlock()
		}
		if r.block == nil {
			r.block = newBlock()
		}
		r.frames, r.own = r.block.data[r.block.used:r.block.used], false
	} else {
		r.Count++
	}
	before := len(r.frames)
	r.frames = append(appendHeader(r.frames, websocket.TextMessage, len(data), 0), data...)
	r.block.used += len(r.frames) - before
	return nil
}

// endRun gives the run to its audience.
func (l *Link) endRun() {
	r := &l.burst.run
	if r.to == nil {
		return
	}
	to := r.to
	to.Take(r)
	r.to, r.frames, r.copied = nil, nil, nil
}

// leaveBlock gives up the block.
func (r *Run) leaveBlock() {
	r.block.release()
	r.block = nil
}

// cutFrame cuts the text of the first frame off, and returns what follows. The
// header is one of appendHeader's.
func cutFrame(b []byte) (text, rest []byte) {
	header, n := 2, int(b[1])
	switch n {
	case 126:
		header, n = 4, int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		header, n = 10, int(binary.BigEndian.Uint64(b[2:]))
	}
	return b[header : header+n : header+n], b[header+n:]
}

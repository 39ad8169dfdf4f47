package link

import (
	"bytes"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// largestCopied is up to which size messages are copied into a block.
const largestCopied = blockBytes / 2

// Frame is a text message that is ready to be forwarded to one link or many. It
// is valid until the next one is made, or the link is flushed.
type Frame struct {
	bytes  []byte // with its header
	text   []byte // without
	block  *block // where they lie; nil for memory of their own
	begin  int    // where in the block
	copied []byte // the bytes, for where they may have to wait for long; nil before they are needed

	deflated []byte // the frame compressed, in memory of its own; nil if that is not known yet, or not smaller
	tried    bool   // whether it is known
}

// NewFrame makes a frame of a text message, which it copies. Like Forward and
// Flush it may be called by this link's handle function only, or in its stead
// while that waits; the link must be a server's.
func (l *Link) NewFrame(data []byte) Frame {
	size := len(data) + wsframe.MaxHeader
	b := l.beginBurst()
	if size > largestCopied {
		frame := append(wsframe.AppendHeader(make([]byte, 0, size), wsframe.OpText, len(data), 0), data...)
		return Frame{bytes: frame, text: frame[len(frame)-len(data):]}
	}
	if b.out != nil && b.out.used+size > blockBytes {
		b.leaveBlock()
	}
	if b.out == nil {
		b.out = newBlock()
	}
	begin := b.out.used
	frame := append(wsframe.AppendHeader(b.out.data[begin:begin], wsframe.OpText, len(data), 0), data...)
	b.out.used += len(frame)
	return Frame{bytes: frame, text: frame[len(frame)-len(data):], block: b.out, begin: begin}
}

// copy returns the frame in memory that is not used again.
func (f *Frame) copy() []byte {
	switch {
	case f.block == nil:
		return f.bytes
	case f.copied == nil:
		f.copied = bytes.Clone(f.bytes)
	}
	return f.copied
}

// Forward queues the frame for another link, or for this one, which may be written
// only by the next Flush. The error is ErrFull or ErrClosed.
//
// Messages that come in at once are often for the same receiver. Then they lie one
// after the other in the block, and are one entry of its queue.
func (l *Link) Forward(to *Link, f *Frame) error {
	compressed := to.deflate && f.deflate()
	l.reach(to)
	defer to.mu.Unlock()
	if err := to.acceptLocked(len(f.text)); err != nil {
		return err
	}
	switch {
	case compressed:
		_ = to.enqueue(message{op: wsframe.OpText, framed: true, data: f.deflated})
	case f.block == nil || to.draining || !to.direct:
		_ = to.enqueue(message{op: wsframe.OpText, framed: true, data: f.copy()})
	case !to.extendLast(f):
		f.block.refs.Add(1)
		_ = to.enqueue(message{op: wsframe.OpText, framed: true, data: f.bytes, block: f.block, begin: f.begin})
	default:
		to.bytes += len(f.bytes)
	}
	l.touch(to)
	return nil
}

// reach locks the mu of another link, for touch.
func (l *Link) reach(to *Link) {
	if b := l.beginBurst(); len(b.touched) >= mostTouched {
		b.writeTouched(l)
	}
	to.mu.Lock()
}

// touch has the next Flush write what was queued for another link, whose mu is held
// since reach.
func (l *Link) touch(to *Link) {
	if to.flusher != l {
		to.flusher = l
		l.burst.touched = append(l.burst.touched, to)
	}
}

// extendLast makes the frame a part of the last entry of the queue, if it lies
// behind that, with mu held.
func (l *Link) extendLast(f *Frame) bool {
	queue := l.queue.All()
	if len(queue) == 0 {
		return false
	}
	last := &queue[len(queue)-1]
	if last.block != f.block || last.begin+len(last.data) != f.begin {
		return false
	}
	last.data = f.block.data[last.begin : f.begin+len(f.bytes)]
	return true
}

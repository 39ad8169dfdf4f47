package link

import (
	"bytes"
	"encoding/binary"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// markPrefix is what the payload of a mark begins with, before its number in 8 bytes.
// Other pings have none.
const markPrefix = "mark"

// marks is what a link has whose peer is to answer them.
type marks struct {
	sent     uint64 // the number of the last one that has left the queue
	answered uint64 // the last number that the peer has answered with; 0 for none
}

// markFrame is a ping with a number.
func markFrame(n uint64) message {
	return message{op: wsframe.OpPing, data: binary.BigEndian.AppendUint64([]byte(markPrefix), n)}
}

// parseMark returns the number in the payload of a ping or a pong; 0 if there is none.
func parseMark(payload []byte) uint64 {
	number, ok := bytes.CutPrefix(payload, []byte(markPrefix))
	if !ok || len(number) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(number)
}

// Mark queues a ping with the number behind all that was queued before, whatever the
// bound of the queue, and writes it as Send does. When the peer has answered it, and so
// has read all before it, Options.OnMark is called with the number, or with a higher
// one. The number must be above that of each Mark and ForwardMark of the link before,
// the first one above 0. The error is ErrClosed.
func (l *Link) Mark(n uint64) error {
	l.mu.Lock()
	err := l.enqueue(markFrame(n))
	l.mu.Unlock()
	if err == nil {
		l.write()
	}
	return err
}

// ForwardMark is Mark of another link, or of this one, but the ping may be written only
// by the next Flush of this one, in one write with what was forwarded. Who may call it
// is who may call NewFrame.
func (l *Link) ForwardMark(to *Link, n uint64) error {
	l.reach(to)
	defer to.mu.Unlock()
	err := to.enqueue(markFrame(n))
	if err == nil {
		l.touch(to)
	}
	return err
}

// noteMark is called for a ping that leaves the queue, with mu held. A peer may answer
// only the latest of several pings (RFC 6455 5.5.3). So one without a number gets that
// of the last mark, if that waits for its answer.
func (l *Link) noteMark(ping *message) {
	switch n := parseMark(ping.data); {
	case n > 0:
		if l.marks == nil {
			l.marks = new(marks)
		}
		l.marks.sent = n
	case l.marks != nil && l.marks.sent > l.marks.answered:
		l.bytes -= ping.cost()
		*ping = markFrame(l.marks.sent)
		l.bytes += ping.cost()
	}
}

// pongCame has it told that a pong has come. What is no answer to a mark that has left
// the queue, or not the first one, is only a sign of life.
func (l *Link) pongCame(payload []byte) {
	if l.opts.OnPong != nil {
		l.opts.OnPong()
	}
	n := parseMark(payload)
	l.mu.Lock()
	isNew := l.marks != nil && n > l.marks.answered && n <= l.marks.sent
	if isNew {
		l.marks.answered = n
	}
	l.mu.Unlock()
	if isNew && l.opts.OnMark != nil {
		l.opts.OnMark(n)
	}
}

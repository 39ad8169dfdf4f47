package link

import "sync"

// burst is what the reading goroutine has while it handles input, and not while
// it waits for more, which most connections do most of the time.
type burst struct {
	small   [smallMessage]byte // for parts
	parts   []byte             // what has come of a message that does not lie whole in the input: in small, or large, or memory of its own
	large   *block             // nil for none
	out     *block             // where frames lie that are forwarded; nil while there are none
	touched []*Link            // where something was forwarded to since the last Flush
}

// smallMessage is what a connection has at first for a message of which only a part
// has come: whoever sends a little of one, and no more, should not hold much. Who
// sends more of it holds a block, and then up to twice what he has sent.
const smallMessage = 4 << 10

// keptTouched is for how many touched links a burst keeps room that is not used, and
// fewTouched is the same while half a message waits for the rest.
const keptTouched, fewTouched = 1 << 14, 64

var bursts = sync.Pool{New: func() any { return new(burst) }}

// beginBurst returns the burst.
func (l *Link) beginBurst() *burst {
	if l.burst == nil {
		l.burst = bursts.Get().(*burst)
	}
	return l.burst
}

// leaveBlock gives up the block of frames.
func (b *burst) leaveBlock() {
	b.out.release()
	b.out = nil
}

// room returns room for more parts, up to n bytes: in small, then in a block, and
// after that in memory of its own, of so many bytes at most for the whole message.
func (b *burst) room(n, most int) []byte {
	switch size := len(b.parts); {
	case size < cap(b.parts):
	case size == 0:
		b.parts = b.small[:0]
	case size < blockBytes:
		b.large = newBlock()
		b.parts = append(b.large.data[:0], b.parts...)
	default:
		b.parts = append(make([]byte, 0, min(2*size, most)), b.parts...)
		b.large.release()
		b.large = nil
	}
	free := b.parts[len(b.parts):cap(b.parts)]
	return free[:min(n, len(free))]
}

// shrink gives up the room for what is touched, if it is for more than so many.
func (b *burst) shrink(kept int) {
	if cap(b.touched) > kept {
		b.touched = nil
	}
}

// endParts gives up the parts of a message, after it was handled.
func (l *Link) endParts() {
	l.burst.large.release()
	l.burst.large, l.burst.parts = nil, nil
	l.hold(0)
}

// endBurst gives it up, after a Flush.
func (l *Link) endBurst() {
	if l.burst != nil {
		l.burst.leaveBlock()
		l.endParts()
		l.burst.shrink(keptTouched)
		bursts.Put(l.burst)
		l.burst = nil
	}
}

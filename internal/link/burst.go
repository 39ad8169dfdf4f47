package link

import "sync"

// burst is what the reading goroutine has while it handles input, and not while
// it waits for more, which most connections do most of the time.
type burst struct {
	small   [smallMessage]byte // the message that is handled, if it fits
	large   *block             // or else the message, if it fits in there; nil for none
	partial bool               // whether only a part of a message has come
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

// larger returns more room for a message, of which it copies what is there: a
// block, and after that memory of its own, of so many bytes at most.
func (b *burst) larger(full []byte, most int) (room []byte) {
	if len(full) < blockBytes {
		b.large = newBlock()
		room = b.large.data[:]
		copy(room, full)
		return room
	}
	room = make([]byte, min(2*len(full), most))
	copy(room, full)
	b.large.release()
	b.large = nil
	return room
}

// shrink gives up the room for what is touched, if it is for more than so many.
func (b *burst) shrink(kept int) {
	if cap(b.touched) > kept {
		b.touched = nil
	}
}

// endMessage gives up the room of a large message, after it was handled.
func (b *burst) endMessage() {
	b.large.release()
	b.large, b.partial = nil, false
}

// endBurst gives it up, after a Flush.
func (l *Link) endBurst() {
	if l.burst != nil {
		l.burst.leaveBlock()
		l.burst.endMessage()
		l.burst.shrink(keptTouched)
		bursts.Put(l.burst)
		l.burst = nil
	}
}

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

// smallMessage is what a connection has for a message of which only a part has
// come. It is no more than others have anyway: whoever sends half a message and
// no more should not hold much.
const smallMessage = 4 << 10

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
// block, and after that memory of its own.
func (b *burst) larger(full []byte) (room []byte) {
	if len(full) < blockBytes {
		b.large = newBlock()
		room = b.large.data[:]
		copy(room, full)
		return room
	}
	room = make([]byte, 2*len(full))
	copy(room, full)
	b.large.release()
	b.large = nil
	return room
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
		bursts.Put(l.burst)
		l.burst = nil
	}
}

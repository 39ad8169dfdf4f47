package link

import "sync"

// burst is what the reading goroutine has while it handles input, and not while
// it waits for more, which most connections do most of the time.
type burst struct {
	message [blockBytes]byte // the one that is handled, if it is not larger
	partial bool             // whether only a part of it has come
	out     *block           // where frames lie that are forwarded; nil while there are none
	touched []*Link          // where something was forwarded to since the last Flush
}

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

// endBurst gives it up, after a Flush.
func (l *Link) endBurst() {
	if l.burst != nil {
		l.burst.leaveBlock()
		bursts.Put(l.burst)
		l.burst = nil
	}
}

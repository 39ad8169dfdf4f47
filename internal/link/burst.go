package link

import "sync"

// burst is what the reading goroutine has while it handles input, and not while
// it waits for more, which most connections do most of the time.
type burst struct {
	message [blockBytes]byte // the one that is handled, if it is not larger
	partial bool             // whether only a part of it has come
	run     Run              // what was forwarded last
	touched []*Link          // where something was forwarded to since the last Flush
}

var bursts = sync.Pool{New: func() any { return new(burst) }}

// endBurst gives it up, after a Flush.
func (l *Link) endBurst() {
	if l.burst != nil {
		l.burst.run.leaveBlock()
		bursts.Put(l.burst)
		l.burst = nil
	}
}

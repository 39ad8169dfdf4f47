package crosscomm

import "sync"

// broadcast counts how far a message to all has come, and tells its sender at once
// for all of them.
type broadcast struct {
	tell func(Receipt)

	mu     sync.Mutex
	counts Receipt
	left   int // receivers that have not come so far, and one more until all are counted
}

// newBroadcast makes one that has no receivers yet.
func newBroadcast(tell func(Receipt)) *broadcast { return &broadcast{tell: tell, left: 1} }

// add counts a receiver.
func (b *broadcast) add() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts.Receivers++
	b.left++
}

// end counts one that has come to the stage that was asked for, or comes no further than
// that one because it has failed.
func (b *broadcast) end(reached Stage, failed bool) {
	b.mu.Lock()
	if failed {
		b.counts.Failed++
	}
	switch reached {
	case Handled:
		b.counts.Handled++
		fallthrough
	case Written:
		b.counts.Written++
		fallthrough
	case Accepted:
		b.counts.Accepted++
	}
	b.countOff()
}

// close is called when all receivers have been added.
func (b *broadcast) close() {
	b.mu.Lock()
	b.countOff()
}

// countOff gives up mu.
func (b *broadcast) countOff() {
	b.left--
	last, counts := b.left == 0, b.counts
	b.mu.Unlock()
	if last {
		b.tell(counts)
	}
}

// reached are the clients that a message to all need not wait for. A nil one notes
// nothing.
type reached map[*member]bool

func (r reached) add(m *member, is bool) {
	if r != nil && is {
		r[m] = true
	}
}

// newReached returns one that has the sender of a message to all, which may be nil, or nil
// if such a message waits for nobody.
func (d *deliveries) newReached(sender *member) reached {
	if d.store == nil || !d.srv.s.cfg.Queues.Broadcasts {
		return nil
	}
	return reached{sender: true}
}

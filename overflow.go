package crosscomm

import "sync/atomic"

// Overflow says what happens to the messages for a listener that does not keep
// up with them. Any other value counts as OverflowBlock.
//
// With OverflowDropOldest and OverflowLatest no connection ever waits for the
// listener. A message that waits for its download gets its place, as those that
// wait behind it, when the download is over, and may be dropped only then; the
// file stays. But when 8 MiB of a sender, or 128 MiB of all, wait so, further
// messages with files are dropped at once, and with OverflowLatest others that
// would wait behind them and take no other one's place.
type Overflow int

const (
	// OverflowBlock, the zero value, drops nothing: when the messages of a sender
	// that wait for the listener reach [ListenerOptions.MaxWaiting], or 16 MiB, or
	// those of all 256 MiB, the connection that brings more is not read further
	// until the listener goes on. If that takes long, that link times out. On a
	// client all senders share the one connection. Messages with a receipt, of which
	// the server sends no more than 1,000 or 4 MiB ahead, hold it up only at the
	// 256 MiB: a listener may wait for receipts and replies, as long as what comes
	// without any does not fill its queue meanwhile.
	OverflowBlock Overflow = iota
	// OverflowDropOldest drops a sender's own oldest message when more than
	// MaxWaiting of it wait, or more than 16 MiB, and the oldest of all above
	// 256 MiB. The others keep the order of arrival.
	OverflowDropOldest
	// OverflowLatest keeps the latest message of each sender: a newer one takes
	// the place of the one that waits, in the order, too, so that each sender gets
	// its turn, however much another one sends. Above 256 MiB it drops the message
	// whose turn is next. It is for sensors, whose older readings nobody wants.
	//
	// All types count alike: of a sender of readings and commands the listener
	// would lose commands. Let it have one [ListenerOptions.Type].
	OverflowLatest
)

// ListenerStats are live counters of a listener, or of all listeners that are
// given the same one. Each message that came for a listener is counted in one of
// them, but for the one that it runs with. The zero value is ready. They may be
// read at any time, and concurrently.
type ListenerStats struct {
	Handled atomic.Uint64 // calls that returned nil
	Failed  atomic.Uint64 // calls that returned an error, or panicked
	// Dropped counts the messages that the listener was not called for: those
	// that its [Overflow] has dropped, and those that waited for it when it was
	// removed, or at Logout or Stop, or that found no room (OverflowBlock) when
	// their link ended.
	Dropped atomic.Uint64
	Waiting atomic.Int64 // messages that wait for the listener now, also for their downloads
}

// waits counts n more that wait; s may be nil, as for all of these.
func (s *ListenerStats) waits(n int) {
	if s != nil {
		s.Waiting.Add(int64(n))
	}
}

func (s *ListenerStats) dropped(n int) {
	if s != nil {
		s.Dropped.Add(uint64(n))
	}
}

// handled counts a call.
func (s *ListenerStats) handled(well bool) {
	switch {
	case s == nil:
	case well:
		s.Handled.Add(1)
	default:
		s.Failed.Add(1)
	}
}

// What follows is how a serialQueue drops. All of it is called with mu held.

const (
	// maxHeldUpOfAll bounds what waits for downloads and cannot be dropped, so
	// that there is always room for the rest.
	maxHeldUpOfAll = maxWaiting / 2
	// gapsKept is how many gaps are left alone, even in a short queue.
	gapsKept = 64
)

// drops reports whether the queue drops tasks, and nobody waits for room in it.
func (q *serialQueue) drops() bool {
	return q.overflow == OverflowDropOldest || q.overflow == OverflowLatest
}

// drop drops a task that has no place any more, or never had one.
func (q *serialQueue) drop(t task) {
	q.left(t)
	q.stats.dropped(1)
	t.job.drop()
}

// replaced gives a task the place of the one of its source, if only the latest is
// wanted and there is one.
func (q *serialQueue) replaced(t task) bool {
	if q.overflow != OverflowLatest || t.source.queued == 0 {
		return false
	}
	place := t.source.places.All()[0]
	at := &q.tasks.All()[place-q.popped]
	old := *at
	*at = t
	q.drop(old)
	return true
}

// keepBounds drops what is too much, if the queue drops, now that a task of s has
// come. It leaves at least one task, so that what is held up cannot starve the
// others.
func (q *serialQueue) keepBounds(s *source) {
	if !q.drops() {
		return
	}
	for s.queued > 1 && (s.size > maxWaitingOfSource || q.perSource > 0 && s.queued > q.perSource) {
		q.dropOldestOf(s)
	}
	for q.waiting > maxWaiting && q.tasks.Len()-q.gaps > 1 {
		t := q.pop()
		q.stats.dropped(1)
		t.job.drop()
	}
}

// dropOldestOf drops the first of several tasks of the source. That leaves a gap,
// so that it takes no time that grows with the queue; when most of the queue are
// gaps they are closed.
func (q *serialQueue) dropOldestOf(s *source) {
	at := &q.tasks.All()[s.places.Pop()-q.popped]
	old := *at
	*at = task{}
	s.queued--
	q.gaps++
	q.drop(old)
	q.skipGaps()
	if q.gaps > gapsKept && q.gaps > q.tasks.Len()/2 {
		q.closeGaps()
	}
}

// skipGaps takes gaps from the head of the queue, so that a task is first.
func (q *serialQueue) skipGaps() {
	for q.gaps > 0 && q.tasks.All()[0].job == nil {
		q.tasks.Pop()
		q.popped++
		q.gaps--
	}
}

// closeGaps has the tasks move up. Each source's places are in the order of its
// tasks, and so are the new ones.
func (q *serialQueue) closeGaps() {
	place := q.popped
	q.tasks.DeleteFunc(func(t task) bool {
		if t.job == nil {
			return true
		}
		t.source.places.Pop()
		t.source.places.Push(place)
		place++
		return false
	})
	q.gaps = 0
}

// mayHold reports whether a task may be held up, in a queue that never has
// anybody wait, and if not has found another place for it or dropped it. What is
// not ready cannot be dropped to make room later, so its own bounds are lower.
func (q *serialQueue) mayHold(t task) bool {
	s := t.source
	ready := t.isReady()
	if last := len(s.held) - 1; q.overflow == OverflowLatest && ready && last >= 0 && s.held[last].isReady() {
		old := s.held[last]
		s.held[last] = t
		s.heldSize += t.size - old.size
		q.heldSize += t.size - old.size
		q.drop(old)
		return false
	}
	if s.heldSize < maxHeldUp && q.heldSize < maxHeldUpOfAll {
		return true
	}
	if ready && q.overflow == OverflowDropOldest {
		q.enqueue(t)
	} else {
		q.drop(t)
	}
	return false
}

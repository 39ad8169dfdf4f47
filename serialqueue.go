package crosscomm

import (
	"context"
	"sync"

	"github.com/crosscomm/crosscomm-go/internal/fifo"
)

// Bounds of what waits in a serialQueue, in bytes, with an allowance for each
// task. The one for a source is the one that matters: a source that floods the
// queue is held up, and the others are not. The other one guards the memory
// should there be very many sources.
const (
	maxWaitingOfSource = 16 << 20
	maxWaiting         = 256 << 20
	taskOverhead       = 512
	// maxHeldUp bounds what waits for a task of the same source that is not
	// ready. What comes then no longer waits for it: a source whose tasks never
	// get ready would else be held up, and on a client all others with it.
	maxHeldUp = maxWaitingOfSource / 2
)

// serialQueue runs functions one at a time, in the order in which they were
// added. One that is not ready yet holds up those of the same source after it,
// and no others. The queue has a goroutine only while there is something to
// run. The zero value is ready, and drops nothing by itself.
type serialQueue struct {
	// These are set before the first task is added.
	overflow  Overflow
	perSource int            // how many tasks of a source may be in tasks; 0 for any number
	stats     *ListenerStats // or nil

	mu       sync.Mutex
	tasks    fifo.Queue[task] // whose turn comes; what was dropped from its middle has left a gap
	gaps     int
	popped   int                // how many have ever left tasks, at its head
	sources  map[string]*source // which have tasks, by name
	unused   []*source          // to be used again
	waiting  int                // the sizes of all tasks
	held     int                // how many sources have tasks that are held up
	heldSize int                // the sizes of these tasks
	running  bool               // whether there is a goroutine
	closed   bool               // nothing is added any more
	changed  chan struct{}      // if not nil, closed when waiting or running is next lowered, or closed set
}

// source is where tasks come from.
type source struct {
	name     string
	size     int             // of its tasks
	queued   int             // how many of them are in serialQueue.tasks
	places   fifo.Queue[int] // of those, as counted by serialQueue.popped; only if the queue drops
	held     []task          // the first is not ready, the others come after it
	heldSize int
}

// task is a job that handles size bytes from its source.
type task struct {
	source *source // set by the queue
	size   int
	ready  <-chan struct{} // closed when it may run; nil for at once
	job    job             // nil for a gap
}

// isReady reports whether the task may run.
func (t *task) isReady() bool { return t.ready == nil || isClosed(t.ready) }

type job interface {
	run()
	// drop is called in place of run, with the queue locked: it must not block, nor
	// use the queue.
	drop()
}

// jobFunc is a function as a job, of which nobody needs to know if it is dropped.
type jobFunc func()

func (f jobFunc) run() { f() }

func (jobFunc) drop() {}

// maxUnused is how many sources are kept to be used again.
const maxUnused = 64

// offer is add, but adds nothing and returns false if the queue drops nothing
// and a bound is reached.
func (q *serialQueue) offer(from string, t task) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.sources[from]
	if !q.closed && !q.drops() && q.full(s) {
		return false
	}
	q.put(s, from, t)
	return true
}

// add adds a task from the source, unless the queue is closed. It never blocks;
// see waitForRoom.
func (q *serialQueue) add(from string, t task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.put(q.sources[from], from, t)
}

// addBeyond is add for a task for which there is no room, up to the bound for all sources.
func (q *serialQueue) addBeyond(from string, t task) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting >= maxWaiting {
		return false
	}
	q.put(q.sources[from], from, t)
	return true
}

// put adds a task from the source s, which is nil if it has none yet. Call it,
// and all that follow, with mu held.
func (q *serialQueue) put(s *source, from string, t task) {
	if q.closed {
		q.stats.dropped(1)
		t.job.drop()
		return
	}
	if s == nil {
		s = q.newSource(from)
	}
	t.source = s
	t.size += taskOverhead
	s.size += t.size
	q.waiting += t.size
	q.stats.waits(1)
	if len(s.held) > 0 || !t.isReady() {
		q.hold(t)
	} else {
		q.enqueue(t)
	}
	q.keepBounds(s)
}

func (q *serialQueue) newSource(name string) *source {
	var s *source
	if last := len(q.unused) - 1; last >= 0 {
		s = q.unused[last]
		q.unused = q.unused[:last]
	} else {
		s = new(source)
	}
	s.name = name
	if q.sources == nil {
		q.sources = map[string]*source{}
	}
	q.sources[name] = s
	return s
}

// left counts a task out that waits no more.
func (q *serialQueue) left(t task) {
	s := t.source
	q.waiting -= t.size
	q.stats.waits(-1)
	if s.size -= t.size; s.size > 0 {
		return
	}
	delete(q.sources, s.name)
	if len(q.unused) < maxUnused {
		s.name = "" // it is part of a longer text
		q.unused = append(q.unused, s)
	}
}

// hold gives a task its place behind those of its source that are not ready, or
// in front of what will come after it.
func (q *serialQueue) hold(t task) {
	s := t.source
	if q.drops() && !q.mayHold(t) {
		return
	}
	if len(s.held) > 0 && s.heldSize >= maxHeldUp && t.isReady() {
		q.enqueue(t)
		return
	}
	s.held = append(s.held, t)
	s.heldSize += t.size
	q.heldSize += t.size
	if len(s.held) == 1 {
		q.held++
		go q.release(t)
	}
}

// release waits until the task is ready, and gives it, and those that it holds
// up, their places, up to the next one that is not ready.
func (q *serialQueue) release(t task) {
	<-t.ready
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	s := t.source
	defer q.keepBounds(s)
	held := s.held
	for len(held) > 0 && held[0].isReady() {
		t, held[0] = held[0], task{}
		held = held[1:]
		s.heldSize -= t.size
		q.heldSize -= t.size
		q.enqueue(t)
	}
	if s.held = held; len(held) > 0 {
		go q.release(held[0])
		return
	}
	s.held = nil
	q.held--
}

// enqueue gives a task that is counted its turn.
func (q *serialQueue) enqueue(t task) {
	if q.drops() {
		if q.replaced(t) {
			return
		}
		t.source.places.Push(q.popped + q.tasks.Len())
	}
	q.tasks.Push(t)
	t.source.queued++
	if !q.running {
		q.running = true
		go q.drain()
	}
}

// waitForRoom waits while the bound for the source, or the one for all, is
// reached, but not longer than until ctx ends, hurry is closed, or the queue
// is, and reports whether there is room. So what waits can exceed a bound by
// what the callers add at once.
func (q *serialQueue) waitForRoom(ctx context.Context, hurry <-chan struct{}, from string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed && q.full(q.sources[from]) {
		if !q.wait(ctx, hurry) {
			return false
		}
	}
	return !q.closed
}

// hasRoom reports whether waitForRoom would not wait.
func (q *serialQueue) hasRoom(from string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.closed && !q.full(q.sources[from])
}

// full reports whether a bound is reached, for the source or for all; s may be
// nil.
func (q *serialQueue) full(s *source) bool {
	if q.waiting >= maxWaiting {
		return true
	}
	return s != nil && (s.size >= maxWaitingOfSource || q.perSource > 0 && s.queued >= q.perSource)
}

// close drops what waits, and lets nothing be added any more. What runs is not
// waited for. It reports false if the queue was closed already.
func (q *serialQueue) close() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.closed = true
	for _, s := range q.sources {
		n := s.queued + len(s.held)
		q.stats.waits(-n)
		q.stats.dropped(n)
		for _, t := range s.held {
			t.job.drop()
		}
	}
	for _, t := range q.tasks.All() {
		if t.job != nil {
			t.job.drop()
		}
	}
	q.tasks, q.gaps, q.sources, q.unused = fifo.Queue[task]{}, 0, nil, nil
	q.waiting, q.held, q.heldSize = 0, 0, 0
	q.notify()
	return true
}

// idle waits until everything has been run, and reports false if ctx ended
// before that.
func (q *serialQueue) idle(ctx context.Context) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.running || q.held > 0 {
		if !q.wait(ctx, nil) {
			return false
		}
	}
	return true
}

// wait is called with mu held, gives it up until something has changed, and
// reports false if ctx ended or hurry was closed.
func (q *serialQueue) wait(ctx context.Context, hurry <-chan struct{}) bool {
	if q.changed == nil {
		q.changed = make(chan struct{})
	}
	changed := q.changed
	q.mu.Unlock()
	defer q.mu.Lock()
	select {
	case <-changed:
		return true
	case <-ctx.Done():
		return false
	case <-hurry:
		return false
	}
}

func (q *serialQueue) drain() {
	finished := false
	q.mu.Lock()
	defer func() {
		if !finished { // by runtime.Goexit in a function: the others still run
			go q.drain()
		}
		q.mu.Unlock()
	}()
	for q.tasks.Len() > 0 {
		t := q.pop()
		q.notify()
		q.runUnlocked(t)
	}
	q.running = false
	q.notify()
	finished = true
}

// pop takes the task whose turn it is out of the queue, and the gaps behind it.
func (q *serialQueue) pop() task {
	t := q.tasks.Pop()
	q.popped++
	t.source.queued--
	if q.drops() {
		t.source.places.Pop()
		q.skipGaps()
	}
	q.left(t)
	return t
}

func (q *serialQueue) runUnlocked(t task) {
	q.mu.Unlock()
	defer q.mu.Lock()
	t.job.run()
}

func (q *serialQueue) notify() {
	if q.changed != nil {
		close(q.changed)
		q.changed = nil
	}
}

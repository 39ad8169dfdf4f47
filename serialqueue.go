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
// run. The zero value is ready.
type serialQueue struct {
	mu       sync.Mutex
	tasks    fifo.Queue[task]   // whose turn comes
	heldUp   map[string]*heldUp // by source
	waiting  int                // the sizes of the tasks
	ofSource map[string]int     // the same, for each source that has tasks
	running  bool               // whether there is a goroutine
	closed   bool               // nothing is added any more
	changed  chan struct{}      // if not nil, closed when waiting or running is next lowered, or closed set
}

// heldUp are tasks of a source of which the first is not ready, while the others
// come after it.
type heldUp struct {
	tasks []task
	size  int
}

// task is a job that handles size bytes from the source.
type task struct {
	source string
	size   int
	ready  <-chan struct{} // closed when it may run; nil for at once
	job    job
}

type job interface{ run() }

// jobFunc is a function as a job.
type jobFunc func()

func (f jobFunc) run() { f() }

// add adds a task, unless the queue is closed. It never blocks; see
// waitForRoom.
func (q *serialQueue) add(t task) {
	t.size += taskOverhead
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.waiting += t.size
	if q.ofSource == nil {
		q.ofSource = map[string]int{}
	}
	q.ofSource[t.source] += t.size
	q.enqueue(t)
}

// enqueue gives a task that is counted its place. Call it with mu held.
func (q *serialQueue) enqueue(t task) {
	ready := t.ready == nil || isClosed(t.ready)
	held := q.heldUp[t.source]
	switch {
	case held == nil && !ready:
		if q.heldUp == nil {
			q.heldUp = map[string]*heldUp{}
		}
		q.heldUp[t.source] = &heldUp{[]task{t}, t.size}
		go q.release(t)
		return
	case held != nil && (!ready || held.size < maxHeldUp):
		held.tasks = append(held.tasks, t)
		held.size += t.size
		return
	}
	q.tasks.Push(t)
	if !q.running {
		q.running = true
		go q.drain()
	}
}

// release waits until the task is ready, and gives it and those that it holds
// up their places.
func (q *serialQueue) release(t task) {
	<-t.ready
	q.mu.Lock()
	defer q.mu.Unlock()
	held := q.heldUp[t.source]
	if held == nil {
		return // the queue was closed
	}
	delete(q.heldUp, t.source)
	for _, t := range held.tasks {
		q.enqueue(t)
	}
}

// waitForRoom waits while the bound for the source, or the one for all, is
// reached, but not longer than until ctx ends, hurry is closed, or the queue
// is, and reports whether there is room. So what waits can exceed a bound by
// what the callers add at once.
func (q *serialQueue) waitForRoom(ctx context.Context, hurry <-chan struct{}, source string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed && q.full(source) {
		if !q.wait(ctx, hurry) {
			return false
		}
	}
	return !q.closed
}

// hasRoom reports whether waitForRoom would not wait.
func (q *serialQueue) hasRoom(source string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.closed && !q.full(source)
}

// full reports whether a bound is reached; with mu held.
func (q *serialQueue) full(source string) bool {
	return q.waiting >= maxWaiting || q.ofSource[source] >= maxWaitingOfSource
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
	q.tasks, q.heldUp, q.ofSource, q.waiting = fifo.Queue[task]{}, nil, nil, 0
	q.notify()
	return true
}

// idle waits until everything has been run, and reports false if ctx ended
// before that.
func (q *serialQueue) idle(ctx context.Context) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.running || len(q.heldUp) > 0 {
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
		t := q.tasks.Pop()
		q.waiting -= t.size
		if q.ofSource[t.source] -= t.size; q.ofSource[t.source] == 0 {
			delete(q.ofSource, t.source)
		}
		q.notify()
		q.runUnlocked(t)
	}
	q.running = false
	q.notify()
	finished = true
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

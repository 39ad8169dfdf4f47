package crosscomm

import (
	"context"
	"sync"
)

// lane runs functions one at a time, in the order in which they were added. It
// has a goroutine only while there is something to run. The zero value is
// ready.
type lane struct {
	mu      sync.Mutex
	queue   []task
	waiting int           // the sizes of the queue
	running bool          // whether there is a goroutine
	changed chan struct{} // if not nil, closed when waiting or running is next lowered
}

type task struct {
	size int
	run  func()
}

// add adds a function. If there are more than maxWaiting bytes before it, it
// waits for room, or the end of ctx, when the function is dropped.
func (l *lane) add(ctx context.Context, size int, run func()) {
	l.mu.Lock()
	for l.waiting > 0 && l.waiting+size > maxWaiting {
		if !l.wait(ctx) {
			l.mu.Unlock()
			return
		}
	}
	defer l.mu.Unlock()
	l.queue = append(l.queue, task{size, run})
	l.waiting += size
	if !l.running {
		l.running = true
		go l.work()
	}
}

// idle waits until everything has been run, and reports false if ctx ended
// before that.
func (l *lane) idle(ctx context.Context) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.running {
		if !l.wait(ctx) {
			return false
		}
	}
	return true
}

// wait is called with mu held, gives it up until something has changed, and
// reports false if ctx ended.
func (l *lane) wait(ctx context.Context) bool {
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	changed := l.changed
	l.mu.Unlock()
	defer l.mu.Lock()
	select {
	case <-changed:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *lane) work() {
	finished := false
	l.mu.Lock()
	defer func() {
		if !finished { // by runtime.Goexit in a function: the others still run
			go l.work()
		}
		l.mu.Unlock()
	}()
	for len(l.queue) > 0 {
		t := l.queue[0]
		l.queue[0] = task{}
		l.queue = l.queue[1:]
		l.waiting -= t.size
		l.notify()
		l.runUnlocked(t)
	}
	l.queue = nil
	l.running = false
	l.notify()
	finished = true
}

func (l *lane) runUnlocked(t task) {
	l.mu.Unlock()
	defer l.mu.Lock()
	t.run()
}

func (l *lane) notify() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

package crosscomm

import (
	"context"
	"sync"
)

// activity counts what is under way and must have ended before something else
// may. Unlike a sync.WaitGroup it can be closed, and waited for no longer than a
// context lasts. The zero value is ready.
type activity struct {
	mu      sync.Mutex
	n       int
	closed  bool
	settled chan struct{} // if not nil, closed when nothing is under way any more
}

// begin registers something, whose end must follow; it reports false if the
// activity is closed.
func (a *activity) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.n++
	return true
}

func (a *activity) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n--
	if a.n == 0 && a.settled != nil {
		close(a.settled)
		a.settled = nil
	}
}

// close lets nothing begin any more, and waits until everything has ended; it
// reports false if ctx ended before that.
func (a *activity) close(ctx context.Context) bool {
	a.mu.Lock()
	a.closed = true
	if a.n == 0 {
		a.mu.Unlock()
		return true
	}
	if a.settled == nil {
		a.settled = make(chan struct{})
	}
	settled := a.settled
	a.mu.Unlock()
	select {
	case <-settled:
		return true
	case <-ctx.Done():
		return false
	}
}

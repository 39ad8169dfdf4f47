package crosscomm

import (
	"context"
	"sync"
)

// transfers bounds how many downloads run at once, and lets only one at a time
// write to the same place.
type transfers struct {
	slots chan struct{} // holds a token for each that runs

	mu      sync.Mutex
	places  map[string]chan struct{} // closed when the transfer there has ended
	waiting []func()                 // for a goroutine
	workers int                      // goroutines; as many as slots at most
}

func newTransfers(n int) *transfers {
	return &transfers{slots: make(chan struct{}, n), places: map[string]chan struct{}{}}
}

// run runs the function, which must end soon after its context does, when its
// turn comes. A message that waits for its download costs no goroutine: there
// may be thousands.
func (t *transfers) run(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(t.waiting, f)
	if t.workers < cap(t.slots) {
		t.workers++
		go t.work()
	}
}

func (t *transfers) work() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.waiting) > 0 {
		f := t.waiting[0]
		t.waiting[0] = nil
		t.waiting = t.waiting[1:]
		t.mu.Unlock()
		f()
		t.mu.Lock()
	}
	t.workers--
}

// begin waits for its turn, and returns what ends it, or the error of ctx.
func (t *transfers) begin(ctx context.Context, place string) (end func(), err error) {
	ended := make(chan struct{})
	for {
		t.mu.Lock()
		other := t.places[place]
		if other == nil {
			t.places[place] = ended
		}
		t.mu.Unlock()
		if other == nil {
			break
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	leave := func() {
		t.mu.Lock()
		delete(t.places, place)
		t.mu.Unlock()
		close(ended)
	}
	// The place first: who waits for it must not take a slot from others.
	select {
	case t.slots <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
	return func() {
		<-t.slots
		leave()
	}, nil
}

// forEach calls f for all items, folderWorkers at a time; the first error ends
// the others' contexts, and is returned when all have ended.
func forEach[T any](ctx context.Context, items []T, f func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan T)
	var workers sync.WaitGroup
	for range min(folderWorkers, len(items)) {
		workers.Go(func() {
			for item := range next {
				if err := f(ctx, item); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, item := range items {
		select {
		case next <- item:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}

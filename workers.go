package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// errGoexit is for a store that has ended one of our goroutines by
// runtime.Goexit, as the methods of a testing.T do.
var errGoexit = errors.New("the object store has ended its goroutine")

// forEach calls f for all items, by so many workers; the first error ends the
// others' contexts, and is returned when all have ended. A panic of f, which may
// be that of an application's ObjectStore, becomes one of forEach: on a goroutine
// of ours nobody could recover from it.
func forEach[T any](ctx context.Context, workers int, items []T, f func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan T)
	var running sync.WaitGroup
	var once sync.Once
	var panicked any
	call := func(item T) {
		returned := false
		defer func() {
			if p := recover(); p != nil {
				once.Do(func() { panicked = fmt.Sprintf("%v\n\n%s", p, debug.Stack()) })
				cancel(nil)
			} else if !returned {
				cancel(errGoexit)
			}
		}()
		if err := f(ctx, item); err != nil {
			cancel(err)
		}
		returned = true
	}
	for range min(workers, len(items)) {
		running.Go(func() {
			for item := range next {
				call(item)
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
	running.Wait()
	if panicked != nil {
		panic(panicked)
	}
	return context.Cause(ctx)
}

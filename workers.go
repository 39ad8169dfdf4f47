package crosscomm

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
)

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
		defer func() {
			if p := recover(); p != nil {
				once.Do(func() { panicked = fmt.Sprintf("%v\n\n%s", p, debug.Stack()) })
				cancel(nil)
			}
		}()
		if err := f(ctx, item); err != nil {
			cancel(err)
		}
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

package crosscomm

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// presenceWatcher is a function that is told who comes and goes.
type presenceWatcher struct {
	f    func(PresenceEvent)
	only map[string]bool // whom it is told of; nil for everybody
	log  *slog.Logger

	begun bool // whether it was told who is there; of who has the watcher in its list

	queue serialQueue // has the watcher itself as its one job while there is news

	mu   sync.Mutex
	news presenceNews
	busy bool // whether the queue has the job
}

// tell has the function called for the events, and does not wait for that.
func (w *presenceWatcher) tell(events ...PresenceEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range events {
		if w.only == nil || w.only[e.ClientID] {
			w.news.add(e)
		}
	}
	if !w.busy && !w.news.empty() {
		w.busy = true
		w.queue.add("", task{job: w})
	}
}

// run tells one event, and comes again for the next one: what waits may have become
// less by then.
func (w *presenceWatcher) run() {
	w.mu.Lock()
	e, ok := w.news.next()
	w.busy = ok
	w.mu.Unlock()
	if !ok {
		return
	}
	defer w.queue.add("", task{job: w}) // also after runtime.Goexit
	defer logPanic(w.log, "a function that watches presence panicked", nil)
	w.f(e)
}

// drop is called when the watcher is removed: then nobody needs to know more.
func (w *presenceWatcher) drop() {}

// presenceWatchers are the functions of one Service. Who has them guards them.
type presenceWatchers []*presenceWatcher

// tell tells all that know who was there before.
func (list presenceWatchers) tell(events ...PresenceEvent) {
	for _, w := range list {
		if w.begun {
			w.tell(events...)
		}
	}
}

// begin tells one that knows nothing yet who is there.
func (w *presenceWatcher) begin(found []PresenceEvent) {
	w.begun = true
	w.tell(found...)
}

// remove takes one out of the list, and reports whether it was there.
func (list *presenceWatchers) remove(w *presenceWatcher) bool {
	w.queue.close()
	i := slices.Index(*list, w)
	if i < 0 {
		return false
	}
	*list = slices.Delete(*list, i, i+1)
	return true
}

// idle waits until all was told, or ctx ends. It may be called for a copy of the list.
func (list presenceWatchers) idle(ctx context.Context) bool {
	for _, w := range list {
		if !w.queue.idle(ctx) {
			return false
		}
	}
	return true
}

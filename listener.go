package crosscomm

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// Listener handles a message. See [Service.MessageListener] for when it is
// called and what its error does.
type Listener func(ctx context.Context, m *Message) error

// ListenerOptions say which messages a listener gets. The zero value stands
// for all that other programs send: texts, JSON, dicts, bytes, images, files
// and folders.
type ListenerOptions struct {
	// Type is the only type that the listener gets, if not empty. The
	// protocol's own messages from a server, login_response and
	// list_clients_response, are given only to listeners that name them.
	Type MsgType
	// From is the only sender that the listener hears, if not empty.
	From string
}

func (o ListenerOptions) match(f frame.Frame) bool {
	if o.Type != "" && string(f.Type) != string(o.Type) || o.From != "" && string(f.From) != o.From {
		return false
	}
	return o.Type != "" || MsgType(f.Type).application()
}

// registry holds the listeners of a Service and brings messages to them.
type registry struct {
	log *slog.Logger

	mu      sync.RWMutex
	list    []*registration // replaced, never changed, so that it can be walked unlocked
	removed []*registration // no longer in list, but perhaps still running
}

type registration struct {
	listener Listener
	opts     ListenerOptions
	queue    serialQueue // closed when the listener is removed
}

func (r *registry) add(l Listener, opts ListenerOptions) (remove func()) {
	reg := &registration{listener: l, opts: opts}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(slices.Clip(r.list), reg)
	return func() { r.remove(reg) }
}

func (r *registry) remove(reg *registration) {
	if !reg.queue.close() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(slices.Clone(r.list), func(other *registration) bool { return other == reg })
	ended, cancel := context.WithCancel(context.Background())
	cancel() // so that idle does not wait
	r.removed = slices.DeleteFunc(r.removed, func(other *registration) bool { return other.queue.idle(ended) })
	r.removed = append(r.removed, reg)
}

// dispatch brings the message that is in data, from which f was scanned, to all
// listeners that match. It blocks only if too much of the same sender waits for
// one of them, until there is room, or ctx ends, with which the listeners' work
// ends too, or the connection that brought the message is closing, which must be
// able to end. Then the message is taken although there is no room if
// keep is set: a client has one connection after the other, but a server has
// many, and what each is allowed beyond the bound would add up.
func (r *registry) dispatch(ctx context.Context, closing <-chan struct{}, keep bool, data []byte, f frame.Frame) {
	r.mu.RLock()
	list := r.list
	r.mu.RUnlock()
	source := string(f.From)
	for _, reg := range list {
		if !reg.opts.match(f) {
			continue
		}
		if !reg.queue.waitForRoom(ctx, closing, source) && !keep {
			continue
		}
		// Each listener gets a Message of its own, made when its turn comes.
		reg.queue.add(source, len(data), func() {
			if ctx.Err() == nil {
				r.call(ctx, reg, newMessage(data, f))
			}
		})
	}
}

func (r *registry) call(ctx context.Context, reg *registration, m *Message) {
	log := r.log.With("msg_id", m.MsgID, "from", m.FromClientID, "type", string(m.MsgType))
	defer logPanic(log, "a listener panicked")
	if err := reg.listener(ctx, m); err != nil {
		log.Error("a listener failed", "error", err)
	}
}

// logPanic is to be deferred: a panic in a user's function ends that call and
// nothing else.
func logPanic(log *slog.Logger, what string) {
	if p := recover(); p != nil {
		log.Error(what, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

// idle waits until no listener runs and nothing waits for one, or ctx ends.
func (r *registry) idle(ctx context.Context) bool {
	r.mu.RLock()
	all := append(slices.Clip(r.list), r.removed...)
	r.mu.RUnlock()
	for _, reg := range all {
		if !reg.queue.idle(ctx) {
			return false
		}
	}
	return true
}

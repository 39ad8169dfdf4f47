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

// maxWaiting is how many bytes of messages may wait for one listener before
// their connection is not read further.
const maxWaiting = 64 << 20

// Listener handles a message. See [Service.MessageListener] for when it is
// called and what its error does.
type Listener func(ctx context.Context, m *Message) error

// ListenerOptions say which messages a listener gets. The zero value stands for
// all that other programs send: texts, JSON, dicts, bytes, images, files and
// folders.
type ListenerOptions struct {
	// Type is the only type that the listener gets, if not empty. The
	// protocol's own messages from a server, login_response and
	// list_clients_response, are had only by naming them.
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

	mu   sync.RWMutex
	list []*registration // replaced, never changed, so that it can be walked unlocked
}

type registration struct {
	listener Listener
	opts     ListenerOptions
	removed  context.Context
	remove   context.CancelFunc
	lane     lane
}

func (r *registry) add(l Listener, opts ListenerOptions) (remove func()) {
	reg := &registration{listener: l, opts: opts}
	reg.removed, reg.remove = context.WithCancel(context.Background())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(slices.Clip(r.list), reg)
	return func() {
		reg.remove()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.list = slices.DeleteFunc(slices.Clone(r.list), func(other *registration) bool { return other == reg })
	}
}

// dispatch brings a message, which f was scanned from, to all listeners that
// match. It blocks only if too much waits for one of them, until there is room,
// or ctx ends, with which the listeners' work ends too.
func (r *registry) dispatch(ctx context.Context, f frame.Frame, size int) {
	r.mu.RLock()
	list := r.list
	r.mu.RUnlock()
	for _, reg := range list {
		if !reg.opts.match(f) {
			continue
		}
		// Each listener gets a Message of its own, made when its turn comes.
		reg.lane.add(ctx, size, func() {
			if ctx.Err() == nil && reg.removed.Err() == nil {
				r.call(ctx, reg, newMessage(f))
			}
		})
	}
}

func (r *registry) call(ctx context.Context, reg *registration, m *Message) {
	log := r.log.With("msg_id", m.MsgID, "from", m.FromClientID, "type", string(m.MsgType))
	defer func() {
		if p := recover(); p != nil {
			log.Error("a listener panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	if err := reg.listener(ctx, m); err != nil {
		log.Error("a listener failed", "error", err)
	}
}

// idle waits until no listener runs and nothing waits for one, or ctx ends.
func (r *registry) idle(ctx context.Context) bool {
	r.mu.RLock()
	list := r.list
	r.mu.RUnlock()
	for _, reg := range list {
		if !reg.lane.idle(ctx) {
			return false
		}
	}
	return true
}

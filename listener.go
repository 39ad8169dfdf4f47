package crosscomm

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/crosscomm/crosscomm-go/internal/frame"
	"github.com/crosscomm/crosscomm-go/internal/link"
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
	// DownloadDirectory, if not empty, has images, files and folders downloaded
	// into this directory, which is made if it is missing, before listeners get
	// their messages; see [Message.Path] and [Message.Err]. A file gets the
	// whole key as its name there, a folder "folder_" and the time in seconds
	// since 1970, with the whole keys in it, as in the original. The first
	// listener that matches a message and has a directory decides for all of
	// them.
	//
	// Meanwhile only those listeners wait that match the message, and these
	// only with what comes from the same sender after it; when there are 8 MiB
	// of that, what comes then no longer waits for the download.
	DownloadDirectory string
	// Overflow says what happens when the listener does not keep up. The zero
	// value drops nothing, and has the connections wait.
	Overflow Overflow
	// MaxWaiting, if it is above 0, is how many messages of one sender may wait
	// for the listener, besides the bounds in bytes: see [OverflowBlock] and
	// [OverflowDropOldest]; OverflowLatest ignores it. What is being downloaded,
	// and what waits behind that, is not among them yet. The message that the
	// listener runs with does not wait any more.
	MaxWaiting int
	// Stats, if not nil, counts this listener's messages.
	Stats *ListenerStats
}

func (o ListenerOptions) match(t MsgType, f frame.Frame) bool {
	if o.Type != "" && t != o.Type || o.From != "" && string(f.From) != o.From {
		return false
	}
	return o.Type != "" || t.application()
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
	reg.queue.overflow, reg.queue.perSource, reg.queue.stats = opts.Overflow, opts.MaxWaiting, opts.Stats
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

// delivery is how a frame that came in is brought to the listeners.
type delivery struct {
	ctx  context.Context // the listeners work under it
	link *link.Link      // which has brought it, and must be able to end
	// keep has the message taken when the link is closing, although there is no
	// room: a client has one link after the other, but a server has many, and
	// what each is allowed beyond the bound would add up.
	keep bool
	work *activity // counts downloads
	// tally is told what the listeners have made of the message; nil if nobody asks.
	tally *tally
	// noWait has the connection read on although a listener does not keep up: a
	// listener may wait for what it is to bring.
	noWait  bool
	done    *outcomes // of listeners that have the message already; nil for none
	inquiry *inquiry  // that the message is; nil if it is no request
}

// arrival is a message on its way to a listener.
type arrival struct {
	Message
	ctx      context.Context
	registry *registry
	reg      *registration
	received *receivedFile
	tally    *tally
	done     *outcomes
}

// run has the listener handle the message.
func (a *arrival) run() {
	if h, ok := a.done.of(a.reg); ok {
		a.tally.end(h)
		return
	}
	if a.ctx.Err() != nil {
		a.reg.opts.Stats.dropped(1)
		a.tally.end(handling{failure: unfinished})
		return
	}
	a.path, a.err = a.received.outcome()
	// Also if the listener panics, or ends its goroutine.
	outcome := handling{failedListener, "it panicked"}
	defer func() {
		if outcome.failure != unfinished {
			a.done.note(a.reg, outcome)
		}
		a.tally.end(outcome)
	}()
	ctx := a.ctx
	if a.inquiry != nil {
		ctx = a.inquiry.ctx
	}
	if outcome = a.registry.call(ctx, a.reg, &a.Message); outcome.failure != "" && a.ctx.Err() != nil {
		outcome.failure = unfinished // it gave up because it had to
	}
}

// drop is called for a message that the listener is not called for.
func (a *arrival) drop() {
	a.tally.end(handling{failedListener, "it was dropped: the listener did not keep up, or was removed"})
}

// dispatch brings the message that is in data, from which f was scanned, to all
// listeners that match. It keeps neither: each listener gets a Message of its
// own. It blocks only if too much of the same sender waits for one of them that
// drops nothing, until there is room, or the context ends, with which the listeners'
// work ends too, or the link is closing.
func (s *Service) dispatch(how delivery, data []byte, f frame.Frame) {
	t := msgTypeOf(f.Type)
	list := s.listeners.all()
	received := s.receiveFile(how, list, t, f)
	for _, reg := range list {
		if !reg.opts.match(t, f) {
			continue
		}
		how.tally.add()
		a := &arrival{ctx: how.ctx, registry: &s.listeners, reg: reg, received: received, tally: how.tally, done: how.done}
		a.Message.set(data, t, f)
		a.Message.inquiry = how.inquiry
		work := task{size: len(data), ready: received.ready(), job: a}
		if reg.queue.offer(a.FromClientID, work) || how.noWait && reg.queue.addBeyond(a.FromClientID, work) {
			continue
		}
		how.link.Flush() // before it is waited
		if reg.queue.waitForRoom(how.ctx, how.link.Closing(), a.FromClientID) || how.keep {
			reg.queue.add(a.FromClientID, work)
		} else {
			reg.opts.Stats.dropped(1)
			how.tally.end(handling{failure: unfinished})
		}
	}
	how.tally.close()
}

// all returns the listeners.
func (r *registry) all() []*registration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.list
}

// downloadDirectory returns where the listeners have the files of a message go, "" for
// nowhere.
func downloadDirectory(list []*registration, t MsgType, f frame.Frame) string {
	for _, reg := range list {
		if reg.opts.DownloadDirectory != "" && reg.opts.match(t, f) {
			return reg.opts.DownloadDirectory
		}
	}
	return ""
}

func (r *registry) call(ctx context.Context, reg *registration, m *Message) (h handling) {
	well := false
	h = handling{failedListener, "it panicked"}
	defer func() { reg.opts.Stats.handled(well) }()
	defer logPanic(r.log, "a listener panicked", m)
	err := reg.listener(ctx, m)
	if well = err == nil; well {
		return handling{}
	}
	r.log.With(m.logged()...).Error("a listener failed", "error", err)
	return handling{failedListener, err.Error()}
}

// logPanic is to be deferred: a panic in a user's function ends that call and
// nothing else. The message is the one that was handled, or nil.
func logPanic(log *slog.Logger, what string, m *Message) {
	if p := recover(); p != nil {
		log.With(m.logged()...).Error(what, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

// logged returns what the log tells of a message, of which there may be none.
func (m *Message) logged() []any {
	if m == nil {
		return nil
	}
	return []any{"msg_id", m.MsgID, "from", m.FromClientID, "type", string(m.MsgType)}
}

// idle waits until no listener runs and nothing waits for one, or ctx ends.
func (r *registry) idle(ctx context.Context) bool {
	r.mu.RLock()
	all := slices.Concat(r.list, r.removed)
	r.mu.RUnlock()
	for _, reg := range all {
		if !reg.queue.idle(ctx) {
			return false
		}
	}
	return true
}

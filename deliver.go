package crosscomm

import (
	"context"
	"fmt"
	"sync"

	"github.com/crosscomm/crosscomm-go/internal/dedup"
	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// ownLetters are the messages of a server itself for which somebody waits. The zero
// value is ready.
type ownLetters struct {
	mu      sync.Mutex
	waiting map[string]chan notice // by msg_id, as JSON text; each has room for the one notice
}

func (o *ownLetters) add(msgID string) <-chan notice {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.waiting == nil {
		o.waiting = map[string]chan notice{}
	}
	ch := make(chan notice, 1)
	o.waiting[msgID] = ch
	return ch
}

func (o *ownLetters) remove(msgID string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.waiting, msgID)
}

// settle tells who waits.
func (o *ownLetters) settle(list []notice) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, what := range list {
		if ch := o.waiting[string(what.msgID)]; ch != nil {
			delete(o.waiting, string(what.msgID))
			what.msgID = nil // which is only lent
			ch <- what
		}
	}
}

// deliver sends a message of the server's own, and waits until it has come as far as
// is wanted.
func (srv *server) deliver(ctx context.Context, data []byte, msgID, to string, h headers) (Receipt, error) {
	want := stageNamed(h.Delivery)
	run := srv.running()
	if run == nil || run.ctx.Err() != nil {
		return Receipt{}, errStopped
	}
	if ctx.Err() != nil {
		return Receipt{}, context.Cause(ctx)
	}
	receipt := Receipt{MsgID: msgID}
	fail := func(err error) (Receipt, error) {
		return receipt, &DeliveryError{MsgID: msgID, To: to, Reached: receipt.Reached, Err: err}
	}
	if to == ServerID { // nobody hears himself
		return fail(ErrNoListener)
	}
	id := frame.AppendString(nil, msgID)
	told := srv.own.add(string(id))
	defer srv.own.remove(string(id))
	s := sender{msgID: id, key: dedup.Of(id), want: want}
	plain := data
	data = appendHeaders(nil, data, h)
	var n notices
	if to == All {
		s.group = run.deliveries.newBroadcast(s)
		there := run.deliveries.newReached(nil)
		srv.hub.broadcast(nil, srv.hub.now(), func(m *member, _ *peer) bool {
			s.group.add()
			why, _ := run.deliveries.bring(m, newLetter(s, data, false), nil, &n)
			if there.add(m, why != failedOffline); why != "" {
				s.group.end(Sent, true) // it was not taken
			}
			return true
		})
		n.send(srv, nil) // before it is waited for the disk
		srv.keepForAll(ctx, plain, srv.hub.missed(there))
		s.group.close() // what follows when it is told comes behind all of it
	} else if why, _ := run.deliveries.bring(srv.hub.member([]byte(to)), newLetter(s, data, !h.Request), nil, &n); why != "" {
		return fail(why.err(""))
	}
	n.send(srv, nil)
	select {
	case what := <-told:
		if what.counts != nil {
			receipt = *what.counts
			receipt.MsgID = msgID
		}
		if what.failure != "" {
			receipt.Reached = what.failure.reached()
			return fail(what.failure.err(what.reason))
		}
		receipt.Reached = want
		return receipt, nil
	case <-run.ctx.Done():
		return fail(fmt.Errorf("%w; the message may still arrive", errStopped))
	case <-ctx.Done():
		return fail(fmt.Errorf("%w while waiting until it is %v; the message may still arrive", context.Cause(ctx), want))
	}
}

// keep has a message of the server's own, for which nobody waits, wait for the client of
// the id, which is nil if none is known.
func (srv *server) keep(ctx context.Context, data []byte, m *member, id string) error {
	run := srv.running()
	switch {
	case run == nil || run.deliveries.store == nil:
		return fmt.Errorf("to %q: %w", id, ErrOffline)
	case m == nil:
		return fmt.Errorf("to %q: %w", id, ErrUnknownClient)
	}
	return srv.keepFor(ctx, run.deliveries, m, run.deliveries.kept(data))
}

// kept returns a message of the server's own as it waits for clients.
func (d *deliveries) kept(data []byte) []byte {
	return appendHeaders(nil, data, headers{Delivery: Accepted.String(), QueuedAs: d.nextID()})
}

// keepFor has what kept has returned wait for a client.
func (srv *server) keepFor(ctx context.Context, office *deliveries, m *member, kept []byte) error {
	var n notices
	why, toDisk := office.bring(m, newLetter(sender{}, kept, true), nil, &n)
	if why != "" {
		return fmt.Errorf("to %q: %w", m.id, why.err(""))
	}
	n.send(srv, nil)
	if toDisk { // or the memory would be full of what waits for the disk
		_ = office.store.Room(ctx)
	}
	return nil
}

// keepForAll has a message of the server's own to all wait for these clients.
func (srv *server) keepForAll(ctx context.Context, data []byte, list []*member) {
	run := srv.running()
	if run == nil || len(list) == 0 {
		return
	}
	kept := run.deliveries.kept(data)
	for _, m := range list {
		_ = srv.keepFor(ctx, run.deliveries, m, kept) // of a message to all nobody is told
	}
}

// keepsFor reports whether messages for a client wait for it.
func (srv *server) keepsFor(id string) bool {
	run := srv.running()
	return run != nil && run.deliveries.store != nil && srv.hub.member([]byte(id)) != nil
}

// running returns the run, or nil.
func (srv *server) running() *serverRun {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.run
}

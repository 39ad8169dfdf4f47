package crosscomm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/crosscomm/crosscomm-go/internal/fifo"
)

// maxAheadBytes bounds the messages of which a client waits to be told, with maxAhead.
const maxAheadBytes = 16 << 20

// outbox has the messages for which a client waits to be told how far they have come,
// in the order in which they were sent first. On each new session all of them are sent
// again: what the server has had already it does not relay twice. The zero value is
// ready.
type outbox struct {
	mu      sync.Mutex
	session *session // on which they were sent last; nil before the first one
	list    []*outboxMessage
	byID    map[string]*outboxMessage
	bytes   int
	waiting fifo.Queue[*outboxTurn] // those that wait for room, in their order
}

// outboxTurn is somebody who waits for room.
type outboxTurn struct {
	come chan struct{} // closed when it is his turn
	gone bool          // whether he waits no more; guarded by outbox.mu
}

// outboxMessage is one of them.
type outboxMessage struct {
	msgID string
	data  []byte
	plain []byte // without headers; nil if it means nothing without
	want  Stage
	told  chan told // has room for the one result
}

// told is what a sender is told of a message.
type told struct {
	receipt Receipt
	err     error
}

// deliver sends a message and waits until it has come as far as is wanted.
func (c *client) deliver(ctx context.Context, data []byte, msgID, to string, h headers) (Receipt, error) {
	want := stageNamed(h.Delivery)
	receipt := Receipt{MsgID: msgID}
	current, err := c.session(ctx)
	if err != nil {
		return Receipt{}, err
	}
	run := current.run
	fail := func(err error) (Receipt, error) {
		return receipt, &DeliveryError{MsgID: msgID, To: to, Reached: receipt.Reached, Err: err}
	}
	if !current.agreed {
		if h.Request || h.ReplyTo != "" {
			return fail(ErrNoReply)
		}
		if err := c.send(ctx, data); err != nil {
			return Receipt{}, err
		}
		return fail(ErrNoReceipts)
	}
	plain := data
	data = appendHeaders(nil, data, h)
	if len(data) > current.serverTakes {
		return Receipt{}, tooLarge(len(data), "the server", current.serverTakes)
	}
	if h.Request || h.ReplyTo != "" {
		plain = nil
	}
	m := &outboxMessage{msgID: msgID, data: data, plain: plain, want: want, told: make(chan told, 1)}
	if err := c.outbox.add(ctx, run, m); err != nil {
		return Receipt{}, err
	}
	defer c.outbox.remove(m)
	select {
	case result := <-m.told:
		receipt = result.receipt
		receipt.MsgID = msgID
		if result.err != nil {
			return fail(result.err)
		}
		return receipt, nil
	case <-run.done:
		return fail(fmt.Errorf("%w; the message may still arrive", run.whyOver()))
	case <-ctx.Done():
		return fail(fmt.Errorf("%w while waiting until it is %v; the message may still arrive", context.Cause(ctx), want))
	}
}

// add waits for room, and sends a message behind those that are there.
func (o *outbox) add(ctx context.Context, run *clientRun, m *outboxMessage) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for first := true; !o.hasRoom(m) || first && o.waiting.Len() > 0; first = false {
		if err := o.awaitRoom(ctx, run); err != nil {
			o.wakeNext()
			return err
		}
	}
	defer o.wakeNext() // there may be room for more than one
	if o.byID == nil {
		o.byID = map[string]*outboxMessage{}
	}
	o.list = append(o.list, m)
	o.byID[m.msgID] = m
	o.bytes += len(m.data)
	if o.session != nil {
		m.sendOn(o.session)
	}
	return nil
}

// sendOn sends the message on a session, which need not be the one of before, nor the
// server the same. If it fails, there is a new session soon.
func (m *outboxMessage) sendOn(sess *session) {
	switch {
	case !sess.agreed && m.plain == nil:
		m.tell(told{err: ErrNoReply})
	case !sess.agreed: // what it is told is all that is known
		_ = sess.link.Send(m.plain)
		m.tell(told{err: ErrNoReceipts})
	case len(m.data) > sess.serverTakes:
		m.tell(told{err: tooLarge(len(m.data), "the server", sess.serverTakes)})
	default:
		_ = sess.link.Send(m.data)
	}
}

// hasRoom reports whether a message may be added; with mu held, as the next two.
func (o *outbox) hasRoom(m *outboxMessage) bool {
	return len(o.list) == 0 || len(o.list) < maxAhead && o.bytes+len(m.data) <= maxAheadBytes
}

// wakeNext has the one who has waited for longest look whether there is room.
func (o *outbox) wakeNext() {
	for o.waiting.Len() > 0 {
		turn := o.waiting.All()[0]
		if !turn.gone {
			if len(o.list) < maxAhead && !isClosed(turn.come) {
				close(turn.come)
			}
			return
		}
		o.waiting.Pop()
	}
}

// awaitRoom waits until there may be room. It is called with mu held, which it gives up
// meanwhile.
func (o *outbox) awaitRoom(ctx context.Context, run *clientRun) error {
	turn := &outboxTurn{come: make(chan struct{})}
	o.waiting.Push(turn)
	o.mu.Unlock()
	var err error
	select {
	case <-turn.come:
	case <-run.done:
		err = run.whyOver()
	case <-ctx.Done():
		err = fmt.Errorf("%w while others were waiting for their receipts; the message was not sent", context.Cause(ctx))
	}
	o.mu.Lock()
	turn.gone = true
	return err
}

// remove takes a message out, for which nobody waits any more.
func (o *outbox) remove(m *outboxMessage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.byID, m.msgID)
	i := slices.Index(o.list, m) // near the beginning, mostly
	o.list = slices.Delete(o.list, i, i+1)
	o.bytes -= len(m.data)
	o.wakeNext()
}

// sendAgain sends on a new session what is not told of yet, before anything newer.
func (o *outbox) sendAgain(sess *session) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.session = sess
	for _, m := range o.list {
		m.sendOn(sess)
	}
}

// tell tells the result; only the first one counts.
func (m *outboxMessage) tell(result told) {
	select {
	case m.told <- result:
	default:
	}
}

// settle takes a receipt.
func (o *outbox) settle(content []byte) error {
	var r receiptContent
	if err := json.Unmarshal(content, &r); err != nil {
		return fmt.Errorf("the receipt is malformed: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for stage, ids := range map[Stage][]string{Accepted: r.Accepted, Written: r.Written, Handled: r.Handled} {
		for _, id := range ids {
			if m := o.byID[id]; m != nil && stage >= m.want {
				m.tell(told{receipt: Receipt{Reached: stage}})
			}
		}
	}
	for _, f := range r.Failed {
		if m := o.byID[f.MsgID]; m != nil {
			m.tell(told{receipt: Receipt{Reached: f.Error.reached()}, err: f.Error.err(f.Reason)})
		}
	}
	for _, b := range r.Broadcasts {
		if m := o.byID[b.MsgID]; m != nil {
			m.tell(told{receipt: Receipt{
				Reached: m.want, Receivers: b.Receivers, Accepted: b.Accepted, Written: b.Written, Handled: b.Handled, Failed: b.Failed,
			}})
		}
	}
	return nil
}

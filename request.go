package crosscomm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/dedup"
	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// typeCancel is sent by who has made a request and waits no more, through the server to
// who works on it, where both have agreed on more than the original's wire.
const typeCancel MsgType = "cancel"

// cancelContent is its content.
type cancelContent struct {
	MsgID string `json:"msg_id"` // of the request
}

// Request sends a message and returns the reply of the listener that takes it, which
// calls [Message.Reply]. The receiver is one client, or, for a client, [ServerID]; it
// must be one of ours, and be there: a request does not wait for who is away.
//
// The listener's context ends when ctx does, or after the same time; without a deadline a
// request lasts for as long as the two are connected. If a link is lost meanwhile, it
// is sent again like a message of [Service.Deliver], and like that it is handled once.
//
// The errors are [ErrReceiver] and [ErrContent], and those of Deliver, among them
// [ErrListener] with the text of the error that the listener has returned, [ErrOffline],
// and [ErrNoReply] if it has returned without a reply, or speaks only the original's
// wire.
func (s *Service) Request(ctx context.Context, content any, t MsgType, toClientID string) (*Message, error) {
	reply, err := s.request(ctx, content, t, toClientID)
	if err != nil {
		return nil, fmt.Errorf("crosscomm: Request: %w", err)
	}
	return reply, nil
}

func (s *Service) request(ctx context.Context, content any, t MsgType, to string) (*Message, error) {
	switch err := checkReceiver(to); {
	case err != nil:
		return nil, err
	case to == All:
		return nil, fmt.Errorf("%w: a request has one receiver", ErrReceiver)
	case t.file():
		return nil, fmt.Errorf("%w: a request is no %s", ErrContent, t)
	}
	data, msgID, err := s.newMessageFrame(content, t, to, "")
	if err != nil {
		return nil, err
	}
	h := headers{Delivery: Handled.String(), Request: true}
	if deadline, ok := ctx.Deadline(); ok {
		h.Timeout = max(1, time.Until(deadline).Milliseconds())
	}
	replied := s.replies.add(msgID, to)
	defer s.replies.remove(msgID)
	_, err = s.deliver(ctx, data, msgID, to, h)
	if err == nil {
		m, err := s.awaitReply(ctx, replied)
		if err == nil {
			return m, nil
		}
		return nil, &DeliveryError{MsgID: msgID, To: to, Reached: Handled, Err: err}
	}
	if deadline, ok := ctx.Deadline(); ok && errors.Is(err, ErrExpired) && time.Until(deadline) < endsSooner {
		<-ctx.Done()
		return nil, &DeliveryError{MsgID: msgID, To: to, Err: context.Cause(ctx)}
	}
	if ctx.Err() != nil {
		s.cancelRequest(msgID, to)
	}
	return nil, err
}

// endsSooner is by how much a listener's time may end sooner than that of who waits for
// the reply, which the wire has in whole milliseconds.
const endsSooner = 100 * time.Millisecond

// replyTime is how long a reply may take after the request has been handled: it was sent
// before that was told, and comes later only if links were lost meanwhile.
const replyTime = 5 * time.Second

// awaitReply waits for the reply to a request that has been handled.
func (s *Service) awaitReply(ctx context.Context, replied <-chan *Message) (*Message, error) {
	timer := time.NewTimer(replyTime)
	defer timer.Stop()
	select {
	case m := <-replied:
		return m, nil
	case <-timer.C:
		return nil, fmt.Errorf("%w: the request was handled, and the reply did not come", ErrNoReply)
	case <-s.runEnds():
		return nil, fmt.Errorf("%w while waiting for the reply", ErrNotConnected)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w while waiting for the reply", context.Cause(ctx))
	}
}

// runEnds is closed when a client has logged out or given up, or a server has stopped; nil
// if it was neither before.
func (s *Service) runEnds() <-chan struct{} {
	if s.client != nil {
		if run := s.client.lastRun(); run != nil {
			return run.done
		}
	} else if run := s.server.running(); run != nil {
		return run.ctx.Done()
	}
	return nil
}

// cancelRequest tells the receiver of a request that nobody waits for it any more. That
// is a courtesy: nobody waits for it, either.
func (s *Service) cancelRequest(msgID, to string) {
	content, err := json.Marshal(cancelContent{msgID})
	if err != nil {
		panic(err) // a string can always be written
	}
	data := s.newFrame(typeCancel, to, content)
	if s.server != nil {
		var n notices
		m := s.server.hub.member([]byte(to))
		if !m.cancel(nil, frame.AppendString(nil, msgID), &n) {
			if p := s.server.hub.peerOf(to); p != nil && p.agreed {
				s.server.tell(p, data)
			}
		}
		n.send(s.server, nil)
		return
	}
	if run := s.client.lastRun(); run != nil {
		if current := run.state().current; current != nil && current.agreed {
			_ = current.link.Send(data)
		}
	}
}

// cancelledID returns the msg_id of a request that is cancelled, as JSON text.
func cancelledID(f frame.Frame) ([]byte, error) {
	var c cancelContent
	if err := json.Unmarshal(f.Content, &c); err != nil {
		return nil, fmt.Errorf("the cancellation is malformed: %w", err)
	}
	return frame.AppendString(nil, c.MsgID), nil
}

// replies are the requests of a Service that wait for theirs. The zero value is ready.
type replies struct {
	mu      sync.Mutex
	waiting map[string]awaitedReply // by the request's msg_id
}

type awaitedReply struct {
	from string // who may reply
	ch   chan *Message
}

func (r *replies) add(msgID, from string) <-chan *Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting == nil {
		r.waiting = map[string]awaitedReply{}
	}
	ch := make(chan *Message, 1)
	r.waiting[msgID] = awaitedReply{from, ch}
	return ch
}

func (r *replies) remove(msgID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, msgID)
}

// came brings a reply to who waits for it, if anybody does.
func (r *replies) came(to string, m *Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a, ok := r.waiting[to]; ok && a.from == m.FromClientID {
		delete(r.waiting, to)
		a.ch <- m
	}
}

// inquiry is a request that has come, which the listeners that it is for have in
// common.
type inquiry struct {
	service *Service
	from    string
	msgID   string
	ctx     context.Context // of the listeners: ends when nobody waits for the reply any more

	mu    sync.Mutex
	state replyState
}

// replyState is how far the reply to a request is.
type replyState int

const (
	notReplied replyState = iota
	replying
	replied
)

// begin reports whether nobody else replies, or has.
func (q *inquiry) begin() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.state != notReplied {
		return false
	}
	q.state = replying
	return true
}

// end notes whether the reply that was begun is on its way.
func (q *inquiry) end(well bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.state = notReplied; well {
		q.state = replied
	}
}

func (q *inquiry) isReplied() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.state == replied
}

// IsRequest reports whether somebody waits for a [Message.Reply] to the message.
func (m *Message) IsRequest() bool { return m.inquiry != nil }

// Reply answers a request from within the listener that was given it: see
// [Service.Request]. The content is as for [Service.SendMessage], but for files, which a
// reply cannot be. It returns when the reply is safe with the server. Only one reply
// counts, the first of all listeners that can be sent: for further ones, and for a message
// that is no request, the error is [ErrNoRequest]; the others are those of
// [Service.Deliver]. If a listener then returns an error, that is what the caller gets.
func (m *Message) Reply(ctx context.Context, content any, t MsgType) error {
	if err := m.reply(ctx, content, t); err != nil {
		return fmt.Errorf("crosscomm: Reply: %w", err)
	}
	return nil
}

func (m *Message) reply(ctx context.Context, content any, t MsgType) error {
	q := m.inquiry
	if q == nil {
		return ErrNoRequest
	}
	if t.file() {
		return fmt.Errorf("%w: a reply is no %s", ErrContent, t)
	}
	data, msgID, err := q.service.newMessageFrame(content, t, q.from, "")
	if err != nil {
		return err
	}
	if !q.begin() {
		return fmt.Errorf("%w: it was replied to already", ErrNoRequest)
	}
	_, err = q.service.deliver(ctx, data, msgID, q.from, headers{Delivery: Accepted.String(), ReplyTo: q.msgID})
	q.end(err == nil)
	return err
}

// inquiries are the requests that listeners work on, so that they can be cancelled. The
// zero value is ready.
type inquiries struct {
	mu     sync.Mutex
	cancel map[dedup.Key]context.CancelCauseFunc
}

var errCancelled = errors.New("nobody waits for the reply any more")

// begin notes a request, for a delivery whose tally it completes: who has no reply
// in the end is told that there is none.
func (in *inquiries) begin(s *Service, how delivery, f frame.Frame, h headers) delivery {
	key := dedup.Of(f.From, f.MsgID)
	ctx, cancel := context.WithCancelCause(how.ctx)
	stop := func() {}
	if lasts := h.lasts(); lasts > 0 {
		timer := time.AfterFunc(lasts, func() { cancel(context.DeadlineExceeded) })
		stop = func() { timer.Stop() }
	}
	in.mu.Lock()
	if in.cancel == nil {
		in.cancel = map[dedup.Key]context.CancelCauseFunc{}
	}
	in.cancel[key] = cancel
	in.mu.Unlock()
	msgID, _ := frame.Unquote(f.MsgID)
	q := &inquiry{service: s, from: string(f.From), msgID: msgID, ctx: ctx}
	told := how.tally.done
	how.inquiry = q
	how.tally = newTally(func(outcome handling) {
		stop()
		late := errors.Is(context.Cause(ctx), context.DeadlineExceeded)
		cancel(nil)
		in.mu.Lock()
		delete(in.cancel, key)
		in.mu.Unlock()
		switch {
		case outcome.failure == "" && !q.isReplied():
			outcome.failure = failedReply
		case outcome.failure == failedListener && late:
			outcome.failure = failedExpired
		}
		told(outcome)
	})
	return how
}

// cancelled is called for a typeCancel.
func (in *inquiries) cancelled(f frame.Frame) error {
	msgID, err := cancelledID(f)
	if err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if cancel := in.cancel[dedup.Of(f.From, msgID)]; cancel != nil {
		cancel(errCancelled)
	}
	return nil
}

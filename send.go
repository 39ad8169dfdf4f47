package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/frame"
	"github.com/crosscomm/crosscomm-go/internal/link"
)

// send is Service.Deliver.
func (s *Service) send(ctx context.Context, content any, t MsgType, to string, want Stage) (r Receipt, err error) {
	if err = want.check(); err == nil {
		err = checkReceiver(to)
	}
	switch {
	case err != nil:
	case t.file():
		r, err = s.sendFile(ctx, content, t, to, want)
	default:
		r, err = s.sendFrame(ctx, content, t, to, "", want)
	}
	if err == nil && s.log.Enabled(ctx, slog.LevelDebug) {
		s.log.Debug("sent", "type", string(t), "to", to, "msg_id", r.MsgID, "stage", r.Reached.String())
	}
	return r, err
}

// sendFrame sends the message alone, with the key of what was stored for it, if
// anything.
func (s *Service) sendFrame(ctx context.Context, content any, t MsgType, to, key string, want Stage) (Receipt, error) {
	data, msgID, err := s.newMessageFrame(content, t, to, key)
	if err != nil {
		return Receipt{}, err
	}
	switch {
	case want > Sent:
		return s.deliver(ctx, data, msgID, to, headers{Delivery: want.String()})
	case s.client != nil:
		err = s.client.send(ctx, data)
	default:
		err = s.server.send(ctx, data, to)
	}
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{MsgID: msgID}, nil
}

// deliver sends a message, and waits until it has come as far as the headers want.
func (s *Service) deliver(ctx context.Context, data []byte, msgID, to string, h headers) (Receipt, error) {
	if s.client != nil {
		return s.client.deliver(ctx, data, msgID, to, h)
	}
	return s.server.deliver(ctx, data, msgID, to, h)
}

func checkReceiver(to string) error {
	if to == All || to == ServerID {
		return nil
	}
	if err := checkID(to); err != nil {
		return fmt.Errorf("%w: %w", ErrReceiver, err)
	}
	return nil
}

// canReach reports why a message could not be sent now. A client waits for its
// link.
func (s *Service) canReach(ctx context.Context, to string) error {
	if s.client != nil {
		_, err := s.client.session(ctx)
		return err
	}
	if to != All && to != ServerID && !s.server.hub.isPresent(to) && !s.server.keepsFor(to) {
		return fmt.Errorf("to %q: %w", to, ErrOffline)
	}
	return nil
}

// send brings a frame to its receiver.
func (srv *server) send(ctx context.Context, data []byte, to string) error {
	if srv.isStopped() {
		return errStopped
	}
	switch to {
	case ServerID: // nobody hears himself
	case All:
		srv.broadcast(ctx, data)
	default:
		m := srv.hub.member([]byte(to))
		p := srv.hub.target(m, srv.hub.now())
		if run := srv.running(); run != nil && run.deliveries.keeps(m) { // after target, as in peer.forward
			return srv.keep(ctx, data, m, to)
		}
		if p != nil && len(data) > p.takes {
			return tooLarge(len(data), "the receiver", p.takes)
		}
		if p == nil || !srv.tell(p, data) {
			return srv.keep(ctx, data, m, to)
		}
	}
	return nil
}

// broadcast brings a frame for which nobody waits to all who are there, and has it wait for
// the others, if that is wanted.
func (srv *server) broadcast(ctx context.Context, data []byte) {
	run := srv.running()
	if run == nil {
		return // nobody is there
	}
	there := run.deliveries.newReached(nil)
	var behind []*member
	srv.hub.broadcast(nil, srv.hub.now(), func(m *member, p *peer) bool {
		done := true
		if m.waiting.Load() {
			behind = append(behind, m)
		} else {
			done = len(data) > p.takes || srv.tell(p, data) // it would not fit later, either
		}
		there.add(m, done)
		return done
	})
	srv.keepForAll(ctx, data, append(behind, srv.hub.missed(there)...))
}

// errMayArrive is for a message of which it is not known whether it was sent.
var errMayArrive = errors.New("while the link was taking the message, which may still arrive")

// send writes a frame to the link, waiting for the link if it is down. A
// frame of which a broken link has not taken the whole is written to the next
// one: the server cannot have got it.
func (c *client) send(ctx context.Context, data []byte) error {
	for {
		current, err := c.session(ctx)
		if err != nil {
			return err
		}
		if len(data) > current.serverTakes {
			return tooLarge(len(data), "the server", current.serverTakes)
		}
		err = current.link.Write(ctx, data)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, link.ErrWithdrawn):
			return fmt.Errorf("%w while the link was busy; the message was not sent", context.Cause(ctx))
		case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
			return fmt.Errorf("%w %w", err, errMayArrive)
		}
		// The link is ending; there is a new session, or none, soon.
		select {
		case <-current.done:
		case <-ctx.Done():
			return downError(ctx)
		}
	}
}

// downError is for a context that ended while the link was down.
func downError(ctx context.Context) error {
	return fmt.Errorf("%w: %w while waiting for the link", ErrNotConnected, context.Cause(ctx))
}

// session returns the session, waiting for one while the link is down.
func (c *client) session(ctx context.Context) (*session, error) {
	run := c.lastRun()
	if run == nil {
		return nil, fmt.Errorf("%w: not logged in", ErrNotConnected)
	}
	for {
		state := run.state()
		switch {
		case state.gaveUp != nil:
			return nil, state.gaveUp
		case run.ctx.Err() != nil:
			return nil, errLoggedOut
		case state.current != nil && !isClosed(state.current.ended):
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			return state.current, nil
		}
		select {
		case <-state.changed:
		case <-run.ctx.Done():
		case <-ctx.Done():
			return nil, downError(ctx)
		}
	}
}

// newMessageFrame makes the frame of a message that an application sends, with
// the key of what was stored for it, if anything, and returns its msg_id, too. Its
// errors are those of SendMessage that do not depend on the link.
func (s *Service) newMessageFrame(content any, t MsgType, to, key string) (data []byte, msgID string, err error) {
	raw, err := encodeContent(t, content)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrContent, err)
	}
	m := s.newMessageOf(t, to, raw, key)
	data = m.AppendFrame(nil)
	if len(data) > s.cfg.MaxMessageSize {
		return nil, "", tooLarge(len(data), "receivers", s.cfg.MaxMessageSize)
	}
	if t == TypeDict {
		// What the application brought as JSON may be nested too deeply.
		if _, err := frame.Scan(data); err != nil {
			return nil, "", fmt.Errorf("%w: %w", ErrContent, err)
		}
	}
	return data, m.MsgID, nil
}

func tooLarge(size int, who string, takes int) error {
	return fmt.Errorf("%w: it has %d bytes on the wire, and %s may take %d", ErrTooLarge, size, who, takes)
}

var emptyContent = []byte("{}")

// newFrame makes a frame of our own, content being JSON text.
func (s *Service) newFrame(t MsgType, to string, content []byte) []byte {
	m := s.newMessageOf(t, to, content, "")
	return m.AppendFrame(nil)
}

// newMessageOf makes a message of our own, content being JSON text; something is
// stored for it if there is a key.
func (s *Service) newMessageOf(t MsgType, to string, content []byte, key string) Message {
	now := time.Now()
	m := Message{
		// The original's server too makes its message ids of its client id.
		MsgID:        newMessageID(s.cfg.ClientID, now),
		FromClientID: s.cfg.ClientID,
		ToClientID:   to,
		MsgType:      t,
		Content:      content,
		Timestamp:    toSeconds(now),
		OSSKey:       key,
	}
	if s.server != nil {
		m.FromClientID = ServerID
	}
	return m
}

package crosscomm

import (
	"context"
	"fmt"
)

// send is SendMessage of the client role.
func (c *client) send(ctx context.Context, content any, t MsgType, to string) error {
	data, err := c.s.compose(c.s.cfg.ClientID, content, t, to)
	if err != nil {
		return err
	}
	if err := c.write(ctx, data); err != nil {
		return fmt.Errorf("crosscomm: SendMessage: %w", err)
	}
	return nil
}

// write writes a frame to the link, waiting for the link if it is down. A frame
// of which a broken link has not taken the whole is written to the next one:
// the server cannot have got it.
func (c *client) write(ctx context.Context, data []byte) error {
	for {
		current, err := c.session(ctx)
		if err != nil {
			return err
		}
		result := make(chan error, 1)
		if current.link.Send(data, func(err error) { result <- err }) != nil {
			// The link is ending; there is a new session, or none, soon.
			select {
			case <-current.done:
			case <-ctx.Done():
			}
			continue
		}
		select {
		case err := <-result:
			if err == nil {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("%w while the link was taking the message, which may still arrive", context.Cause(ctx))
		}
	}
}

// session returns the session, waiting for one while the link is down.
func (c *client) session(ctx context.Context) (*session, error) {
	run := c.activeRun()
	if run == nil {
		return nil, fmt.Errorf("%w: not logged in", ErrNotConnected)
	}
	for {
		current, changed, gaveUp := run.state()
		switch {
		case gaveUp != nil:
			return nil, gaveUp
		case run.ctx.Err() != nil:
			return nil, fmt.Errorf("%w: logged out", ErrNotConnected)
		case current != nil && !current.isEnded():
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			return current, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w while waiting for the link", ErrNotConnected, context.Cause(ctx))
		}
	}
}

func (t *session) isEnded() bool {
	select {
	case <-t.ended:
		return true
	default:
		return false
	}
}

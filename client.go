package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// logoutPatience is how long a logout may take to write what was sent before
// and to hear the server's answer to the close.
const logoutPatience = 2 * time.Second

// client is the client role of a Service. From Login to Logout, or until it gives
// up, it has a run, which has a session while the link is up.
type client struct {
	s *Service

	loginMu sync.Mutex // held during Login, so that there is one run at most

	mu  sync.Mutex
	run *clientRun
}

// clientRun keeps a client connected. One goroutine, loop, owns its life: up,
// wait for lost or done, down, back off, connect.
type clientRun struct {
	client *client
	ctx    context.Context // ends at Logout
	cancel context.CancelFunc
	done   chan struct{} // closed when loop has ended

	mu      sync.Mutex
	current *session      // nil while down
	changed chan struct{} // closed and replaced when current or gaveUp changes
	gaveUp  error         // why there will be no session any more
}

func newClient(s *Service) *client { return &client{s: s} }

func (c *client) activeRun() *clientRun {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.run
}

func (c *client) connected() bool {
	run := c.activeRun()
	if run == nil {
		return false
	}
	current, _, _ := run.state()
	return current != nil
}

func (c *client) login(ctx context.Context) error {
	c.loginMu.Lock()
	defer c.loginMu.Unlock()
	if run := c.activeRun(); run != nil {
		if _, _, gaveUp := run.state(); gaveUp == nil && run.ctx.Err() == nil {
			return nil
		}
		<-run.done
	}
	run := &clientRun{client: c, done: make(chan struct{}), changed: make(chan struct{})}
	run.ctx, run.cancel = context.WithCancel(context.Background())
	first, err := run.firstSession(ctx)
	if err != nil {
		run.cancel()
		return fmt.Errorf("crosscomm: Login to %s: %w", c.s.cfg.URL, err)
	}
	c.mu.Lock()
	c.run = run
	c.mu.Unlock()
	run.up(first)
	go run.loop(first)
	return nil
}

// firstSession connects once, or, with RetryLogin, until it succeeds.
func (r *clientRun) firstSession(ctx context.Context) (*session, error) {
	wait := r.client.newBackoff()
	for {
		first, err := r.connect(ctx)
		if err == nil || !r.client.s.cfg.RetryLogin || errors.Is(err, ErrLoginRejected) || ctx.Err() != nil {
			return first, err
		}
		d := wait.next()
		r.client.s.log.Info("cannot log in yet", "error", err, "retry_in", d)
		if !sleep(ctx, d) {
			return nil, fmt.Errorf("%w; the last attempt: %w", context.Cause(ctx), err)
		}
	}
}

func (c *client) newBackoff() *backoff {
	return &backoff{min: c.s.cfg.BackoffMin, max: c.s.cfg.BackoffMax}
}

// sleep waits for d, and reports false if ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// loop is the life of a run, from its first session to its end.
func (r *clientRun) loop(current *session) {
	defer close(r.done)
	defer r.cancel()
	wait := r.client.newBackoff()
	for {
		began := time.Now()
		select {
		case <-current.done:
		case <-r.ctx.Done():
			current.logout()
			<-current.done
			r.end(fmt.Errorf("%w: logged out", ErrNotConnected))
			return
		}
		if time.Since(began) >= stableAfter {
			wait.reset()
		}
		lost := current.reason()
		if r.final(lost) {
			r.end(fmt.Errorf("%w: %w", ErrNotConnected, lost))
			r.client.notifyDown(lost)
			return
		}
		r.down(lost)
		var err error
		if current, err = r.reconnect(wait); err != nil {
			r.end(fmt.Errorf("%w: %w", ErrNotConnected, err))
			if r.ctx.Err() == nil {
				r.client.notifyDown(err)
			}
			return
		}
		r.up(current)
	}
}

// final reports whether there is no sense in connecting again after err.
func (r *clientRun) final(err error) bool {
	return r.client.s.cfg.NoReconnect || errors.Is(err, ErrReplaced) || errors.Is(err, ErrLoginRejected)
}

// reconnect tries until there is a session, or an error that is final, or the
// run's context has ended.
func (r *clientRun) reconnect(wait *backoff) (*session, error) {
	for {
		d := wait.next()
		r.client.s.log.Info("reconnecting", "in", d, "attempt", wait.attempts)
		if !sleep(r.ctx, d) {
			return nil, errors.New("logged out")
		}
		current, err := r.connect(r.ctx)
		switch {
		case err == nil:
			return current, nil
		case r.ctx.Err() != nil:
			return nil, errors.New("logged out")
		case r.final(err):
			return nil, err
		}
		r.client.s.log.Warn("cannot reconnect", "error", err)
	}
}

// state returns the session, nil while down; what is closed when that changes;
// and why it will not come back, if so.
func (r *clientRun) state() (current *session, changed <-chan struct{}, gaveUp error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current, r.changed, r.gaveUp
}

func (r *clientRun) set(current *session, gaveUp error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current, r.gaveUp = current, gaveUp
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *clientRun) up(current *session) {
	r.set(current, nil)
	c := r.client
	c.s.log.Info("logged in", "url", c.s.cfg.URL, "client_id", c.s.cfg.ClientID)
	if f := c.s.cfg.OnUp; f != nil {
		c.s.event(f)
	}
}

func (r *clientRun) down(reason error) {
	r.set(nil, nil)
	r.client.notifyDown(reason)
}

func (r *clientRun) end(reason error) { r.set(nil, reason) }

func (c *client) notifyDown(reason error) {
	c.s.log.Warn("the link is down", "reason", reason)
	if f := c.s.cfg.OnDown; f != nil {
		c.s.event(func() { f(reason) })
	}
}

// logout ends the run and waits for that.
func (c *client) logout(ctx context.Context) {
	run := c.activeRun()
	if run == nil {
		return
	}
	run.cancel()
	select {
	case <-run.done:
	case <-ctx.Done():
		if current, _, _ := run.state(); current != nil {
			current.link.Close(websocket.CloseNormalClosure, "logout", 0)
		}
		<-run.done
	}
}

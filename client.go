package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// logoutTimeout is how long a logout may take to write what was sent before
// and to hear the server's answer to the close.
const logoutTimeout = 2 * time.Second

var errLoggedOut = fmt.Errorf("%w: logged out", ErrNotConnected)

// client is the client role of a Service. From Login to Logout, or until it
// gives up, it has a run, which has a session while the link is up.
type client struct {
	s        *Service
	warnings logLimiter // of what the server sends
	inbox    *inbox
	outbox   outbox
	presence clientPresence

	mu  sync.Mutex
	run *clientRun // the last one, or nil

	// What the server has last offered of its endpoint, and the store that this
	// is; nil for nothing.
	offer    *objectStoreOffer
	store    *ossStore
	replaced []*ossStore // that were offered before, in this run
}

// clientRun keeps a client connected. One goroutine, loop, owns its life: up,
// wait for lost or done, down, back off, connect.
type clientRun struct {
	client *client
	ctx    context.Context // ends at Logout
	cancel context.CancelFunc
	done   chan struct{} // closed when the run has ended
	work   activity      // uploads and downloads

	mu       sync.Mutex
	current  *session      // nil while down
	loggedIn bool          // whether there ever was a session
	changed  chan struct{} // closed and replaced when another of these fields changes
	gaveUp   error         // why there will be no session any more
}

func newClient(s *Service) *client {
	c := &client{s: s, warnings: logLimiter{perSecond: warningsPerSecond}, inbox: newInbox()}
	c.presence.client = c
	return c
}

func (c *client) lastRun() *clientRun {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.run
}

func (c *client) connected() bool {
	run := c.lastRun()
	return run != nil && run.state().current != nil
}

// login begins a run. If there is one already it waits for the outcome of that
// one's login, and begins a run only if that has failed or has ended.
func (c *client) login(ctx context.Context) error {
	for {
		c.mu.Lock()
		last := c.run
		if last == nil || isClosed(last.done) {
			run := &clientRun{client: c, done: make(chan struct{}), changed: make(chan struct{})}
			run.ctx, run.cancel = context.WithCancel(context.Background())
			c.run = run
			c.mu.Unlock()
			return run.begin(ctx)
		}
		c.mu.Unlock()

		state := last.state()
		wait := state.changed
		switch {
		case state.gaveUp != nil || last.ctx.Err() != nil:
			wait = last.done
		case state.loggedIn:
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("crosscomm: Login: %w", context.Cause(ctx))
		}
	}
}

// begin logs in for the first time, and leaves loop running if that succeeds.
func (r *clientRun) begin(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.ctx, func() { cancel(errLoggedOut) })()

	first, err := r.firstSession(ctx)
	if err != nil {
		r.set(nil, fmt.Errorf("%w: the login failed: %w", ErrNotConnected, err))
		r.cancel()
		r.client.s.endTransfers(&r.work)
		close(r.done)
		return fmt.Errorf("crosscomm: Login to %s: %w", withoutQuery(r.client.s.cfg.URL), err)
	}
	r.up(first)
	go r.loop(first)
	return nil
}

// firstSession connects once, or, with RetryLogin, until it succeeds.
func (r *clientRun) firstSession(ctx context.Context) (*session, error) {
	wait := r.newBackoff()
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

func (r *clientRun) newBackoff() *backoff {
	return &backoff{min: r.client.s.cfg.BackoffMin, max: r.client.s.cfg.BackoffMax}
}

// loop is the life of a run, from its first session to its end.
func (r *clientRun) loop(current *session) {
	defer close(r.done)
	defer r.client.closeStores()
	defer r.client.s.endTransfers(&r.work)
	defer r.cancel()
	wait := r.newBackoff()
	for {
		began := time.Now()
		select {
		case <-current.done:
		case <-r.ctx.Done():
			current.logout()
			<-current.done
			r.set(nil, errLoggedOut)
			return
		}
		if time.Since(began) >= stableAfter {
			wait.reset()
		}
		lost := current.reason()
		if r.permanent(lost) {
			r.giveUp(lost)
			return
		}
		r.down(lost)
		var err error
		if current, err = r.reconnect(wait); err != nil {
			if r.ctx.Err() != nil {
				r.set(nil, errLoggedOut)
			} else {
				r.giveUp(err)
			}
			return
		}
		r.up(current)
	}
}

// permanent reports whether there is no sense in connecting again after err.
func (r *clientRun) permanent(err error) bool {
	return r.client.s.cfg.NoReconnect || errors.Is(err, ErrReplaced) || errors.Is(err, ErrLoginRejected)
}

// reconnect tries until there is a session, or an error that is permanent, or
// the run's context has ended.
func (r *clientRun) reconnect(wait *backoff) (*session, error) {
	for {
		d := wait.next()
		r.client.s.log.Info("reconnecting", "in", d, "attempt", wait.attempts)
		if !sleep(r.ctx, d) {
			return nil, r.ctx.Err()
		}
		current, err := r.connect(r.ctx)
		if err == nil || r.ctx.Err() != nil || r.permanent(err) {
			return current, err
		}
		r.client.s.log.Warn("cannot reconnect", "error", err)
	}
}

// runState is what senders look at.
type runState struct {
	current  *session
	loggedIn bool
	changed  <-chan struct{}
	gaveUp   error
}

func (r *clientRun) state() runState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return runState{r.current, r.loggedIn, r.changed, r.gaveUp}
}

func (r *clientRun) set(current *session, gaveUp error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current, r.gaveUp = current, gaveUp
	r.loggedIn = r.loggedIn || current != nil
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *clientRun) up(current *session) {
	r.client.outbox.sendAgain(current)
	r.set(current, nil)
	r.client.presence.up(current)
	s := r.client.s
	s.log.Info("logged in", "url", withoutQuery(s.cfg.URL), "client_id", s.cfg.ClientID)
	if f := s.cfg.OnUp; f != nil {
		s.event(f)
	}
}

func (r *clientRun) down(reason error) {
	r.set(nil, nil)
	r.notifyDown(reason)
}

func (r *clientRun) giveUp(reason error) {
	r.set(nil, fmt.Errorf("%w: %w", ErrNotConnected, reason))
	r.notifyDown(reason)
}

func (r *clientRun) notifyDown(reason error) {
	s := r.client.s
	s.log.Warn("the link is down", "reason", reason)
	if f := s.cfg.OnDown; f != nil {
		s.event(func() { f(reason) })
	}
}

// whyOver returns why a run has ended.
func (r *clientRun) whyOver() error {
	if gaveUp := r.state().gaveUp; gaveUp != nil {
		return gaveUp
	}
	return errLoggedOut
}

// logout ends the run and waits for that.
func (c *client) logout(ctx context.Context) {
	run := c.lastRun()
	if run == nil {
		return
	}
	run.cancel()
	select {
	case <-run.done:
	case <-ctx.Done():
		if current := run.state().current; current != nil {
			current.link.Close(websocket.CloseNormalClosure, "logout", 0)
		}
		<-run.done
	}
}

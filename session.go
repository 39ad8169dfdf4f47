package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/frame"
	"github.com/crosscomm/crosscomm-go/internal/link"
)

const (
	// loginTimeout bounds connecting and the server's answer to the login.
	loginTimeout = 10 * time.Second
	// pingEvery is how often a client pings the server, as Python's does; a
	// server that is silent for twice as long is lost.
	pingEvery = 20 * time.Second
)

// session is one connection of a client, from its handshake to its end.
type session struct {
	client   *client
	ctx      context.Context // of the run; listeners work under it
	link     *link.Link
	loggedIn chan struct{} // closed when the server has accepted the login
	ended    chan struct{} // closed when the link has ended
	done     chan struct{} // closed after that, when no goroutine is left

	mu       sync.Mutex
	rejected error // why the server refused the login
	err      error // why the link ended, once done is closed
	accepted bool
	lists    []*listCall // ListClients calls without an answer yet, in their order
}

// connect opens a connection and logs in.
func (r *clientRun) connect(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, loginTimeout, fmt.Errorf("no answer within %v", loginTimeout))
	defer cancel()
	conn, err := r.client.dial(ctx)
	if err != nil {
		return nil, err
	}
	cfg := r.client.s.cfg
	t := &session{
		client:   r.client,
		ctx:      r.ctx,
		loggedIn: make(chan struct{}),
		ended:    make(chan struct{}),
		done:     make(chan struct{}),
		// What senders wait for is bounded by the senders: each waits for its
		// own message.
		link: link.New(conn, link.Options{MaxMessage: cfg.MaxMessageSize, MaxQueued: math.MaxInt, PingEvery: pingEvery}),
	}
	go t.run()
	_ = t.link.Send(r.client.s.newFrame(cfg.ClientID, TypeLogin, ServerID, emptyContent), nil)
	select {
	case <-t.loggedIn:
		return t, nil
	case <-t.done:
		return nil, t.reason()
	case <-ctx.Done():
		t.link.Close(websocket.CloseNormalClosure, "no answer to the login", 0)
		<-t.done
		return nil, context.Cause(ctx)
	}
}

// dial makes the WebSocket handshake.
func (c *client) dial(ctx context.Context) (*websocket.Conn, error) {
	dialer := websocket.Dialer{
		NetDialContext:    c.s.cfg.DialContext,
		HandshakeTimeout:  loginTimeout,
		Subprotocols:      []string{subprotocol},
		EnableCompression: c.s.cfg.Compression,
		WriteBufferSize:   16 << 10,
	}
	if dialer.NetDialContext == nil {
		dialer.NetDialContext = new(net.Dialer).DialContext
	}
	conn, resp, err := dialer.DialContext(ctx, c.s.cfg.URL, nil)
	if err == nil {
		return conn, nil
	}
	if resp == nil || !errors.Is(err, websocket.ErrBadHandshake) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	err = fmt.Errorf("the server answered %s: %q", resp.Status, strings.TrimSpace(string(body)))
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		err = fmt.Errorf("%w: %w", ErrLoginRejected, err)
	}
	return nil, err
}

// run reads the link until it ends.
func (t *session) run() {
	defer close(t.done)
	var beats sync.WaitGroup
	defer beats.Wait()
	beats.Go(func() {
		select {
		case <-t.loggedIn:
			t.beat(t.client.s.cfg.HeartbeatInterval)
		case <-t.ended:
		}
	})
	err := t.link.Run(t.receive)
	t.mu.Lock()
	t.err = t.explain(err)
	t.mu.Unlock()
	close(t.ended)
}

// explain gives a close by the server the kind of error that it stands for.
func (t *session) explain(err error) error {
	if t.rejected != nil {
		return t.rejected
	}
	var ce *CloseError
	if errors.As(err, &ce) && ce.ByPeer {
		switch {
		case ce.Code == CloseReplaced:
			return fmt.Errorf("%w (%w)", ErrReplaced, err)
		case ce.Code == CloseLoginRejected, ce.Code == websocket.ClosePolicyViolation && !t.accepted:
			return fmt.Errorf("%w: %w", ErrLoginRejected, err)
		}
	}
	return err
}

// reason returns why the link has ended.
func (t *session) reason() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// logout says goodbye. What was queued before goes out before.
func (t *session) logout() {
	s := t.client.s
	_ = t.link.Send(s.newFrame(s.cfg.ClientID, TypeLogout, ServerID, emptyContent), nil)
	t.link.Close(websocket.CloseNormalClosure, "logout", logoutPatience)
}

// receive handles one message from the server.
func (t *session) receive(data []byte, _ bool) {
	s := t.client.s
	f, err := frame.Scan(data)
	if err == nil && !MsgType(f.Type).Valid() {
		err = fmt.Errorf("unknown msg_type %.40q", f.Type)
	}
	if err != nil {
		s.log.Warn("the server sent a malformed frame; it is ignored", "reason", err)
		return
	}
	// Whatever another client sends, it cannot speak for the server: the
	// original's server relays these types too.
	if string(f.From) == ServerID {
		switch MsgType(f.Type) {
		case TypeLoginResponse:
			t.loginAnswered(newMessage(f))
		case TypeListClientsResponse:
			t.listAnswered(newMessage(f))
		}
	}
	if string(f.From) != s.cfg.ClientID {
		s.listeners.dispatch(t.ctx, f, len(data))
	}
}

// loginAnswered is called for each login_response. The original's only answer is
// a success; anything else is a server of another kind that says no.
func (t *session) loginAnswered(m *Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.accepted {
		return
	}
	var answer struct{ Status string }
	if err := m.Decode(&answer); err == nil && answer.Status != "success" {
		t.rejected = fmt.Errorf("%w: the server answered %.200q", ErrLoginRejected, m.Text())
		t.link.Close(websocket.CloseNormalClosure, "", logoutPatience)
		return
	}
	t.accepted = true
	close(t.loggedIn)
}

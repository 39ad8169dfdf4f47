package crosscomm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
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
	run      *clientRun // listeners work under its context
	agreed   bool       // on the subprotocol: more than the original's wire may be spoken
	link     *link.Link
	loggedIn chan struct{} // closed when the server has accepted the login
	ended    chan struct{} // closed when the link has ended
	done     chan struct{} // closed after that, when no goroutine is left
	listing  chan struct{} // has a token while a ListClients call is under way

	reports reports // of the tracked messages that it has brought

	serverTakes int // how many bytes it takes in a message; set before loggedIn is closed

	mu       sync.Mutex
	accepted bool              // whether loggedIn is closed
	rejected error             // why the server refused the login
	err      error             // why the link ended, once ended is closed
	listCall *listCall         // which waits for an answer, or nil
	offer    *objectStoreOffer // which the server has made here; nil for none
}

// connect opens a connection and logs in.
func (r *clientRun) connect(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, loginTimeout, fmt.Errorf("no answer within %v", loginTimeout))
	defer cancel()
	l, agreed, err := r.client.dial(ctx)
	if err != nil {
		return nil, err
	}
	s := r.client.s
	sess := &session{
		client:   r.client,
		run:      r,
		agreed:   agreed,
		link:     l,
		loggedIn: make(chan struct{}),
		ended:    make(chan struct{}),
		done:     make(chan struct{}),
		listing:  make(chan struct{}, 1),

		serverTakes: math.MaxInt, // as far as it is known
	}
	sess.reports.sess = sess
	go sess.serve()
	content := emptyContent
	if agreed {
		content = fmt.Appendf(nil, `{"max_message_size": %d}`, s.cfg.MaxMessageSize)
	}
	_ = sess.link.Send(s.newFrame(TypeLogin, ServerID, content)) // if it fails, done tells
	select {
	case <-sess.loggedIn:
		return sess, nil
	case <-sess.done:
		return nil, sess.reason()
	case <-ctx.Done():
		if isClosed(sess.loggedIn) { // in the same moment; the server has told others of it, and shall be told of the end
			return sess, nil
		}
		sess.link.Close(websocket.CloseNormalClosure, "no answer to the login", 0)
		<-sess.done
		return nil, context.Cause(ctx)
	}
}

// serve runs the link and the heartbeats until the link ends.
func (sess *session) serve() {
	defer close(sess.done)
	var beats sync.WaitGroup
	defer beats.Wait()
	beats.Go(func() {
		select {
		case <-sess.loggedIn:
			sess.beat(sess.client.s.cfg.HeartbeatInterval)
		case <-sess.ended:
		}
	})
	err := sess.link.Run(sess.receive)
	sess.mu.Lock()
	sess.err = sess.explain(err)
	sess.mu.Unlock()
	sess.reports.close()
	close(sess.ended)
}

// explain gives a close by the server the kind of error that it stands for.
// Call it with mu held.
func (sess *session) explain(err error) error {
	if sess.rejected != nil {
		return sess.rejected
	}
	var ce *CloseError
	if errors.As(err, &ce) && ce.ByPeer {
		switch {
		case ce.Code == CloseReplaced:
			return fmt.Errorf("%w (%w)", ErrReplaced, err)
		case ce.Code == CloseLoginRejected, ce.Code == websocket.ClosePolicyViolation && !sess.accepted:
			return fmt.Errorf("%w: %w", ErrLoginRejected, err)
		}
	}
	return err
}

// reason returns why the link has ended.
func (sess *session) reason() error {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	return sess.err
}

// logout says goodbye. What was queued before goes out before.
func (sess *session) logout() {
	sess.reports.flush()
	_ = sess.link.Send(sess.client.s.newFrame(TypeLogout, ServerID, emptyContent))
	sess.link.Close(websocket.CloseNormalClosure, "logout", logoutTimeout)
}

// receive handles one message from the server, and reports whether it is
// well-formed.
func (sess *session) receive(data []byte, _ bool) bool {
	s := sess.client.s
	var f frame.Frame
	var err error
	if sess.agreed {
		f, err = frame.ScanAgreed(data, frame.MaxDepth)
	} else {
		f, err = frame.Scan(data)
	}
	wellFormed := err == nil
	t := msgTypeOf(f.Type)
	if wellFormed && sess.agreed && string(f.From) == ServerID {
		switch t {
		case typeObjectStore:
			sess.offered(f.Content)
			return true
		case typeReceipt:
			if err := sess.client.outbox.settle(f.Content); err != nil {
				sess.client.warnings.warn(s.log, "the server sent a receipt that is not understood; it is ignored", "reason", err)
			}
			return true
		}
	}
	if wellFormed && sess.agreed && t == typeCancel {
		if err := s.inquiries.cancelled(f); err != nil {
			sess.client.warnings.warn(s.log, "a cancellation that is not understood; it is ignored", "reason", err)
		}
		return true
	}
	if wellFormed && sess.agreed && t == typePresence && string(f.From) == ServerID {
		sess.toldPresence(f)
		return true
	}
	if wellFormed && !t.Valid() {
		err = fmt.Errorf("unknown msg_type %.40q", f.Type)
	}
	var h headers
	if err == nil {
		h, err = parseHeaders(f)
	}
	if err != nil {
		sess.client.warnings.warn(s.log, "the server sent a frame that is not understood; it is ignored", "reason", err)
		return wellFormed
	}
	if s.log.Enabled(sess.run.ctx, slog.LevelDebug) {
		s.log.Debug("received", "type", string(t), "from", string(f.From), "bytes", len(data))
	}
	// Whatever another client sends, it cannot speak for the server: the
	// original's server relays these types too.
	if string(f.From) == ServerID {
		switch t {
		case TypeLoginResponse:
			sess.loginAnswered(newMessage(data, f))
		case TypeListClientsResponse:
			sess.listAnswered(newMessage(data, f))
		}
	}
	how := delivery{ctx: sess.run.ctx, link: sess.link, keep: true, work: &sess.run.work}
	switch {
	case h.Delivery != "":
		sess.receiveTracked(how, data, f, h)
	case string(f.From) != s.cfg.ClientID:
		s.dispatch(how, data, f)
	}
	return true
}

// loginAnswered is called for each login_response. The original's only answer
// is a success; a server that answers with another status says no.
func (sess *session) loginAnswered(m *Message) {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if sess.accepted {
		return
	}
	var answer struct {
		Status string
		sizeNote
	}
	if err := json.Unmarshal([]byte(m.Text()), &answer); err != nil || answer.Status != "success" {
		sess.rejected = fmt.Errorf("%w: the server answered %.200q", ErrLoginRejected, m.Text())
		sess.link.Close(websocket.CloseNormalClosure, "", logoutTimeout)
		return
	}
	sess.accepted = true
	if sess.agreed && answer.MaxMessageSize > 0 {
		sess.serverTakes = answer.MaxMessageSize
	}
	sess.client.useOffer(sess.offer)
	close(sess.loggedIn)
}

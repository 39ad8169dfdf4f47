package crosscomm

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/frame"
	"github.com/crosscomm/crosscomm-go/internal/link"
)

// peer is one connection to the server. The way of a frame: read by the link,
// scanned, checked against who has logged in here, routed by the hub to the
// queues of other peers' links, and written to these when the input is used up.
// So the link is flushed before anything else is waited for.
type peer struct {
	server    *server
	run       *serverRun // listeners work under its context
	agreed    bool       // on the subprotocol: more than the original's wire may be spoken
	verbose   bool       // whether each message is logged; looked at when now is
	link      *link.Link
	remote    net.Addr
	mustLogIn *time.Timer // nil after the first login

	certificate *clientCertificate // nil without one

	// Who has logged in here, and what the hub knows of it. Only the reading
	// goroutine uses id and target; it sets member under the hub's lock.
	id     string
	member *member
	target *member // whom the last message was for; messages often come in rows

	// What is the same for all messages that come in at once.
	now                 int64 // of the hub's clock; 0 for not looked at yet
	received, delivered uint64

	handling sync.Mutex // held while a message is handled
}

// log returns the log with what tells this connection from others. It is made
// when it is needed: most connections are quiet.
func (p *peer) log() *slog.Logger { return p.server.s.log.With("remote", fmt.Sprint(p.remote)) }

// debug logs what happens all the time.
func (p *peer) debug(msg string, args ...any) {
	if p.isVerbose() {
		p.log().Debug(msg, args...)
	}
}

func (p *peer) isVerbose() bool { return p.server.s.log.Enabled(p.run.ctx, slog.LevelDebug) }

// closeTimeout is how long a client that the server disconnects has to take
// what is queued for it.
const closeTimeout = 5 * time.Second

var byteOrderMark = []byte("\ufeff")

// receive handles one message of the connection, and reports whether it is
// well-formed. A frame that is refused changes nothing, and the connection
// stays.
func (p *peer) receive(data []byte, text bool) bool {
	p.handling.Lock()
	defer p.survive()
	defer p.handling.Unlock()
	if p.link.IsClosing() {
		return true // dropped; another connection may have taken over since it was read
	}
	p.received++
	if !text {
		// As in the original a binary frame with JSON counts, and goes on as
		// text.
		data = bytes.TrimPrefix(data, byteOrderMark)
	}
	f, err := frame.Scan(data)
	if err != nil {
		p.refuse(err)
		return false
	}
	t := msgTypeOf(f.Type)
	if err := p.check(t, f); err != nil {
		p.refuse(err)
		return true
	}
	if t == TypeLogin {
		p.login(string(f.From))
		return true
	}
	if p.now == 0 {
		p.now, p.verbose = p.server.hub.now(), p.isVerbose()
	}
	p.server.hub.alive(p, p.now)
	switch t {
	case TypeHeartbeat:
	case TypeLogout:
		p.logout()
	case TypeListClients:
		p.listClients(f)
	default:
		p.route(t, f, data)
	}
	return true
}

// survive is to be deferred: a frame that meets a defect of ours ends its
// connection, and the others go on.
func (p *peer) survive() {
	reason := recover()
	if reason == nil {
		return
	}
	p.link.Close(websocket.CloseInternalServerErr, "internal error", closeTimeout)
	p.server.s.log.Error("a connection panicked", "client_id", p.id, "panic", fmt.Sprint(reason), "stack", string(debug.Stack()))
}

// check says why a frame is not taken from this peer.
func (p *peer) check(t MsgType, f frame.Frame) error {
	switch {
	case !t.Valid():
		return fmt.Errorf("unknown msg_type %.40q", f.Type)
	case t == TypeLoginResponse || t == TypeListClientsResponse:
		return fmt.Errorf("only a server sends %s", t)
	case p.id == "" && t != TypeLogin:
		return fmt.Errorf("%s before login", t)
	case p.id != "" && string(f.From) != p.id:
		return fmt.Errorf("from_client_id is %.64q, but %q has logged in here", f.From, p.id)
	}
	return nil
}

func (p *peer) refuse(err error) {
	p.server.stats.refused.Add(1)
	p.server.stats.warnings.log(p.log(), "a frame was refused", "client_id", p.id, "reason", err)
}

// hasLoggedIn ends the time in which somebody must.
func (p *peer) hasLoggedIn() {
	if p.mustLogIn != nil {
		p.mustLogIn.Stop()
		p.mustLogIn = nil
	}
}

// login makes this connection the one of the client. It does that on another
// stack: what that of a goroutine has once grown to, it keeps for long, and most
// connections need little of it ever after.
func (p *peer) login(id string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer p.survive()
		p.logIn(id)
	}()
	<-done
}

func (p *peer) logIn(id string) {
	err := checkID(id)
	if err == nil {
		err = p.certificate.check(id)
	}
	if err != nil {
		p.refuse(err)
		p.link.Close(CloseLoginRejected, err.Error(), closeTimeout)
		return
	}
	var welcome [][]byte
	var offer objectStoreOffer
	if p.agreed { // before the answer: Login must not return without it
		offer = p.server.offer(p.run, id)
		welcome = append(welcome, p.server.offerFrame(id, offer))
	}
	welcome = append(welcome, p.server.s.newFrame(TypeLoginResponse, id, []byte(`{"status": "success"}`)))
	again := p.id != ""
	old, ok := p.server.hub.login(p, id, welcome)
	if !ok {
		return
	}
	p.id = id
	p.hasLoggedIn()
	if !again {
		p.log().Info("login", "client_id", id)
	}
	if now := p.server.offer(p.run, id); p.agreed && now != offer {
		p.server.tell(p, p.server.offerFrame(id, now)) // the key was revoked just now
	}
	if old != nil {
		p.log().Warn("a newer login takes over", "client_id", id)
		// What the older connection is just handling comes before all that
		// this one brings. It takes no time: a closing connection waits for
		// nobody, and takes over from nobody.
		p.link.Flush()
		old.awaitHandled()
	}
	p.awaitEvents()
}

// awaitHandled waits until the message that is being handled has been.
func (p *peer) awaitHandled() {
	p.handling.Lock()
	defer p.handling.Unlock()
}

// awaitEvents holds up this connection, and no lock, while too many calls of
// OnLogin and OnLogout wait.
func (p *peer) awaitEvents() {
	p.link.Flush()
	if events := &p.server.s.events; !events.hasRoom("") {
		_ = events.waitForRoom(p.run.ctx, p.link.Closing(), "")
	}
}

func (p *peer) logout() {
	p.server.hub.logout(p, nil)
	p.id = ""
	p.awaitEvents()
}

// gone is called last, with why the connection ended.
func (p *peer) gone(err error) {
	p.debug("disconnected", "client_id", p.id, "reason", err)
	if p.member != nil {
		p.server.hub.logout(p, err)
	}
}

// endBurst is called before what has come in at once is written.
func (p *peer) endBurst() {
	p.now = 0
	if p.received > 0 {
		p.server.stats.received.Add(p.received)
	}
	if p.delivered > 0 {
		p.server.stats.delivered.Add(p.delivered)
	}
	p.received, p.delivered = 0, 0
}

// route brings a frame of an application to whom it is for. When it returns the
// frame is in their queues: what it makes others send after that comes after it.
// But while a broadcast is being queued, one who has it already may answer, and the
// answer reach those first whose turn has not come.
func (p *peer) route(t MsgType, f frame.Frame, data []byte) {
	p.warnOfLostFile(t, f)
	receivers := 0
	switch {
	case string(f.To) == ServerID:
		p.dispatch(data, f)
	case string(f.To) == All:
		out := p.link.NewFrame(data)
		receivers = p.server.hub.broadcast(p, p.now, func(to *peer) bool { return p.server.forward(to, &out, p) })
		p.dispatch(data, f)
	default:
		if p.forward(f, data) {
			receivers = 1
		} else {
			p.server.stats.undelivered.Add(1)
		}
	}
	p.delivered += uint64(receivers)
	if p.verbose {
		p.log().Debug("routed", "type", string(f.Type), "from", p.id, "to", string(f.To), "bytes", len(data), "receivers", receivers)
	}
}

// forward queues a frame for the one client that it is for, and reports false if
// that is not known, is not present now or cannot take it.
func (p *peer) forward(f frame.Frame, data []byte) bool {
	hub := p.server.hub
	m := p.whom(f)
	for to := hub.target(m, p.now); to != nil; {
		out := p.link.NewFrame(data)
		if p.server.forward(to, &out, p) {
			return true
		}
		before := to
		if to = hub.target(m, p.now); to == before { // else a newer login has just taken over
			return false
		}
	}
	return false
}

// whom returns the client that the frame is for, or nil if none is known.
func (p *peer) whom(f frame.Frame) *member {
	if p.target == nil || p.target.id != string(f.To) {
		p.target = p.server.hub.member(f.To)
	}
	return p.target
}

// warnOfLostFile says once what is missing when a peer has sent a file that it
// had nowhere to put: the original sends the message all the same.
func (p *peer) warnOfLostFile(t MsgType, f frame.Frame) {
	if !t.file() || len(f.OSSKey) > 0 && string(f.OSSKey) != "null" || p.server.offers(p.run) {
		return
	}
	p.run.warnNoStore.Do(func() {
		p.log().Warn("a file message without its file passes: its sender has no object store; give this server a data directory, or all peers the same OSS_ENDPOINT, OSS_BUCKET_NAME, OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET", "client_id", p.id)
	})
}

// dispatch brings a frame to the server's own listeners.
func (p *peer) dispatch(data []byte, f frame.Frame) {
	p.server.s.dispatch(delivery{ctx: p.run.ctx, link: p.link, work: &p.run.transfers}, data, f)
}

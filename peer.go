package crosscomm

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
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
	mustLogIn *time.Timer // nil while somebody has logged in

	credentials *credentials // nil if none are asked for
	takes       int          // how many bytes a message for it may have; set by the login
	ponged      atomic.Int64 // when it has last answered a ping, as hub.now has it
	pinged      int64        // when it was first pinged after its last sign of life; of hub.lookAtSilent
	readAgain   atomic.Int64 // when the last pause of its throttle ends, or has ended, the same

	// Who has logged in here, and what the hub knows of it. Only the reading
	// goroutine uses these; it sets member under the hub's lock.
	id     string
	member *member
	target *member // whom the last message was for; messages often come in rows

	// What is the same for all messages that come in at once.
	now                 int64 // of the hub's clock; 0 for not looked at yet
	received, delivered uint64

	notices  notices // that its input has caused, and that are sent with what it brings
	numbered uint64  // how many tracked messages were sent on it; guarded by the mailbox's mu
	marks    uint64  // and how many marks

	bytes    int // that it has brought since it was last throttled, after inflation
	throttle throttle

	handling sync.Mutex // held while a message is handled
}

// log returns the log with what tells this connection from others. It is made
// when it is needed: most connections are quiet.
func (p *peer) log() *slog.Logger { return p.server.s.log.With("remote", fmt.Sprint(p.remote)) }

// logPresence logs that somebody comes or goes.
func (p *peer) logPresence(level slog.Level, msg string, args ...any) {
	p.server.stats.comings.log(p.log(), level, msg, args...)
}

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
	p.bytes += len(data)
	if !text {
		// As in the original a binary frame with JSON counts, and goes on as
		// text.
		data = bytes.TrimPrefix(data, byteOrderMark)
	}
	scan := frame.ScanNested
	if p.agreed {
		scan = frame.ScanAgreed
	}
	f, err := scan(data, p.server.s.cfg.Limits.Nesting)
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
		p.login(string(f.From), f.Content)
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
	case typeCancel:
		p.passCancel(f, data)
	case typeReport:
		if err := p.reported(f); err != nil {
			p.refuse(err)
		}
	case typePresenceWatch:
		p.watchPresence(f)
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
	case !t.Valid() && !(p.agreed && (t == typeReport || t == typeCancel || t == typePresenceWatch)):
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
	p.server.stats.warnings.warn(p.log(), "a frame was refused", "client_id", p.id, "reason", err)
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
	if !p.notices.none() {
		p.notices.send(p.server, p)
	}
	if p.received > 0 {
		p.server.stats.received.Add(p.received)
	}
	if p.delivered > 0 {
		p.server.stats.delivered.Add(p.delivered)
	}
	p.received, p.delivered = 0, 0
}

// throttled says how long nothing more is taken, after frames and bytes have come on
// the wire.
func (p *peer) throttled(frames, bytes int) time.Duration {
	pause := p.slowDown(frames, max(bytes, p.bytes))
	p.bytes = 0
	return pause
}

// slowDown counts what this client has had done, and says how long nothing more is.
func (p *peer) slowDown(messages, bytes int) time.Duration {
	pause := p.throttle.take(&p.server.s.cfg.Limits, messages, bytes)
	if pause > 0 {
		p.readAgain.Store(p.server.hub.now() + int64(pause))
		p.server.stats.throttled.Add(1)
		p.server.stats.warnings.warn(p.log(), "a client sends more than the limits for one allow, and is read more slowly", "client_id", p.id, "pause", pause)
	}
	return pause
}

// route brings a frame of an application to whom it is for. When it returns the
// frame is in their queues: what it makes others send after that comes after it.
// But while a broadcast is being queued, one who has it already may answer, and the
// answer reach those first whose turn has not come.
func (p *peer) route(t MsgType, f frame.Frame, data []byte) {
	p.warnOfLostFile(t, f)
	h, err := parseHeaders(f)
	if err != nil {
		p.refuse(err)
		return
	}
	receivers := 0
	switch {
	case h.Delivery != "":
		receivers = p.routeTracked(f, data, h)
	case string(f.To) == ServerID:
		p.dispatch(data, f)
	case string(f.To) == All:
		there := p.run.deliveries.newReached(p.member)
		receivers = p.broadcast(f, data, there)
		p.keepForAbsent(f, data, there)
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

// broadcast queues a frame for all who are there, and returns how many.
func (p *peer) broadcast(f frame.Frame, data []byte, there reached) (receivers int) {
	var waiting []*member // what is made for them ends the frame that is for the others
	pass := func(text []byte, isFor func(*peer) bool) {
		out := p.link.NewFrame(text)
		receivers += p.server.hub.broadcast(p, p.now, func(m *member, to *peer) bool {
			switch {
			case !isFor(to):
				return false
			case m.waiting.Load():
				waiting = append(waiting, m)
				there.add(m, true)
				return false
			case !p.fits(m, to, len(text)):
				there.add(m, true) // it would not fit later, either
				return false
			}
			queued := p.server.forward(to, &out, p)
			there.add(m, queued)
			return queued
		})
	}
	if f.Headers == nil {
		pass(data, func(*peer) bool { return true })
	} else {
		pass(data, func(to *peer) bool { return to.agreed })
		pass(f.AppendPlain(nil, data), func(to *peer) bool { return !to.agreed })
	}
	if len(waiting) == 0 {
		return receivers
	}
	kept := p.kept(f, data)
	for _, m := range waiting {
		if p.keepFor(m, kept) {
			receivers++
		}
	}
	return receivers
}

// forward queues a frame for the one client that it is for, and reports false if
// that is not known, or is not present now, or cannot take it, and it is not kept
// either.
func (p *peer) forward(f frame.Frame, data []byte) bool {
	hub := p.server.hub
	m := p.whom(f)
	to := hub.target(m, p.now)
	// It is looked for afterwards: a login that takes over has what was not reported wait,
	// and then can be found.
	if p.run.deliveries.keeps(m) {
		return p.keepFor(m, p.kept(f, data))
	}
	for to != nil {
		text := data
		if f.Headers != nil && !to.agreed {
			text = f.AppendPlain(nil, data)
		}
		if !p.fits(m, to, len(text)) {
			return false
		}
		out := p.link.NewFrame(text)
		if p.server.forward(to, &out, p) {
			return true
		}
		before := to
		if to = hub.target(m, p.now); to == before || m.waiting.Load() { // else a newer login has just taken over
			break
		}
	}
	return m != nil && p.run.deliveries.store != nil && p.keepFor(m, p.kept(f, data))
}

// fits reports whether a message is not too large for the connection of who is to get
// it, which it would end.
func (p *peer) fits(m *member, to *peer, size int) bool {
	if size <= to.takes {
		return true
	}
	p.refuse(fmt.Errorf("a message of %d bytes is too large for %.64q, which takes %d", size, m.id, to.takes))
	return false
}

// whom returns the client that the frame is for, or nil if none is known.
func (p *peer) whom(f frame.Frame) *member {
	if p.target == nil || p.target.id != string(f.To) || p.target.forgotten.Load() {
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

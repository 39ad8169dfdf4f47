package crosscomm

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/frame"
	"github.com/crosscomm/crosscomm-go/internal/link"
)

// peer is one connection to the server. The way of a frame: read by the link,
// scanned, checked against who has logged in here, routed by the hub to the
// queues of other peers' links.
type peer struct {
	server *server
	run    *serverRun // listeners work under its context
	agreed bool       // on the subprotocol: more than the original's wire may be spoken
	link   *link.Link
	log    *slog.Logger

	// Who has logged in here, and what the hub knows of it. Only the reading
	// goroutine uses id; it sets member under the hub's lock.
	id     string
	member *member
	// batch are the links that were sent something since this one's input was
	// last used up. It is flushed before anything is waited for.
	batch link.Batch

	hasLoggedIn atomic.Bool // whether anybody ever has, here
	handling    sync.Mutex  // held while a message is handled
}

// closeTimeout is how long a client that the server disconnects has to take
// what is queued for it.
const closeTimeout = 5 * time.Second

var byteOrderMark = []byte("\ufeff")

// receive handles one message of the connection, and reports whether it is
// well-formed. A frame that is refused changes nothing, and the connection
// stays.
func (p *peer) receive(data []byte, text bool) bool {
	p.handling.Lock()
	defer p.handling.Unlock()
	p.server.stats.received.Add(1)
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
	if err := p.check(f); err != nil {
		p.refuse(err)
		return true
	}
	t := MsgType(f.Type)
	if t == TypeLogin {
		p.login(f)
		return true
	}
	now := p.server.hub.alive(p)
	switch t {
	case TypeHeartbeat:
	case TypeLogout:
		p.logout()
	case TypeListClients:
		p.listClients(f)
	default:
		p.route(f, data, now)
	}
	return true
}

// check says why a frame is not taken from this peer.
func (p *peer) check(f frame.Frame) error {
	t := MsgType(f.Type)
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
	p.server.stats.warnings.log(p.log, "a frame was refused", "client_id", p.id, "reason", err)
}

// login makes this connection the one of the client.
func (p *peer) login(f frame.Frame) {
	id := string(f.From)
	if err := checkID(id); err != nil {
		p.refuse(err)
		p.link.Close(CloseLoginRejected, err.Error(), closeTimeout)
		return
	}
	before := p.id
	p.id = id
	var welcome [][]byte
	var offer objectStoreOffer
	if p.agreed { // before the answer: Login must not return without it
		offer = p.server.offer(p.run, id)
		welcome = append(welcome, p.server.offerFrame(id, offer))
	}
	welcome = append(welcome, p.server.s.newFrame(TypeLoginResponse, id, []byte(`{"status": "success"}`)))
	old, ok := p.server.hub.login(p, welcome)
	if !ok {
		p.id = before
		return
	}
	p.hasLoggedIn.Store(true)
	if now := p.server.offer(p.run, id); p.agreed && now != offer {
		p.server.deliver(p, p.server.offerFrame(id, now), nil) // the key was revoked just now
	}
	if old != nil {
		p.log.Warn("a newer login takes over", "client_id", id)
		// What the older connection is just handling comes before all that
		// this one brings. It takes no time: a closing connection waits for
		// nobody, and takes over from nobody.
		p.batch.Flush()
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
	p.batch.Flush()
	_ = p.server.s.events.waitForRoom(p.run.ctx, p.link.Closing(), "")
}

func (p *peer) logout() {
	p.server.hub.logout(p, nil)
	p.id = ""
	p.awaitEvents()
}

// gone is called last, with why the connection ended.
func (p *peer) gone(err error) {
	p.log.Debug("disconnected", "client_id", p.id, "reason", err)
	if p.id != "" {
		p.server.hub.logout(p, err)
	}
}

// route brings a frame of an application to whom it is for.
func (p *peer) route(f frame.Frame, data []byte, now int64) {
	p.warnOfLostFile(f)
	receivers := 0
	to := string(f.To)
	switch to {
	case ServerID:
		p.dispatch(data, f)
	case All:
		receivers = p.server.hub.broadcast(p, data, now, &p.batch)
		p.dispatch(data, f)
	default:
		if p.server.hub.send(to, data, now, &p.batch) {
			receivers = 1
		} else {
			p.server.stats.undelivered.Add(1)
		}
	}
	if p.log.Enabled(p.run.ctx, slog.LevelDebug) {
		p.log.Debug("routed", "type", string(f.Type), "from", p.id, "to", to, "bytes", len(data), "receivers", receivers)
	}
}

// warnOfLostFile says once what is missing when a peer has sent a file that it
// had nowhere to put: the original sends the message all the same.
func (p *peer) warnOfLostFile(f frame.Frame) {
	if !MsgType(f.Type).file() || len(f.OSSKey) > 0 && string(f.OSSKey) != "null" || p.server.offers(p.run) {
		return
	}
	p.run.warnNoStore.Do(func() {
		p.log.Warn("a file message without its file passes: its sender has no object store; give this server a data directory, or all peers the same OSS_ENDPOINT, OSS_BUCKET_NAME, OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET", "client_id", p.id)
	})
}

// dispatch brings a frame to the server's own listeners.
func (p *peer) dispatch(data []byte, f frame.Frame) {
	p.server.s.dispatch(delivery{ctx: p.run.ctx, closing: p.link.Closing(), work: &p.run.transfers, before: p.batch.Flush}, data, f)
}

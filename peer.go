package crosscomm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/frame"
	"github.com/crosscomm/crosscomm-go/internal/link"
)

// peer is one connection to the server. The way of a frame: read by the link,
// scanned, checked against who has logged in here, routed by the hub to the
// queues of other peers' links.
type peer struct {
	server *server
	ctx    context.Context // of the server's run; listeners work under it
	link   *link.Link
	log    *slog.Logger

	id string // who has logged in; only the reading goroutine uses it
}

// closePatience is how long a client that the server disconnects has to take
// what is queued for it.
const closePatience = 5 * time.Second

var byteOrderMark = []byte("\ufeff")

// receive handles one message of the connection. A frame that is refused changes
// nothing, and the connection stays.
func (p *peer) receive(data []byte, text bool) {
	p.server.stats.received.Add(1)
	if !text {
		// As in the original a binary frame with JSON counts, and goes on as
		// text.
		data = bytes.TrimPrefix(data, byteOrderMark)
	}
	f, err := frame.Scan(data)
	if err == nil {
		err = p.check(f)
	}
	if err != nil {
		p.refuse(err)
		return
	}
	t := MsgType(f.Type)
	if t == TypeLogin {
		p.login(f)
		return
	}
	p.server.hub.alive(p)
	switch t {
	case TypeHeartbeat:
	case TypeLogout:
		p.logout()
	case TypeListClients:
		p.listClients(f)
	default:
		p.route(f, data)
	}
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
	p.server.stats.refusals.log(p.log, "a frame was refused", "client_id", p.id, "reason", err)
}

// login makes this connection the one of the client.
func (p *peer) login(f frame.Frame) {
	id := string(f.From)
	if err := checkID(id); err != nil {
		p.refuse(err)
		p.link.Close(CloseLoginRejected, err.Error(), closePatience)
		return
	}
	p.id = id
	response := p.server.s.newFrame(ServerID, TypeLoginResponse, id, []byte(`{"status": "success"}`))
	if old := p.server.hub.login(p, response); old != nil {
		p.log.Warn("a newer login takes over", "client_id", id)
		old.link.Close(CloseReplaced, "another client has logged in with this id", closePatience)
	}
}

func (p *peer) logout() {
	p.server.hub.logout(p, nil)
	p.id = ""
}

// gone is called last, with why the connection ended.
func (p *peer) gone(err error) {
	p.log.Debug("disconnected", "client_id", p.id, "reason", err)
	if p.id != "" {
		p.server.hub.logout(p, err)
	}
}

// route brings a frame of an application to whom it is for.
func (p *peer) route(f frame.Frame, data []byte) {
	switch to := string(f.To); to {
	case ServerID:
		p.server.s.listeners.dispatch(p.ctx, f, len(data))
	case All:
		p.server.hub.broadcast(p, data)
		p.server.s.listeners.dispatch(p.ctx, f, len(data))
	default:
		if !p.server.hub.send(to, data) {
			p.server.stats.undelivered.Add(1)
			p.log.Debug("the receiver is not here", "from", p.id, "to", to)
		}
	}
}

// listClients answers as the original does: the content is a string of JSON.
func (p *peer) listClients(f frame.Frame) {
	onlyOnline := wantsOnlyOnline(f.Content)
	clients := p.server.hub.list(onlyOnline)
	list := wireClientList{OnlyShowOnline: onlyOnline, TotalCount: len(clients), Clients: make([]wireClient, len(clients))}
	for i, c := range clients {
		list.Clients[i] = c.wire()
	}
	raw, err := json.Marshal(list)
	if err != nil {
		p.log.Error("cannot write the list of clients", "error", err)
		return
	}
	response := p.server.s.newFrame(ServerID, TypeListClientsResponse, p.id, frame.AppendString(nil, string(raw)))
	p.server.deliver(p, response)
}

// wantsOnlyOnline reads the content of list_clients: a string of JSON, or an
// object; what does not parse counts as false.
func wantsOnlyOnline(content []byte) bool {
	if s, ok := frame.Unquote(content); ok {
		content = []byte(s)
	}
	var request struct {
		Only bool `json:"only_show_online"`
	}
	return json.Unmarshal(content, &request) == nil && request.Only
}

// deliver queues a frame for a peer, and closes one that does not keep up: a
// bound on what is held for it is the only way in which nobody waits for it and
// no message is left out in silence. It reports whether the frame was queued.
func (v *server) deliver(p *peer, data []byte) bool {
	err := p.link.Send(data, nil)
	switch {
	case err == nil:
		v.stats.delivered.Add(1)
		return true
	case errors.Is(err, link.ErrFull):
		v.stats.tooSlow.Add(1)
		p.log.Warn("a client reads too slowly and is disconnected", "queued_bytes_limit", v.s.cfg.MaxQueuedBytes)
		p.link.Close(CloseTooSlow, "reading too slowly: the send queue is full", closePatience)
	}
	return false
}

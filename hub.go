package crosscomm

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/link"
)

// hub knows the clients and which connection each has, and brings frames to
// them. It is the only place that does: presence, routing and queueing for
// several servers or for absent clients would take its place.
type hub struct {
	s       *Service
	epoch   time.Time     // what lastSeen counts from, by the monotonic clock: presence must not follow the wall clock when that jumps
	changed chan struct{} // holds a token if states() has changed

	mu        sync.RWMutex
	members   map[string]*member // every client ever known
	connected map[string]*member // those that have a connection
}

// member is a client that is known.
type member struct {
	id       string
	lastSeen atomic.Int64 // when it last gave a sign of life, in ns since hub.epoch; 0 if not since then
	timedOut atomic.Bool  // as last noted by watchHeartbeats

	// guarded by hub.mu
	peer       *peer     // its live connection, or nil
	loginTime  time.Time // zero if it has not logged in since the server started
	seenBefore time.Time // its last sign of life before hub.epoch
}

func newHub(s *Service) *hub {
	return &hub{s: s, epoch: time.Now(), changed: make(chan struct{}, 1), members: map[string]*member{}, connected: map[string]*member{}}
}

// now is the time as lastSeen counts it.
func (h *hub) now() int64 { return int64(time.Since(h.epoch)) }

// seen returns when the member gave its last sign of life. Call it with mu
// held.
func (h *hub) seen(m *member) time.Time {
	last := m.lastSeen.Load()
	if last == 0 {
		return m.seenBefore
	}
	// Counted back from now, it is right also after a step of the wall clock.
	return time.Now().Add(time.Duration(last - h.now()))
}

// present reports whether frames for the member can be delivered. Call it with
// mu held.
func (h *hub) present(m *member, now int64) bool {
	return m.peer != nil && now-m.lastSeen.Load() < int64(h.s.cfg.HeartbeatTimeout)
}

// login makes p the connection of its client, and queues the frames of the
// welcome as the first ones on it. If the client had another connection, that
// is closed, and returned. A connection that is closing cannot log in: two that
// repeat their logins would take the id from each other, and both end.
func (h *hub) login(p *peer, welcome [][]byte) (old *peer, ok bool) {
	h.mu.Lock()
	if isClosed(p.link.Closing()) {
		h.mu.Unlock()
		return nil, false
	}
	m := h.members[p.id]
	if m == nil {
		m = &member{id: p.id}
		h.members[p.id] = m
	}
	again := m.peer == p
	if !again {
		old = m.peer
	}
	m.peer, p.member = p, m
	h.connected[m.id] = m
	m.loginTime = time.Now()
	m.lastSeen.Store(h.now())
	m.timedOut.Store(false)
	for _, data := range welcome {
		p.server.deliver(p, data, nil)
	}
	h.markChanged()
	if old != nil {
		old.link.Close(CloseReplaced, "another client has logged in with this id", closeTimeout)
	}
	if !again {
		// Under the lock, so that the calls come in the order of the events.
		h.notifyLogin(m.id)
	}
	h.mu.Unlock()
	if !again {
		p.log.Info("login", "client_id", p.id)
	}
	return old, true
}

// logout takes the connection p from its client, unless a newer one has taken
// over. The err is nil if the client wished it.
func (h *hub) logout(p *peer, err error) {
	h.mu.Lock()
	m := p.member
	mine := m.peer == p
	if mine {
		m.peer = nil
		delete(h.connected, m.id)
		h.markChanged()
		h.notifyLogout(m.id, err)
	}
	h.mu.Unlock()
	if mine {
		p.log.Info("logout", "client_id", p.id, "reason", err)
	}
}

func (h *hub) notifyLogin(id string) {
	if f := h.s.cfg.OnLogin; f != nil {
		h.s.event(func() { f(id) })
	}
}

func (h *hub) notifyLogout(id string, err error) {
	if f := h.s.cfg.OnLogout; f != nil {
		h.s.event(func() { f(id, err) })
	}
}

// alive notes a sign of life on connection p, which makes a client that had timed
// out reachable again, and returns the time.
func (h *hub) alive(p *peer) (now int64) {
	now = h.now()
	m := p.member
	m.lastSeen.Store(now)
	if m.timedOut.CompareAndSwap(true, false) {
		p.log.Info("a client that had timed out is back", "client_id", p.id)
		h.markChanged()
	}
	return now
}

// send queues a frame for one client, and reports false if that is not present
// now or cannot take it.
func (h *hub) send(to string, data []byte, now int64, batch *link.Batch) bool {
	h.mu.RLock()
	var target *peer
	if m := h.connected[to]; m != nil && h.present(m, now) {
		target = m.peer
	}
	h.mu.RUnlock()
	return target != nil && target.server.deliver(target, data, batch)
}

// connection returns the connection of a client, or nil.
func (h *hub) connection(id string) *peer {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if m := h.connected[id]; m != nil {
		return m.peer
	}
	return nil
}

// isPresent reports whether frames for the client can be delivered.
func (h *hub) isPresent(id string) bool {
	now := h.now()
	h.mu.RLock()
	defer h.mu.RUnlock()
	m := h.connected[id]
	return m != nil && h.present(m, now)
}

// broadcast queues a frame for every client that is present now but the sender's,
// and returns for how many.
func (h *hub) broadcast(sender *peer, data []byte, now int64, batch *link.Batch) (receivers int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, m := range h.connected {
		if m.peer != sender && h.present(m, now) && m.peer.server.deliver(m.peer, data, batch) {
			receivers++
		}
	}
	return receivers
}

func (h *hub) online() []string {
	now := h.now()
	h.mu.RLock()
	defer h.mu.RUnlock()
	ids := []string{}
	for id, m := range h.connected {
		if h.present(m, now) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// list returns the clients that are present, or all, sorted by id.
func (h *hub) list(onlyOnline bool) []ClientInfo {
	now := h.now()
	h.mu.RLock()
	defer h.mu.RUnlock()
	list := []ClientInfo{}
	for _, m := range h.members {
		online := h.present(m, now)
		if online || !onlyOnline {
			list = append(list, ClientInfo{
				ClientID:      m.id,
				Online:        online,
				LastHeartbeat: h.seen(m),
				LoginTime:     m.loginTime,
			})
		}
	}
	slices.SortFunc(list, func(a, b ClientInfo) int { return strings.Compare(a.ClientID, b.ClientID) })
	return list
}

// states returns what the state file keeps.
func (h *hub) states() map[string]clientState {
	now := h.now()
	h.mu.RLock()
	defer h.mu.RUnlock()
	states := make(map[string]clientState, len(h.members))
	for id, m := range h.members {
		state := clientState{Status: statusOffline, LastSeen: toSeconds(h.seen(m))}
		if h.present(m, now) {
			state.Status = statusOnline
		}
		states[id] = state
	}
	return states
}

// restore adds the clients that the state file has beyond those known.
func (h *hub) restore(states map[string]clientState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, state := range states {
		if h.members[id] == nil {
			h.members[id] = &member{id: id, seenBefore: fromSeconds(state.LastSeen)}
		}
	}
}

// markChanged tells the keeper of the state file.
func (h *hub) markChanged() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

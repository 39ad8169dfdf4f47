package crosscomm

import (
	"container/list"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// hub knows the clients and which connection each has, and brings frames to
// them. It is the only place that does; what is tracked or waits goes through
// mailboxes.
type hub struct {
	s         *Service
	epoch     time.Time     // what lastSeen counts from, by the monotonic clock: presence must not follow the wall clock when that jumps
	changed   chan struct{} // holds a token if states() has changed
	strangers chan struct{} // holds a token if clients have come that were not known

	// everybody is connected as a list, which is replaced and never changed; nil
	// after a change, until somebody needs it. It is set with mu locked, if only
	// for reading.
	everybody atomic.Pointer[[]*member]

	mu        sync.RWMutex
	members   map[string]*member // every client that is known
	connected map[string]*member // those that have a connection
	absent    absent             // the others

	presence hubPresence
}

// memberState is the state of a client.
type memberState struct {
	member *member
	clientState
}

// member is a client that is known.
type member struct {
	id       string
	lastSeen atomic.Int64         // when it last gave a sign of life, in ns since hub.epoch; 0 if not since then
	timedOut atomic.Bool          // as last noted by lookAtSilent
	peer     atomic.Pointer[peer] // its live connection, or nil; set with hub.mu locked

	expected  bool        // whether it is never forgotten: the operator has named it, or messages were waiting for it at the start
	forgotten atomic.Bool // whether it is no longer among the members; set with hub.mu locked

	mailbox  atomic.Pointer[mailbox] // nil before it has had a letter in this run
	waiting  atomic.Bool             // whether letters wait for it on disk
	outgoing outgoing                // tracked messages of its own
	toldAt   atomic.Int64            // when it was last told of some, by hub.now

	stateKey string // of the goroutine that writes the state file

	// guarded by hub.mu
	loginTime  time.Time     // zero if it has not logged in since the server started
	neverSeen  bool          // whether it has never logged in, as far as is known
	seenBefore time.Time     // its last sign of life before hub.epoch
	absence    *list.Element // of hub.absent; nil while it is connected
}

func newHub(s *Service) *hub {
	h := &hub{s: s, epoch: time.Now(), changed: make(chan struct{}, 1), strangers: make(chan struct{}, 1), members: map[string]*member{}, connected: map[string]*member{}}
	h.presence.hub = h
	return h
}

// now is the time as lastSeen counts it.
func (h *hub) now() int64 { return int64(time.Since(h.epoch)) }

// instant is the present, by both clocks.
type instant struct {
	wall time.Time
	now  int64 // as lastSeen counts
}

func (h *hub) instant() instant { return instant{time.Now(), h.now()} }

// seen returns when the member gave its last sign of life. Call it with hub.mu
// held.
func (m *member) seen(at instant) time.Time {
	last := m.lastSeen.Load()
	if last == 0 {
		return m.seenBefore
	}
	// Counted back from now, it is right also after a step of the wall clock.
	return at.wall.Add(time.Duration(last - at.now))
}

// connection returns the connection over which frames for the member can be
// delivered, or nil. A client whose throttle pauses gives no sign of life because
// it is not read.
func (h *hub) connection(m *member, now int64) *peer {
	p, patience := m.peer.Load(), int64(h.s.cfg.HeartbeatTimeout)
	if now-m.lastSeen.Load() >= patience && (p == nil || now-p.readAgain.Load() >= patience) {
		return nil
	}
	return p
}

// present reports whether there is one.
func (h *hub) present(m *member, now int64) bool { return h.connection(m, now) != nil }

// login makes p the connection of the client, and queues the frames of the welcome
// as the first ones on it. If the client had another connection, that is closed,
// and returned. A connection that is closing cannot log in: two that repeat their
// logins would take the id from each other, and both end.
func (h *hub) login(p *peer, id string, welcome [][]byte) (old *peer, ok bool) {
	var queued []error
	var n notices
	old, ok = h.claim(p, id, &n, func() {
		for _, data := range welcome {
			f := p.link.NewFrame(data)
			queued = append(queued, p.link.Forward(p.link, &f))
		}
	})
	for _, err := range queued {
		if p.server.outcome(p, err) {
			p.server.stats.delivered.Add(1)
		}
	}
	n.send(p.server, p)
	return old, ok
}

// claim does so, and calls the function of the welcome before others can find the
// connection. It logs nothing: a handler may ask for the clients.
func (h *hub) claim(p *peer, id string, n *notices, welcome func()) (old *peer, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.link.IsClosing() {
		return nil, false
	}
	m := h.memberFor(id)
	h.absent.remove(m)
	h.forgetOldest()
	if old = m.peer.Load(); old == p {
		old = nil
	} else {
		// Under the lock, so that the calls come in the order of the events.
		defer h.notifyLogin(id)
	}
	m.loginTime, m.neverSeen = time.Now(), false
	m.lastSeen.Store(h.now())
	m.timedOut.Store(false)
	welcome()
	p.member = m
	box := p.run.deliveries.mailboxFor(m)
	if box != nil {
		box.attach(p, n) // before anything newer can come
	}
	m.peer.Store(p) // only now can others find it
	made := m.mailbox.Load()
	if made != box {
		made.attach(p, n)
	}
	if made != nil {
		made.sendWaiting() // what waits, which it could not be sent as long as it was not there
	}
	if h.connected[id] == nil {
		h.connected[id] = m
		h.everybody.Store(nil)
	}
	h.presence.look(m)
	h.markChanged()
	if old != nil {
		old.link.Close(CloseReplaced, "another client has logged in with this id", closeTimeout)
	}
	return old, true
}

// memberFor returns the client with the id, which is known from now on, with mu held.
func (h *hub) memberFor(id string) *member {
	m := h.members[id]
	if m == nil {
		m = &member{id: id}
		h.members[id] = m
		select {
		case h.strangers <- struct{}{}:
		default:
		}
	}
	return m
}

// logout takes the connection p from its client, unless a newer one has taken
// over. The err is nil if the client wished it.
func (h *hub) logout(p *peer, err error) {
	h.mu.Lock()
	m := p.member
	mine := m.peer.Load() == p
	if mine {
		m.peer.Store(nil)
		delete(h.connected, m.id)
		if !m.expected {
			h.absent.add(m)
		}
		h.everybody.Store(nil)
		h.markChanged()
		h.notifyLogout(m.id, err)
		h.presence.look(m)
	}
	h.mu.Unlock()
	if box := m.mailbox.Load(); box != nil {
		var n notices
		box.detach(p, &n)
		n.send(p.server, nil)
	}
	h.presence.unwatch(p)
	if mine {
		p.logPresence(slog.LevelInfo, "logout", "client_id", p.id, "reason", err)
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
// out reachable again.
func (h *hub) alive(p *peer, now int64) {
	m := p.member
	if m.lastSeen.Load() != now { // a write costs those who read it on other processors
		m.lastSeen.Store(now)
	}
	if m.timedOut.Load() && m.timedOut.CompareAndSwap(true, false) {
		p.logPresence(slog.LevelInfo, "a client that had timed out is back", "client_id", p.id)
		h.presence.lookAgain(m)
		h.markChanged()
	}
	if m.waiting.Load() {
		p.run.deliveries.mailboxOf(m).sendWaiting()
	}
}

// member returns the client with the id, or nil if it is not known.
func (h *hub) member(id []byte) *member {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.members[string(id)]
}

// target returns the connection over which frames for the client can be delivered
// now, or nil; also for a nil client, which is not known.
func (h *hub) target(m *member, now int64) *peer {
	if m == nil {
		return nil
	}
	return h.connection(m, now)
}

// peerOf returns the connection of a client, or nil.
func (h *hub) peerOf(id string) *peer {
	if m := h.member([]byte(id)); m != nil {
		return m.peer.Load()
	}
	return nil
}

// isPresent reports whether frames for the client can be delivered.
func (h *hub) isPresent(id string) bool {
	m := h.member([]byte(id))
	return m != nil && h.present(m, h.now())
}

// broadcast calls the function with every client that is present now, and its
// connection, but that of the sender, and returns how often that reported true.
func (h *hub) broadcast(sender *peer, now int64, deliver func(*member, *peer) bool) (receivers int) {
	for _, m := range h.all() {
		if p := h.connection(m, now); p != nil && p != sender && deliver(m, p) {
			receivers++
		}
	}
	return receivers
}

// all returns the clients that have a connection.
func (h *hub) all() []*member {
	if list := h.everybody.Load(); list != nil {
		return *list
	}
	h.mu.RLock() // changes are made with it locked
	defer h.mu.RUnlock()
	list := slices.Collect(maps.Values(h.connected))
	h.everybody.Store(&list)
	return list
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
	at := h.instant()
	list := []ClientInfo{}
	h.mu.RLock()
	for _, m := range h.members {
		online := h.present(m, at.now)
		if online || !onlyOnline && !m.neverSeen {
			list = append(list, ClientInfo{
				ClientID:      m.id,
				Online:        online,
				LastHeartbeat: m.seen(at),
				LoginTime:     m.loginTime,
			})
		}
	}
	h.mu.RUnlock()
	slices.SortFunc(list, func(a, b ClientInfo) int { return strings.Compare(a.ClientID, b.ClientID) })
	return list
}

// states returns what the state file keeps, sorted by id. Whatever was noted as changed
// before is in it, and is not any more.
func (h *hub) states() []memberState {
	at := h.instant()
	h.mu.RLock()
	for _, noted := range []chan struct{}{h.changed, h.strangers} {
		select {
		case <-noted:
		default:
		}
	}
	states := make([]memberState, 0, len(h.members))
	for _, m := range h.members {
		if m.neverSeen {
			continue
		}
		state := clientState{Status: statusOffline, LastSeen: toSeconds(m.seen(at))}
		if h.present(m, at.now) {
			state.Status = statusOnline
		}
		states = append(states, memberState{m, state})
	}
	h.mu.RUnlock()
	slices.SortFunc(states, func(a, b memberState) int { return strings.Compare(a.member.id, b.member.id) })
	return states
}

// restore adds the clients that the state file has beyond those known.
func (h *hub) restore(states map[string]clientState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var added []*member
	for id, state := range states {
		switch m := h.members[id]; {
		case m == nil:
			m = &member{id: id, seenBefore: fromSeconds(state.LastSeen)}
			h.members[id] = m
			added = append(added, m)
		case m.neverSeen:
			m.seenBefore, m.neverSeen = fromSeconds(state.LastSeen), false
		}
	}
	slices.SortFunc(added, func(a, b *member) int { return a.seenBefore.Compare(b.seenBefore) })
	for _, m := range added {
		h.absent.add(m)
	}
	h.forgetOldest()
}

// missed returns the clients that are known and were not reached; none for a nil one.
func (h *hub) missed(by reached) (list []*member) {
	if by == nil {
		return nil
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, m := range h.members {
		if !by[m] {
			list = append(list, m)
		}
	}
	return list
}

// expect adds clients to those that are known, for good.
func (h *hub) expect(ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		if h.members[id] == nil {
			h.members[id] = &member{id: id, expected: true, neverSeen: true}
		}
	}
}

// expireOutgoing forgets tracked messages that are too old.
func (h *hub) expireOutgoing() {
	now := h.now()
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, m := range h.members {
		m.outgoing.expire(now)
	}
}

// forgetMailboxes ends those of a run that has ended.
func (h *hub) forgetMailboxes() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.members {
		m.mailbox.Store(nil)
		m.waiting.Store(false)
	}
}

// markChanged tells the keeper of the state file.
func (h *hub) markChanged() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

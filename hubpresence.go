package crosscomm

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

const (
	// gatherPresence is how long events are gathered for the clients that watch: when
	// thousands come at once, each watcher gets few frames.
	gatherPresence = 50 * time.Millisecond
	// mostPresence is up to how many bytes a frame of presence has. Watchers that take
	// so much share the same frames.
	mostPresence = 64 << 10
)

// hubPresence tells who comes and goes: the functions of this program, and clients. It
// costs nothing while nobody wants to know. It does not follow calls, which may overtake
// each other, but compares how a client is with what it has last told of it; so what it
// tells of each client is true, in the order in which it is told.
type hubPresence struct {
	hub     *hub
	watched atomic.Bool // whether anybody wants to know; changed with hub.mu and mu held

	// sending is held while frames are queued for watchers, so that each gets them in
	// their order. It is taken before hub.mu, and that before mu.
	sending sync.Mutex

	mu        sync.Mutex
	attending map[string]attendance // as last told; nil while not watched
	here      presenceWatchers
	clients   map[*peer]struct{}
	news      presenceNews // for clients
	gathering *time.Timer  // runs while there is news, and perhaps longer; nil if not
}

// look tells what has changed with the client. It is to be called after each change,
// with hub.mu held, be it for reading: then it sees no login that is half done.
func (p *hubPresence) look(m *member) {
	if !p.watched.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before, was := p.attending[m.id]
	a, is := p.hub.attendance(m)
	e := PresenceEvent{ClientID: m.id, Time: a.since}
	switch {
	case !is && !was, is && was && a.peer == before.peer && a.silent == before.silent:
		return
	case !is:
		e.Kind, e.Time = PresenceLeft, time.Now()
	case !was:
		e.Kind = PresenceJoined
	case a.peer != before.peer:
		e.Kind = PresenceReplaced
	case a.silent:
		e.Kind = PresenceTimedOut
	default:
		e.Kind, e.Time = PresenceBack, time.Now()
	}
	if a.since = e.Time; is {
		p.attending[m.id] = a
	} else {
		delete(p.attending, m.id)
	}
	p.here.tell(e)
	if len(p.clients) == 0 {
		return
	}
	p.news.add(e)
	if p.gathering == nil {
		p.gathering = time.AfterFunc(gatherPresence, p.flush)
	}
}

// lookAgain is look for who does not hold hub.mu.
func (p *hubPresence) lookAgain(m *member) {
	p.hub.mu.RLock()
	defer p.hub.mu.RUnlock()
	p.look(m)
}

// attendance returns how the client is now; ok is false if it has no connection. Call it
// with hub.mu held.
func (h *hub) attendance(m *member) (a attendance, ok bool) {
	a = attendance{peer: m.peer.Load(), since: m.loginTime}
	// That it has timed out may have been noted of the connection before this one.
	if m.timedOut.Load() && !h.present(m, h.now()) {
		a.silent, a.since = true, time.Now()
	}
	return a, a.peer != nil
}

// begin finds out who is there, if nobody has watched so far. Call it with hub.mu held, be
// it for reading, and mu.
func (p *hubPresence) begin() {
	if p.watched.Load() {
		return
	}
	p.attending = make(map[string]attendance, len(p.hub.connected))
	for id, m := range p.hub.connected {
		p.attending[id], _ = p.hub.attendance(m)
	}
	p.watched.Store(true)
}

// endIfUnwatched is called with mu held when somebody does not watch any more.
func (p *hubPresence) endIfUnwatched() {
	if len(p.clients) == 0 {
		p.news = presenceNews{}
		if p.gathering != nil {
			p.gathering.Stop()
			p.gathering = nil
		}
		if len(p.here) == 0 {
			p.watched.Store(false)
			p.attending = nil
		}
	}
}

// watchHere has a function of this program told.
func (p *hubPresence) watchHere(w *presenceWatcher) (stop func()) {
	p.hub.mu.RLock()
	defer p.hub.mu.RUnlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begin()
	w.begin(found(p.attending))
	p.here = append(p.here, w)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.here.remove(w) {
			p.endIfUnwatched()
		}
	}
}

// idle waits until the functions of this program were told all, or ctx ends.
func (p *hubPresence) idle(ctx context.Context) bool {
	p.mu.Lock()
	here := slices.Clone(p.here)
	p.mu.Unlock()
	return here.idle(ctx)
}

// watch has a client told, beginning with who is there, and returns how many those are.
func (p *hubPresence) watch(client *peer) int {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.hub.mu.RLock()
	p.mu.Lock()
	p.begin()
	// What was gathered is a part of who is there.
	news, others := p.news.take(), slices.Collect(maps.Keys(p.clients))
	attending := maps.Clone(p.attending)
	if p.clients == nil {
		p.clients = map[*peer]struct{}{}
	}
	p.clients[client] = struct{}{}
	p.mu.Unlock()
	p.hub.mu.RUnlock()
	p.send(others, news, false)
	p.send([]*peer{client}, found(attending), true)
	return len(attending)
}

// unwatch ends that; it does nothing for one who does not watch.
func (p *hubPresence) unwatch(client *peer) {
	if !p.watched.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.clients, client)
	p.endIfUnwatched()
}

// flush tells the clients what was gathered.
func (p *hubPresence) flush() {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.mu.Lock()
	p.gathering = nil
	news, clients := p.news.take(), slices.Collect(maps.Keys(p.clients))
	p.mu.Unlock()
	p.send(clients, news, false)
}

// send queues the events for the clients, with sending held. Those that take as much share
// the memory of the frames, which for this are sent to all.
func (p *hubPresence) send(clients []*peer, events []PresenceEvent, snapshot bool) {
	s := p.hub.s
	frames := map[int][][]byte{} // by how many bytes they may have
	for _, client := range clients {
		most := min(mostPresence, s.cfg.MaxMessageSize, client.takes)
		if _, ok := frames[most]; !ok {
			around := len(s.newFrame(typePresence, All, nil))
			frames[most] = nil
			for _, content := range presenceContents(events, snapshot, most-around) {
				frames[most] = append(frames[most], s.newFrame(typePresence, All, content))
			}
		}
		for _, data := range frames[most] {
			if !s.server.tell(client, data) {
				break // its link is ending
			}
		}
	}
}

// watchPresence handles presence_watch.
func (p *peer) watchPresence(f frame.Frame) {
	watch, err := wantsPresence(f.Content)
	if err != nil {
		p.refuse(err)
		return
	}
	presence := &p.server.hub.presence
	if !watch {
		presence.unwatch(p)
		return
	}
	p.link.Flush() // before others are waited for
	p.link.Pause(p.slowDown(presence.watch(p), 0))
}

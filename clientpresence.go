package crosscomm

import (
	"strconv"
	"sync"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// clientPresence has the server tell who comes and goes, as long as functions of this
// program want to know. It knows what they know, over the end of sessions, so that they
// are told what is different on the next one.
type clientPresence struct {
	client *client

	mu       sync.Mutex // taken before those of the client and of its run
	watchers presenceWatchers

	attending map[string]attendance // what the watchers that have begun know

	session *session // the last one on which the server was asked
	owed    int      // how many snapshots are still to come there; only the last one counts
	found   map[string]attendance
	current bool // whether attending is what the server has told there
}

// watch is Service.WatchPresence.
func (p *clientPresence) watch(w *presenceWatcher) (stop func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// With mu held, so that one that comes up now sees the watcher.
	current := p.client.sessionNow()
	if current != nil && !current.agreed {
		return nil, ErrNoPresence
	}
	p.watchers = append(p.watchers, w)
	switch {
	case current == nil:
	case current == p.session && p.current:
		w.begin(found(p.attending))
	case current != p.session || len(p.watchers) == 1:
		p.ask(current)
	}
	return func() { p.stop(w) }, nil
}

// sessionNow returns the session, or nil while the link is down.
func (c *client) sessionNow() *session {
	if run := c.lastRun(); run != nil {
		if current := run.state().current; current != nil && !isClosed(current.ended) {
			return current
		}
	}
	return nil
}

func (p *clientPresence) stop(w *presenceWatcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.watchers.remove(w) || len(p.watchers) > 0 {
		return
	}
	if p.session != nil && !isClosed(p.session.ended) {
		p.request(p.session, `{"watch":false}`)
	}
	p.attending, p.found, p.current = nil, nil, false
}

// up is called when the link is up, and others can see that.
func (p *clientPresence) up(current *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case len(p.watchers) == 0 || current == p.session:
	case !current.agreed:
		p.client.s.log.Warn("who comes and goes is not told", "error", ErrNoPresence)
	default:
		p.ask(current)
	}
}

// ask asks for who is there, and for what happens then, with mu held.
func (p *clientPresence) ask(current *session) {
	if p.session != current {
		p.session, p.owed = current, 0
	}
	p.owed++
	p.found, p.current = nil, false
	p.request(current, `{"watch":true}`)
}

func (p *clientPresence) request(current *session, content string) {
	// An error means that the link is ending; the next session asks again.
	_ = current.link.Send(p.client.s.newFrame(typePresenceWatch, ServerID, []byte(content)))
}

// toldPresence takes a presence frame.
func (sess *session) toldPresence(f frame.Frame) {
	if err := sess.client.presence.told(sess, f); err != nil {
		sess.client.warnings.warn(sess.client.s.log, "who comes and goes is not understood", "error", err)
	}
}

// told takes what the server has told on a session. The error says what is wrong with it.
func (p *clientPresence) told(current *session, f frame.Frame) error {
	report, err := parsePresence(f.Content)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case current != p.session: // it was not asked
	case report.Snapshot && p.owed > 0:
		if p.owed == 1 && len(p.watchers) > 0 {
			p.find(report.Events)
		}
		if report.More {
			break
		}
		if p.owed--; p.owed == 0 && len(p.watchers) > 0 {
			seconds, _ := strconv.ParseFloat(string(f.Timestamp), 64)
			p.compare(fromSeconds(seconds))
		}
	case !report.Snapshot && p.current:
		for _, e := range report.Events {
			p.happened(e)
		}
	}
	return nil
}

// find takes a part of who is there.
func (p *clientPresence) find(events []PresenceEvent) {
	if p.found == nil {
		p.found = map[string]attendance{}
	}
	for _, e := range events {
		if e.ClientID != p.client.s.cfg.ClientID && e.Kind != PresenceLeft {
			p.found[e.ClientID] = attendance{silent: !e.Kind.Online(), since: e.Time}
		}
	}
}

// compare tells what is different from what was known, now that all are found who are
// there. Nobody knows when those went who did; now is the time that is told.
func (p *clientPresence) compare(now time.Time) {
	var gone, others []PresenceEvent
	for id := range p.attending {
		if _, is := p.found[id]; !is {
			gone = append(gone, PresenceEvent{Kind: PresenceLeft, ClientID: id, Time: now})
		}
	}
	for id, a := range p.found {
		before, was := p.attending[id]
		e := a.asFound(id)
		switch {
		case was && a.silent == before.silent:
			continue
		case was && !a.silent:
			e.Kind = PresenceBack
		case !was && !a.silent:
			e.Kind = PresenceJoined
		}
		others = append(others, e)
	}
	p.watchers.tell(sortedByClient(gone)...)
	p.watchers.tell(sortedByClient(others)...)
	p.attending, p.found, p.current = p.found, nil, true
	all := found(p.attending)
	for _, w := range p.watchers {
		if !w.begun {
			w.begin(all)
		}
	}
}

// happened tells an event.
func (p *clientPresence) happened(e PresenceEvent) {
	if e.ClientID == p.client.s.cfg.ClientID {
		return
	}
	if e.Kind == PresenceLeft {
		delete(p.attending, e.ClientID)
	} else {
		p.attending[e.ClientID] = attendance{silent: !e.Kind.Online(), since: e.Time}
	}
	p.watchers.tell(e)
}

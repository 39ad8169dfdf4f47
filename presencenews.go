package crosscomm

import (
	"maps"

	"github.com/crosscomm/crosscomm-go/internal/fifo"
)

// fewNews is up to how many events wait before short visits are left out.
const fewNews = 10_000

// presenceNews are events that are still to be told, in their order. Of each client
// there are two at most: the first one, and the one that, after it, makes known how the
// client is now. So a client that came and went is not missed, and what waits does not
// grow with what happens. Visits of ever new clients, of which who is to be told knows
// nothing, are left out when very much waits. The zero value is empty.
type presenceNews struct {
	queue fifo.Queue[*presenceNote]
	of    map[string]clientNews
	most  int // how long the queue may get before visits are left out; 0 for fewNews
}

// presenceNote is an event that waits.
type presenceNote struct {
	PresenceEvent
	void bool // nothing is to be told in its place
}

// clientNews are the notes about one client.
type clientNews struct {
	first, second *presenceNote // second may be nil
}

// visit reports whether they tell of one who has come and gone.
func (c clientNews) visit() bool {
	return c.second != nil && !c.second.void && c.second.Kind == PresenceLeft && (c.first.Kind == PresenceHere || c.first.Kind == PresenceJoined)
}

// empty may report false although there are only void notes.
func (n *presenceNews) empty() bool { return n.queue.Len() == 0 }

func (n *presenceNews) add(e PresenceEvent) {
	c := n.of[e.ClientID]
	switch {
	case c.second != nil:
		before := c.first.Kind
		e.Kind = e.Kind.after(before)
		*c.second = presenceNote{e, e.Kind == before && !before.Online()}
		return
	case c.first != nil:
		c.second = n.push(e)
	default:
		c.first = n.push(e)
	}
	if n.of == nil {
		n.of = map[string]clientNews{}
	}
	n.of[e.ClientID] = c
	if n.queue.Len() > max(n.most, fewNews) {
		n.leaveOutVisits()
	}
}

// after returns what to tell of the client instead of k, if what lies between an event
// of the kind before and this one is left out.
func (k PresenceKind) after(before PresenceKind) PresenceKind {
	switch {
	case !k.Online():
		return k
	case before == PresenceLeft:
		return PresenceJoined
	case k == PresenceBack:
		return k
	}
	return PresenceReplaced
}

func (n *presenceNews) push(e PresenceEvent) *presenceNote {
	note := &presenceNote{PresenceEvent: e}
	n.queue.Push(note)
	return note
}

// leaveOutVisits makes room, and then lets the queue grow to twice what is left, so that
// the time this takes does not grow with what waits.
func (n *presenceNews) leaveOutVisits() {
	n.queue.DeleteFunc(func(note *presenceNote) bool {
		c := n.of[note.ClientID]
		return c.visit() || note != c.first && note != c.second
	})
	maps.DeleteFunc(n.of, func(_ string, c clientNews) bool { return c.visit() })
	n.most = 2 * n.queue.Len()
}

// next takes the event out that is to be told next; ok is false if there is none.
func (n *presenceNews) next() (e PresenceEvent, ok bool) {
	for n.queue.Len() > 0 {
		note := n.queue.Pop()
		if note.void {
			continue // that of one that was told; nobody has it any more
		}
		if c := n.of[note.ClientID]; c.second == nil || c.second.void {
			delete(n.of, note.ClientID)
		} else {
			n.of[note.ClientID] = clientNews{first: c.second}
		}
		if n.queue.Len() == 0 {
			n.of, n.most = nil, 0 // a map keeps the room that it once had
		}
		return note.PresenceEvent, true
	}
	return PresenceEvent{}, false
}

// take takes out all.
func (n *presenceNews) take() (events []PresenceEvent) {
	for {
		e, ok := n.next()
		if !ok {
			return events
		}
		events = append(events, e)
	}
}

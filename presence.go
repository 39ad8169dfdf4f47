package crosscomm

import (
	"slices"
	"strings"
	"time"
)

// PresenceKind is what has happened to a client, as it stands on the wire.
type PresenceKind string

// The kinds of [PresenceEvent]. After the first four the client is there, after the
// last two it is not: see [PresenceKind.Online].
const (
	// PresenceHere is told first, of each client that is there when the watching
	// begins. Of one that is connected and silent PresenceTimedOut is told in its place.
	PresenceHere PresenceKind = "present"
	// PresenceJoined: the client has logged in.
	PresenceJoined PresenceKind = "joined"
	// PresenceReplaced: a newer login has taken over the id of a client that was
	// there. What its program knew before may be lost.
	PresenceReplaced PresenceKind = "replaced"
	// PresenceBack: a client that had timed out has given a sign of life, on the
	// same connection. Messages reach it again.
	PresenceBack PresenceKind = "back"

	// PresenceTimedOut: the client still has a connection, but was silent for
	// Config.HeartbeatTimeout of the server, which looks each HeartbeatInterval.
	// PresenceBack, PresenceReplaced or PresenceLeft follows.
	PresenceTimedOut PresenceKind = "timed_out"
	// PresenceLeft: the client has logged out, or its connection has ended.
	PresenceLeft PresenceKind = "left"
)

// Online reports whether the client is there after an event of this kind, so that
// messages reach it.
func (k PresenceKind) Online() bool {
	switch k {
	case PresenceHere, PresenceJoined, PresenceReplaced, PresenceBack:
		return true
	}
	return false
}

// known reports whether k is one of the kinds; a newer server may have others.
func (k PresenceKind) known() bool {
	return k.Online() || k == PresenceTimedOut || k == PresenceLeft
}

// PresenceEvent is that a client has come or gone.
type PresenceEvent struct {
	Kind     PresenceKind
	ClientID string
	// Time is when that was, by the server's clock; of PresenceHere since when the
	// client is there. That somebody left while this client's own link was down has
	// the time at which it learned that.
	Time time.Time
}

// PresenceOptions say whom [Service.WatchPresence] watches. The zero value stands for
// everybody.
type PresenceOptions struct {
	// ClientIDs are the only clients that are told of, if there are any.
	ClientIDs []string
}

// WatchPresence calls f for each client that is there, and from then on whenever one
// comes or goes, until stop is called. Nothing is missed between the two, or told
// twice. A client is not told of itself. [Service.ListClients] and [Service.Clients]
// tell who is there without watching.
//
// f is called for one event at a time, in the order of the events, off the connection's
// goroutines: it may block, and call any method of the Service. If it is slow, of what
// waits for it each client keeps two events at most: the next one, and the one that says
// how it is now. A client that comes and goes while thousands of events wait may be
// left out. A panic of f is logged, and changes nothing else. After stop no call begins
// any more; one that runs is not waited for. The Stop of a server, but no Logout, waits
// for what is still to be told, up to 5 s.
//
// A client may watch before Login: then it begins with the login. It goes on after the
// link was lost, and after Logout and another Login: the client asks the server again,
// and f is told what is different from what it knew: PresenceLeft for those that went
// meanwhile, PresenceJoined for new ones, and nothing for those who are there as before,
// although they may have been away.
// While the link is down nothing is told: see [Config.OnDown]. Events come some 50 ms
// late: a server gathers them; one who comes and goes several times within that is told
// of twice.
//
// On a client that is connected to a server without presence it returns
// [ErrNoPresence]; where a later login finds such a server that is logged, and nothing
// is told. There is no other error. A server may watch before it is started, and knows
// at once.
func (s *Service) WatchPresence(f func(PresenceEvent), opts PresenceOptions) (stop func(), err error) {
	w := &presenceWatcher{f: f, log: s.log}
	if len(opts.ClientIDs) > 0 {
		w.only = map[string]bool{}
		for _, id := range opts.ClientIDs {
			w.only[id] = true
		}
	}
	if s.client != nil {
		return s.client.presence.watch(w)
	}
	return s.server.hub.presence.watchHere(w), nil
}

// attendance is that a client is there, or is silent.
type attendance struct {
	silent bool
	since  time.Time
	peer   *peer // its connection; nil on a client, which does not know it
}

// asFound returns what one who knows nothing is told of the client.
func (a attendance) asFound(id string) PresenceEvent {
	kind := PresenceHere
	if a.silent {
		kind = PresenceTimedOut
	}
	return PresenceEvent{Kind: kind, ClientID: id, Time: a.since}
}

// sortedByClient collects events of as many clients, in an order that tests and people
// can rely on.
func sortedByClient(events []PresenceEvent) []PresenceEvent {
	slices.SortFunc(events, func(a, b PresenceEvent) int { return strings.Compare(a.ClientID, b.ClientID) })
	return events
}

// found returns what one who knows nothing is told.
func found(attending map[string]attendance) []PresenceEvent {
	events := make([]PresenceEvent, 0, len(attending))
	for id, a := range attending {
		events = append(events, a.asFound(id))
	}
	return sortedByClient(events)
}

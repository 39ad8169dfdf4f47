package crosscomm

import (
	"testing"
	"time"
)

// A client of which it is noted that it has timed out, while its newer login came, is there.
func TestPresenceOfANewLogin(t *testing.T) {
	h := newHub(&Service{cfg: Config{HeartbeatTimeout: time.Hour}})
	m := &member{id: "c", loginTime: time.Now()}
	m.peer.Store(new(peer))
	m.lastSeen.Store(h.now())
	m.timedOut.Store(true)
	h.members["c"], h.connected["c"] = m, m
	told := make(chan PresenceEvent, 10)
	stop := h.presence.watchHere(&presenceWatcher{f: func(e PresenceEvent) { told <- e }})
	if e := <-told; e.Kind != PresenceHere || !e.Time.Equal(m.loginTime) {
		t.Errorf("got %+v", e)
	}
	stop()
	if p := &h.presence; p.watched.Load() || p.attending != nil {
		t.Error("nobody watches any more, and it is followed who comes and goes")
	}
}

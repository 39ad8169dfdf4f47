package crosscomm

import (
	"log/slog"
	"time"
)

// lookAtSilent is called every Config.HeartbeatInterval. It notes which clients have
// timed out, for the log and the state file: whether frames reach a client does not
// depend on it, see hub.present. It pings these, and closes the connections of those
// that do not answer within as long again: a peer that has vanished, or hangs, must not
// hold one for ever. One that does answer may keep it: not all programs send
// heartbeats. Nobody is closed who was not pinged, however late this looks: it may look
// rarely, and this process may have been stopped.
func (h *hub) lookAtSilent() {
	now, patience := h.now(), h.s.cfg.HeartbeatTimeout
	var noted bool
	for _, m := range h.all() {
		p := m.peer.Load()
		if p == nil {
			continue
		}
		if h.present(m, now) {
			if p.readAgain.Load() > now {
				p.link.Ping() // if it has vanished, writing tells
			}
			continue
		}
		if m.timedOut.CompareAndSwap(false, true) {
			noted = true
			h.presence.lookAgain(m)
			p.logPresence(slog.LevelWarn, "a client has timed out", "client_id", m.id, "silent_for", time.Duration(now-m.lastSeen.Load()).Round(time.Millisecond))
		}
		switch sign := max(m.lastSeen.Load(), p.ponged.Load(), p.readAgain.Load()); {
		case p.pinged <= sign:
			p.pinged = now
			p.link.Ping()
		case time.Duration(now-p.pinged) < patience:
			p.link.Ping()
		default:
			p.link.Close(CloseSilent, "no sign of life", closeTimeout)
		}
	}
	if noted {
		h.markChanged()
	}
}

// beat sends a client's heartbeats until the session ends: at once, as the
// original does, and every interval.
func (sess *session) beat(interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		s := sess.client.s
		// An error means that the link is ending, and ended is about to tell.
		_ = sess.link.Send(s.newFrame(TypeHeartbeat, ServerID, emptyContent))
		select {
		case <-sess.ended:
			return
		case <-ticker.C:
		}
	}
}

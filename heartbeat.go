package crosscomm

import (
	"context"
	"time"
)

// watchHeartbeats notes which clients have timed out, until ctx ends. Whether
// frames reach a client does not depend on it: see hub.present. It is for the
// log and the state file.
func (h *hub) watchHeartbeats(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			h.noteTimeouts()
		}
	}
}

func (h *hub) noteTimeouts() {
	now := h.now()
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, m := range h.connected {
		if h.present(m, now) || !m.timedOut.CompareAndSwap(false, true) {
			continue
		}
		h.s.log.Warn("a client has timed out", "client_id", m.id, "silent_for", time.Duration(now-m.lastSeen.Load()).Round(time.Millisecond))
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

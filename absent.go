package crosscomm

import "container/list"

// absent are the clients that are known and not connected, those first that have
// been so for longest. It is guarded by hub.mu. The zero value is ready.
type absent struct{ members list.List }

func (a *absent) add(m *member) { m.absence = a.members.PushBack(m) }

// remove does nothing for one that is not there.
func (a *absent) remove(m *member) {
	if m.absence != nil {
		a.members.Remove(m.absence)
		m.absence = nil
	}
}

// oldest returns the one that is to be forgotten first; nil for none. Those for whom
// messages wait come last, so far as it can be seen in a short time.
func (a *absent) oldest() *list.Element {
	const looks = 100
	at := a.members.Front()
	for range looks {
		if at == nil || !at.Value.(*member).waiting.Load() {
			break
		}
		at = at.Next()
	}
	if at == nil {
		return a.members.Front()
	}
	return at
}

// forgetOldest forgets clients while more are known than may be, with hub.mu locked.
// Nobody who is connected is forgotten.
func (h *hub) forgetOldest() {
	for len(h.members) > h.s.cfg.Limits.KnownClients {
		oldest := h.absent.oldest()
		if oldest == nil {
			return
		}
		m := oldest.Value.(*member)
		h.absent.remove(m)
		delete(h.members, m.id)
		m.forgotten.Store(true)
		h.s.server.stats.forgotten.Add(1)
		h.markChanged()
	}
}

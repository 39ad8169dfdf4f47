package ossserver

import (
	"context"
	"errors"
	"sync"
)

// errDisconnected is why the requests of an access key were ended.
var errDisconnected = errors.New("the access key is no longer valid")

// accounts are the requests under way of each access key. The zero value is
// ready.
type accounts struct {
	mu      sync.Mutex
	cancels map[string]map[*context.CancelCauseFunc]bool
}

// add registers a request until the function that it returns is called.
func (a *accounts) add(id string, cancel context.CancelCauseFunc) (remove func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cancels == nil {
		a.cancels = map[string]map[*context.CancelCauseFunc]bool{}
	}
	if a.cancels[id] == nil {
		a.cancels[id] = map[*context.CancelCauseFunc]bool{}
	}
	a.cancels[id][&cancel] = true
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.cancels[id], &cancel)
		if len(a.cancels[id]) == 0 {
			delete(a.cancels, id)
		}
	}
}

// Disconnect ends the requests of an access key that are under way, as when
// Config.Secret or Config.Allow no longer accepts it: what is being stored is
// not, and what is being read is cut. Make the key void before; Disconnect may
// be called concurrently.
func (s *Server) Disconnect(accessKeyID string) {
	s.running.mu.Lock()
	defer s.running.mu.Unlock()
	for cancel := range s.running.cancels[accessKeyID] {
		(*cancel)(errDisconnected)
	}
}

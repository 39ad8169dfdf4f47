// Command melody is a cross_comm relay written with github.com/olahol/melody by
// its documentation, for the comparison.
package main

import (
	"log"
	"net/http"
	"sync"

	"github.com/olahol/melody"

	"github.com/crosscomm/crosscomm-go/bench/internal/serve"
	"github.com/crosscomm/crosscomm-go/bench/internal/wire"
)

// idKey is where a session keeps the id that has logged in.
const idKey = "id"

// relay knows the sessions by their ids; melody itself only knows all of them.
type relay struct {
	melody *melody.Melody

	mu       sync.RWMutex
	sessions map[string]*melody.Session
}

func main() {
	l := serve.Listen()
	m := melody.New()
	m.Config.MaxMessageSize = wire.MaxMessage
	// MessageBufferSize stays 256: what is more for one client melody drops, but
	// no load has more than 32 messages for one under way. A larger one costs
	// memory for each connection.
	r := &relay{melody: m, sessions: map[string]*melody.Session{}}
	m.HandleMessage(r.message)
	m.HandleMessageBinary(r.message) // the original does not tell them apart
	m.HandleDisconnect(r.disconnect)
	serve.HTTP(l, func(w http.ResponseWriter, req *http.Request) {
		if err := m.HandleRequest(w, req); err != nil {
			log.Print(err)
		}
	})
}

func (r *relay) message(s *melody.Session, data []byte) {
	f, err := wire.Decode(data)
	if err != nil {
		return
	}
	switch {
	case f.Type == wire.Login && f.From != "":
		r.disconnect(s) // from the id that it had before
		s.Set(idKey, f.From)
		r.mu.Lock()
		r.sessions[f.From] = s
		r.mu.Unlock()
		_ = s.Write(wire.LoginResponse(f.From))
	case f.Type == wire.Logout:
		r.disconnect(s)
	case !f.Relayed():
	case f.To == wire.All:
		// An error of these is that of a session, or of a melody, that is closed.
		_ = r.melody.BroadcastFilter(data, func(to *melody.Session) bool {
			if to == s {
				return false
			}
			_, in := to.Get(idKey)
			return in
		})
	default:
		r.mu.RLock()
		to := r.sessions[f.To]
		r.mu.RUnlock()
		if to != nil {
			_ = to.Write(data)
		}
	}
}

// disconnect forgets the id of the session, if a newer one has not taken it.
func (r *relay) disconnect(s *melody.Session) {
	value, ok := s.Get(idKey)
	if !ok {
		return
	}
	s.UnSet(idKey)
	r.mu.Lock()
	defer r.mu.Unlock()
	if id := value.(string); r.sessions[id] == s {
		delete(r.sessions, id)
	}
}

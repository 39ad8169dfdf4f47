package backlog

import (
	"maps"
	"slices"
)

// expireAtOnce is how many messages are dropped for their age in one transaction,
// so that others do not wait long for the next one.
const expireAtOnce = 10_000

// expiry is what of Expire is done in one transaction.
type expiry struct {
	clients []string
	cutoff  int64    // in ns since 1970; what is older goes
	left    []string // of the clients, whose turn has not come or not to the end
}

// Expire drops the messages that are older than Options.MaxAge, and returns when
// that is committed: call it now and then. It begins with the first message of
// each client, and ends at one that is younger: what is too old behind that, since
// the clock was set back or it came late, is only hidden by Load, until its turn
// comes. Errors are logged; the next call tries again.
func (s *Store) Expire() {
	cutoff := s.cutoff()
	s.mu.Lock()
	clients := slices.Sorted(maps.Keys(s.clients))
	s.mu.Unlock()
	for len(clients) > 0 {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return
		}
		e := &expiry{cutoff: cutoff}
		for _, client := range clients {
			if q, ok := s.clients[client]; ok && q.oldest < cutoff {
				e.clients = append(e.clients, client)
			}
		}
		if len(e.clients) == 0 {
			s.mu.Unlock()
			return
		}
		done := make(chan error, 1)
		s.waiting.expiries = append(s.waiting.expiries, e)
		s.waiting.after = append(s.waiting.after, func(err error) { done <- err })
		s.start()
		s.mu.Unlock()
		if err := <-done; err != nil {
			s.o.Logger.Error("cannot drop old messages of absent clients", "error", err)
			return
		}
		clients = e.left
	}
}

// cutoff is the time in ns since 1970 of the oldest message that is not too old.
func (s *Store) cutoff() int64 { return s.o.Now().Add(-s.o.MaxAge).UnixNano() }

// expire drops what is too old, up to expireAtOnce messages.
func (t *transaction) expire(e *expiry) error {
	left := expireAtOnce
	for i, client := range e.clients {
		b := t.messages.Bucket([]byte(client))
		if b == nil {
			continue // its last message has gone meanwhile
		}
		q, more := t.queues[client], false
		before := q.messages
		err := t.dropFirst(client, b, &q, func(record []byte) bool {
			when, _, err := header(record)
			if err == nil {
				q.oldest = when
			}
			more = err != nil || when < e.cutoff
			left--
			return more && left >= 0
		})
		if err != nil {
			return err
		}
		if q.messages == before {
			t.queues[client] = q
		} else if err := t.store(client, b, q); err != nil {
			return err
		}
		if more && left < 0 {
			e.left = e.clients[i:]
			return nil
		}
	}
	return nil
}

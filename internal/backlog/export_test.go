package backlog

import (
	"runtime"
	"sync"

	"go.etcd.io/bbolt"
)

// Hold has nothing committed until release is called: all that is queued meanwhile
// is one group.
func (s *Store) Hold() (release func()) {
	for !s.hold() {
		runtime.Gosched()
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.committer = false
		s.start()
	})
}

// hold takes the place of the goroutine that commits, unless it is running.
func (s *Store) hold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := !s.committer
	s.committer = true
	return held
}

// WrapUpdate has transactions run through the function.
func (s *Store) WrapUpdate(wrap func(update func() error) error) {
	update := s.update
	s.update = func(fn func(*bbolt.Tx) error) error {
		return wrap(func() error { return update(fn) })
	}
}

// NoSync has commits not wait for the disk, for tests that do not lose power.
func (s *Store) NoSync() { s.db.NoSync = true }

// Edit changes the file in a way that the store does not know of.
func (s *Store) Edit(fn func(*bbolt.Tx) error) error { return s.db.Update(fn) }

// Abandon closes the file as the end of the process would.
func (s *Store) Abandon() error {
	s.close.Do(func() { s.closeErr = s.db.Close() })
	return s.closeErr
}

// Cost is how much a message counts.
func Cost(m Message) int64 { return cost(len(encode(m))) }

// Size returns what the client has committed, in bytes as Options.MaxBytes counts.
func (s *Store) Size(client string) (messages int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.clients[client]
	return int(q.messages), q.bytes
}

// StoredClients returns the clients that have left anything in the file.
func (s *Store) StoredClients() (messages, counts []string) {
	_ = s.db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, _ []byte) error {
				switch string(name) {
				case string(messagesBucket):
					messages = append(messages, string(k))
				case string(countsBucket):
					counts = append(counts, string(k))
				}
				return nil
			})
		})
	})
	return messages, counts
}

// RootPage returns the page with which the messages of a client begin.
func (s *Store) RootPage(client string) (page int64) {
	_ = s.db.View(func(tx *bbolt.Tx) error {
		page = int64(tx.Bucket(messagesBucket).Bucket([]byte(client)).RootPage())
		return nil
	})
	return page
}

// HasWaiting reports whether somebody waits for Room.
func (s *Store) HasWaiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roomy != nil
}

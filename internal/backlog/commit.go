package backlog

import (
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/crosscomm/crosscomm-go/internal/diskfull"
)

// start has what waits committed. Call it with mu locked.
func (s *Store) start() {
	if s.committer || s.waiting.isEmpty() {
		return
	}
	s.committer = true
	go s.commitAll()
}

// commitAll commits until nothing waits any more.
func (s *Store) commitAll() {
	for {
		s.mu.Lock()
		if s.waiting.isEmpty() {
			s.committer = false
			s.mu.Unlock()
			return
		}
		g := s.waiting
		s.flight, s.waiting = g, newGroup()
		s.mu.Unlock()
		dropped, putErr, err := s.commit(g)
		for _, w := range g.waiters {
			switch {
			case w.settled:
			case w.put:
				w.err = putErr
			default:
				w.err = err
			}
			w.done(w.err)
		}
		for _, d := range dropped {
			s.o.Dropped(d.client, d.seq, d.meta)
		}
		for _, done := range g.after {
			done(err)
		}
	}
}

// commit commits a group. If there is no room for what it puts, it commits the
// rest alone: that is what makes room.
func (s *Store) commit(g *group) (dropped []drop, putErr, err error) {
	dropped, err = s.try(g, true)
	putErr = err
	if errors.Is(err, ErrFull) {
		dropped, err = s.try(g, false)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(putErr, ErrFull) {
		s.full, s.fullSince = putErr, s.o.Now()
	}
	s.flight = newGroup()
	if s.roomy != nil && s.pending() <= s.o.MaxPending {
		close(s.roomy)
		s.roomy = nil
	}
	return dropped, putErr, err
}

// try runs the transaction, with what is put or without, and has everybody see
// what the queues are then.
func (s *Store) try(g *group, puts bool) ([]drop, error) {
	t := &transaction{o: &s.o, queues: map[string]queue{}}
	err := s.run(t, g, puts)
	if err != nil {
		t.dropped, t.damaged = nil, 0
		// If it was the last sync that failed, the file has it all the same. What
		// counts is what can be read.
		if readErr := s.readQueues(t.queues); readErr != nil {
			s.o.Logger.Error("cannot read how much there is for absent clients", "error", readErr)
			clear(t.queues)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, q := range t.queues {
		before := s.clients[name] // nothing if it had nothing
		s.totals.Messages += q.messages - before.messages
		s.totals.Bytes += q.bytes - before.bytes
		if q.messages > 0 {
			s.clients[name] = q
		} else {
			delete(s.clients, name)
		}
	}
	s.totals.Dropped += uint64(len(t.dropped))
	s.totals.Damaged += uint64(t.damaged)
	return t.dropped, err
}

// run runs the transaction.
func (s *Store) run(t *transaction, g *group, puts bool) error {
	changes := map[string][]op{}
	for name, ops := range g.clients {
		ops := *ops
		if !puts {
			ops = slices.DeleteFunc(slices.Clone(ops), func(o op) bool { return o.record != nil })
		}
		if len(ops) > 0 {
			changes[name] = ops
		}
	}
	if len(changes) == 0 && len(g.expiries) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(changes))
	s.mu.Lock()
	for _, name := range names {
		t.queues[name] = s.clients[name]
	}
	for _, e := range g.expiries {
		for _, name := range e.clients {
			t.queues[name] = s.clients[name]
		}
	}
	s.mu.Unlock()
	change := func(tx *bbolt.Tx) error {
		t.messages, t.counts = tx.Bucket(messagesBucket), tx.Bucket(countsBucket)
		for _, name := range names {
			if err := t.apply(name, changes[name]); err != nil {
				return err
			}
		}
		for _, e := range g.expiries {
			if err := t.expire(e); err != nil {
				return err
			}
		}
		return nil
	}
	err := guard(func() error {
		// After a panic bbolt would read all keys, on a goroutine of its own, and a
		// damaged page there would end the process; after an error it does not.
		return s.update(func(tx *bbolt.Tx) error { return guard(func() error { return change(tx) }) })
	})
	s.noteDamage(err)
	if diskfull.Is(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// guard has a panic be an error: bbolt's checks in a damaged file panic, and what
// points behind its end faults. A panic on the goroutine that commits would leave
// all others waiting.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return f()
}

// errDamaged wraps what is wrong with a file that is none of ours, or not any more.
var errDamaged = errors.New("damaged")

// noteDamage has the next Open look at the whole file, if that is what an error says.
func (s *Store) noteDamage(err error) {
	if errors.Is(err, errDamaged) && !s.damaged.Swap(true) {
		s.o.Logger.Error("the file of messages for absent clients is damaged; it will be set aside when it is opened again", "error", err)
	}
}

// readQueues reads what there is of the clients, which may be nothing.
func (s *Store) readQueues(queues map[string]queue) error {
	return guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			for name := range queues {
				q, err := decodeQueue(tx.Bucket(countsBucket).Get([]byte(name)))
				if err != nil {
					return err
				}
				queues[name] = q
			}
			return nil
		})
	})
}

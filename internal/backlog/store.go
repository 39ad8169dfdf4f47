// Package backlog keeps the messages of clients that are away: a queue for each,
// all in one bbolt file.
//
// What is put or deleted is only noted, and committed by one goroutine, which
// runs while there is something to commit: all that came during one commit is one
// transaction after it, with its two syncs. A message that is deleted before its
// turn has come is never written.
//
// The memory that a Store takes grows with the clients that have messages and
// with what waits to be committed, and not with the messages in the file.
//
// All methods of a Store may be called concurrently. The functions that they are
// given are called from the goroutine that commits, one at a time and without a
// lock: they may call Put, Delete, Load and what only tells something, and must
// neither wait nor call Sync, Room, Expire or Close.
package backlog

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
)

var (
	// ErrInUse: another Store has the file open, in this process or another one.
	ErrInUse = errors.New("in use by another process")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("the backlog is closed")
	// ErrFull: there is no room, within Options.MaxTotal or on the disk.
	ErrFull = errors.New("no room left for messages of absent clients")
	// ErrTooLarge: the message alone exceeds Options.MaxBytes.
	ErrTooLarge = errors.New("message too large for the queue of an absent client")
	// ErrClient: a client's id is empty, or longer than 32,768 bytes.
	ErrClient = errors.New("not an id of a client")
)

// Options bound what is kept. Zero stands for the default.
type Options struct {
	MaxAge      time.Duration // of a message; 7 days
	MaxMessages int           // of one client; 100,000
	MaxBytes    int64         // of one client: Meta, Data and 64 bytes for each message; 64 MiB
	// MaxTotal is the same of all clients, with what waits to be committed; 4 GiB, and
	// no more than 512 MiB where addresses have 32 bits: the file is mapped.
	MaxTotal   int64
	MaxPending int64 // bytes that wait to be committed before Room waits; 32 MiB

	// Now is the clock for MaxAge. It must be a wall clock: messages outlive the
	// process. The default is time.Now.
	Now func() time.Time
	// Logger is told of damage. The default is slog.Default().
	Logger *slog.Logger
	// Dropped, unless it is nil, is told of each message that was dropped because
	// it was too old, or because newer ones needed the room. It is called when that
	// is committed, after the functions that Put and Delete were given. It may
	// keep meta. It is not told of damaged messages.
	Dropped func(client string, seq uint64, meta []byte)
}

func (o *Options) setDefaults() {
	if o.MaxAge == 0 {
		o.MaxAge = 7 * 24 * time.Hour
	}
	if o.MaxMessages == 0 {
		o.MaxMessages = 100_000
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	if o.MaxTotal == 0 {
		o.MaxTotal = 4 << 30
	}
	if o.MaxPending == 0 {
		o.MaxPending = 32 << 20
	}
	if strconv.IntSize == 32 {
		o.MaxTotal = min(o.MaxTotal, 512<<20)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Dropped == nil {
		o.Dropped = func(string, uint64, []byte) {}
	}
}

// Message is a message that waits for its client.
type Message struct {
	Seq  uint64    // its place among the client's messages
	Time time.Time // when it was sent, to the nanosecond; the zero time stands for now
	Meta []byte    // what the caller wants to know of it; some 100 bytes at most
	Data []byte
}

// Totals are what a store holds, and what has happened since it was opened.
type Totals struct {
	Messages int64
	Bytes    int64  // as Options.MaxBytes counts
	Dropped  uint64 // messages that were too old, or made room for newer ones
	Damaged  uint64 // messages that could not be read, and are gone
}

// Store is an open file with queues.
type Store struct {
	o  Options
	db *bbolt.DB
	// update is db.Update, which tests replace to have it fail.
	update func(func(*bbolt.Tx) error) error

	damaged  atomic.Bool // see noteDamage
	close    sync.Once
	closeErr error

	mu        sync.Mutex
	closed    bool
	committer bool // whether the goroutine is running
	waiting   *group
	flight    *group           // being committed; not changed any more; never nil
	clients   map[string]queue // as committed; those that have messages
	totals    Totals
	roomy     chan struct{} // closed when fewer bytes wait; nil if nobody waits for that
	full      error         // of the last commit that found the disk full; nil if it may be tried again
	fullSince time.Time
}

// fullPause is how long nothing is put after the disk was full: after a commit that
// fails bbolt reads all keys, to find its free pages again.
const fullPause = time.Second

// queue is what is known of a client's queue.
type queue struct {
	messages int64
	bytes    int64
	last     uint64 // the highest seq; nothing if there are no messages
	// oldest is in ns since 1970. The first message is no older, and will not be
	// unless one is deleted.
	oldest int64
}

// unknownAge is the oldest of a queue that was not looked at yet.
const unknownAge = math.MinInt64

// Put queues a message for a client. It does not wait for the disk, and m is not
// used after it returns. If the client has a message with the same Seq, that is
// replaced. The order of the messages is that of their Seq, in whichever they
// come. If the queue exceeds its limits with it, the first ones are dropped in the
// same transaction.
//
// The function, which may be nil, is called when the message is safe on the disk,
// or was deleted before it got there, or with the error: ErrTooLarge, ErrFull,
// ErrClosed, ErrClient, or that of the commit. If it was the sync that failed, the
// message may be there all the same. After a full disk, nothing can be put for a
// second of Options.Now.
func (s *Store) Put(client string, m Message, done func(error)) {
	if m.Time.IsZero() {
		m.Time = s.o.Now()
	}
	// Outside of the lock, so that those who put do not wait for each other's.
	record := encode(m)
	size := cost(len(record))
	s.mu.Lock()
	defer s.mu.Unlock()
	err := checkClient(client)
	switch {
	case s.closed:
		err = ErrClosed
	case err != nil:
	case size > s.o.MaxBytes || len(record) > bbolt.MaxValueSize:
		err = ErrTooLarge
	case s.totals.Bytes+s.pending()+size > s.o.MaxTotal:
		err = ErrFull
	case s.full != nil:
		if since := s.o.Now().Sub(s.fullSince); since >= 0 && since < fullPause {
			err = s.full
		} else {
			s.full = nil
		}
	}
	w := s.waiting.wait(done, true, err)
	if err == nil {
		s.waiting.put(client, op{seq: m.Seq, record: record, time: m.Time.UnixNano(), waiter: w})
	}
	s.start()
}

// Delete deletes messages of a client, of what was put before. Those that are not
// there, or not any more, do no harm. The function may be nil; it is called when
// that is safe on the disk, or with the error of the commit or ErrClosed.
func (s *Store) Delete(client string, seqs []uint64, done func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.closed {
		err = ErrClosed
	}
	w := s.waiting.wait(done, false, err)
	if err == nil {
		needed := false
		for _, seq := range seqs {
			if s.waiting.delete(client, seq, s.mayBeStored(client, seq)) {
				needed = true
			}
		}
		if !needed {
			s.waiting.settle(w)
		}
	}
	s.start()
}

// mayBeStored reports whether the file may have the message, or get it by what is
// being committed. Call it with mu locked.
func (s *Store) mayBeStored(client string, seq uint64) bool {
	q, ok := s.clients[client]
	return ok && seq <= q.last || s.flight.has(client, seq)
}

func checkClient(client string) error {
	if client == "" || len(client) > bbolt.MaxKeySize {
		return ErrClient
	}
	return nil
}

// pending is how many bytes wait to be committed. Call it with mu locked.
func (s *Store) pending() int64 { return s.waiting.bytes + s.flight.bytes }

// Room waits while more than Options.MaxPending bytes wait to be committed: call
// it before Put to let the disk set the pace. It returns the error of ctx.
func (s *Store) Room(ctx context.Context) error {
	for {
		s.mu.Lock()
		if s.pending() <= s.o.MaxPending {
			s.mu.Unlock()
			return nil
		}
		if s.roomy == nil {
			s.roomy = make(chan struct{})
		}
		roomy := s.roomy
		s.mu.Unlock()
		select {
		case <-roomy:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// HasRoom reports whether Room would not wait.
func (s *Store) HasRoom() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending() <= s.o.MaxPending
}

// Sync waits until everything that was queued before is committed or has failed,
// and the functions have been called that want to know it. It returns the error of
// ctx.
func (s *Store) Sync(ctx context.Context) error {
	done := make(chan struct{})
	s.mu.Lock()
	s.waiting.after = append(s.waiting.after, func(error) { close(done) })
	s.start()
	s.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Last returns the highest Seq of the messages that the client has or that wait to
// be committed, and whether there is one.
func (s *Store) Last(client string) (seq uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q, has := s.clients[client]; has {
		seq, ok = q.last, true
	}
	for _, g := range []*group{s.flight, s.waiting} {
		if last, has := g.last(client); has {
			seq, ok = max(seq, last), true
		}
	}
	return seq, ok
}

// Clients returns the clients that have messages committed, sorted.
func (s *Store) Clients() []string {
	s.mu.Lock()
	clients := slices.Collect(maps.Keys(s.clients))
	s.mu.Unlock()
	slices.Sort(clients)
	return clients
}

// Totals returns what all clients have committed, and the counters.
func (s *Store) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.totals
}

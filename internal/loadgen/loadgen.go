// Package loadgen loads a cross_comm server with clients of its own, which do
// as little as can be, and measures what becomes of their messages. Each one is
// checked to arrive once, unchanged and in order.
package loadgen

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"
)

// Config says how to load which server.
type Config struct {
	URL string // of the server, "ws://HOST:PORT/" or "wss://HOST:PORT/"
	// Dial opens the connections, if not nil, in place of a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// TLS is for wss:// URLs. If it is nil the system's roots are trusted.
	TLS *tls.Config
	// Token is shown to the server, if it is not empty.
	Token string
	// Compress has all messages compressed, which the server must agree to:
	// permessage-deflate without context takeover. The time that it takes here
	// is in the latency.
	Compress bool
	// Name begins the ids of the clients, and must tell runs at one server apart: with
	// receipts what a sender of the same id has sent is not relayed again.
	Name string

	Clients  int           // receivers; of PairLoad, each has a sender of its own
	Size     int           // of a message on the wire, in bytes, if it is not compressed, without the headers that ask for a receipt
	InFlight int           // messages of a sender that may be under way
	WarmUp   time.Duration // before it is measured
	Duration time.Duration // that is measured
	Settle   time.Duration // for what is under way at the end to arrive; 10 s if zero

	// Receipts is the stage of which senders want a receipt for each message: accepted,
	// written or handled; "" for none. PairLoad can have all of them, QueueLoad that
	// of accepted, and the others none.
	Receipts string
	Messages int  // that QueueLoad sends, in all
	Drain    bool // whether QueueLoad has the messages fetched then

	PID int // of the server, for its processor time and memory; 0 for neither
}

// Result is what a run has measured.
type Result struct {
	Clients   int           // that were connected
	Sent      uint64        // messages
	Delivered uint64        // to clients, of these
	Elapsed   time.Duration // of the measured time
	Latency   Latency       // of the deliveries, if there were any
	LoginTime time.Duration // until all had logged in
	Receipts  uint64        // that have come, in the whole run
	Drained   *Drained      // nil unless that was wanted
	Server    *ServerUse    // nil if nothing is known of its process
}

// ServerUse is what the server's process has used.
type ServerUse struct {
	LoginCPU time.Duration // processor time for all logins
	CPU      time.Duration // processor time in the measured time
	Memory   int64         // by which it has grown until all had logged in, in bytes
	Growth   int64         // by which it has grown further until the end of the measured time, in bytes
	// Anonymous is the part of Growth that is no file's: what the system cannot take
	// back. It is 0 where that is not known.
	Anonymous int64
}

// Drained is how the messages of QueueLoad have come to whom they were for.
type Drained struct {
	Delivered uint64
	Elapsed   time.Duration // from the first login
	CPU       time.Duration // processor time of the server; 0 if it is not known
}

// Latency is how long deliveries have taken: from before the write of the
// sender until after the read of the receiver.
type Latency struct{ Median, P90, P99, Max time.Duration }

// fleet are the clients of a run.
type fleet struct {
	cfg     Config
	conns   []*conn
	process *process // nil if it is not known

	loggedIn usage // of the process, when all had logged in

	mu     sync.Mutex
	failed error // the first
	stop   context.CancelFunc
}

// fail ends the run.
func (f *fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed == nil {
		f.failed = err
	}
	f.stop()
}

func (f *fleet) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// loginsAtOnce is how many clients connect at a time.
const loginsAtOnce = 32

// newFleet connects n clients, and notes in the result what that has cost.
func newFleet(ctx context.Context, cfg Config, n int, result *Result) (*fleet, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	f := &fleet{cfg: cfg, conns: make([]*conn, n), stop: func() {}}
	result.Clients = n
	if cfg.PID != 0 {
		var err error
		if f.process, err = openProcess(cfg.PID); err != nil {
			return nil, err
		}
	}
	before := f.process.usage()
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(loginsAtOnce, n) {
		workers.Go(func() {
			for i := range next {
				c, err := connect(ctx, cfg, cfg.clientID(i), nil)
				if err != nil {
					cancel(fmt.Errorf("client %d of %d: %w", i+1, n, err))
					continue
				}
				f.conns[i] = c
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		f.close()
		return nil, err
	}
	result.LoginTime = time.Since(began)
	if f.process != nil {
		after := f.process.usage()
		f.loggedIn = after
		result.Server = &ServerUse{LoginCPU: after.cpu - before.cpu, Memory: after.memory - before.memory}
	}
	return f, nil
}

func (f *fleet) close() {
	for _, c := range f.conns {
		if c != nil {
			c.Close()
		}
	}
}

// measure waits for the warm-up, then for the measured time, and then until all
// that is under way has arrived, for which the function settle ends the sending
// and waits.
func (f *fleet) measure(ctx context.Context, result *Result, count func() (sent, delivered uint64), reset, settle func()) error {
	if err := f.wait(ctx, f.cfg.WarmUp); err != nil {
		return err
	}
	reset()
	before := f.process.usage()
	sent, delivered := count()
	began := time.Now()
	if err := f.wait(ctx, f.cfg.Duration); err != nil {
		return err
	}
	result.Elapsed = time.Since(began)
	sentNow, deliveredNow := count()
	result.Sent, result.Delivered = sentNow-sent, deliveredNow-delivered
	if f.process != nil {
		result.Server.grown(before, f.loggedIn, f.process.usage())
	}
	settle()
	return f.err()
}

// grown notes what was used in the measured time, and by how much more memory there is
// than when all had logged in.
func (s *ServerUse) grown(before, loggedIn, after usage) {
	s.CPU, s.Growth, s.Anonymous = after.cpu-before.cpu, after.memory-loggedIn.memory, after.anonymous-loggedIn.anonymous
}

// wait waits for d, or for the end of the run, of which it tells why.
func (f *fleet) wait(ctx context.Context, d time.Duration) error {
	err := wait(ctx, d)
	return cmp.Or(f.err(), err)
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

package loadgen

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// settleTime is how long what is under way has to arrive at the end.
const settleTime = 10 * time.Second

// PairLoad has each client get messages from a sender of its own.
func PairLoad(ctx context.Context, cfg Config) (Result, error) {
	var result Result
	f, err := newFleet(ctx, cfg, 2*cfg.Clients, &result)
	if err != nil {
		return result, err
	}
	pairs := make([]*flow, cfg.Clients)
	for i := range pairs {
		sender, receiver := f.conns[2*i], f.conns[2*i+1]
		pairs[i] = newFlow(f, sender, receiver.id, receiver)
	}
	return result, f.run(ctx, &result, pairs)
}

// FanOutLoad has one sender send to all, which the clients get.
func FanOutLoad(ctx context.Context, cfg Config) (Result, error) {
	var result Result
	f, err := newFleet(ctx, cfg, cfg.Clients+1, &result)
	if err != nil {
		return result, err
	}
	all := newFlow(f, f.conns[0], "all", f.conns[1:]...)
	return result, f.run(ctx, &result, []*flow{all})
}

// IdleLoad has clients that do nothing.
func IdleLoad(ctx context.Context, cfg Config) (Result, error) {
	var result Result
	f, err := newFleet(ctx, cfg, cfg.Clients, &result)
	if err != nil {
		return result, err
	}
	return result, f.run(ctx, &result, nil)
}

// flow is the messages of one sender, of which so many may be under way. Who
// notes that some have arrived writes as many new ones: a goroutine that only
// sends would be woken for each.
type flow struct {
	fleet     *fleet
	sender    *conn
	receivers []*conn
	checkers  []*checker
	latency   *histogram

	// arrived counts the receivers of each message that is under way, by its
	// number.
	arrived []atomic.Int32

	mu      sync.Mutex
	series  *series
	out     []byte
	stopped bool
	left    int           // messages under way
	drained chan struct{} // closed when that is 0 after stopped

	sent, delivered atomic.Uint64
}

func newFlow(f *fleet, sender *conn, to string, receivers ...*conn) *flow {
	s := newSeries(sender.id, to, f.cfg.Size, f.cfg.Compress)
	w := &flow{fleet: f, sender: sender, receivers: receivers, series: s, latency: new(histogram), drained: make(chan struct{}), arrived: make([]atomic.Int32, f.cfg.InFlight)}
	for range receivers {
		w.checkers = append(w.checkers, s.checker())
	}
	return w
}

// send sends n messages, unless it is to end.
func (w *flow) send(n int, arrived int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left -= arrived
	if w.stopped {
		if w.left == 0 {
			close(w.drained)
			w.left = -1 // once
		}
		return nil
	}
	w.out = w.out[:0]
	for range n {
		w.out = w.series.append(w.out)
	}
	w.left += n
	w.sent.Add(uint64(n))
	_, err := w.sender.Write(w.out)
	return err
}

// receive reads until the connection ends.
func (w *flow) receive(i int) error {
	for {
		whole := 0 // messages that have arrived everywhere
		n, err := w.receivers[i].read(func(text []byte) error {
			number := w.checkers[i].next
			took, err := w.checkers[i].check(text)
			if err != nil {
				return fmt.Errorf("from %s to %s: %w", w.sender.id, w.receivers[i].id, err)
			}
			w.latency.add(took)
			counter := &w.arrived[number%uint64(len(w.arrived))]
			if counter.Add(1) == int32(len(w.receivers)) {
				counter.Store(0)
				whole++
			}
			return nil
		})
		w.delivered.Add(uint64(n))
		if err == nil && whole > 0 {
			err = w.send(whole, whole)
		}
		if err != nil {
			return err
		}
	}
}

// stop ends the sending.
func (w *flow) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.left == 0 {
		close(w.drained)
	}
}

// drain waits until all has arrived after stop.
func (w *flow) drain() error {
	select {
	case <-w.drained:
		return nil
	case <-time.After(settleTime):
		w.mu.Lock()
		defer w.mu.Unlock()
		return fmt.Errorf("%d messages of %s have not arrived everywhere within %v", w.left, w.sender.id, settleTime)
	}
}

// heartbeatEvery is half of what servers expect.
const heartbeatEvery = 15 * time.Second

// run loads the server until the time is over.
func (f *fleet) run(ctx context.Context, result *Result, flows []*flow) error {
	ctx, f.stop = context.WithCancel(ctx)
	defer f.stop()
	ended := make(chan struct{})
	var running sync.WaitGroup
	read := func(c *conn, receive func() error) {
		running.Go(func() {
			if err := receive(); err != nil {
				select {
				case <-ended:
				default:
					f.fail(fmt.Errorf("client %s: %w", c.id, err))
				}
			}
		})
	}
	receiving := map[*conn]bool{}
	for _, w := range flows {
		for i, c := range w.receivers {
			receiving[c] = true
			read(c, func() error { return w.receive(i) })
		}
	}
	for _, c := range f.conns {
		if !receiving[c] {
			read(c, func() error {
				for {
					if _, err := c.read(func([]byte) error { return nil }); err != nil {
						return err
					}
				}
			})
		}
	}
	running.Go(func() { f.beat(ctx, flows) })
	for _, w := range flows {
		if err := w.send(f.cfg.InFlight, 0); err != nil {
			f.fail(err)
		}
	}
	err := f.measure(ctx, result, func() (sent, delivered uint64) {
		for _, w := range flows {
			sent, delivered = sent+w.sent.Load(), delivered+w.delivered.Load()
		}
		return sent, delivered
	}, func() {
		for _, w := range flows {
			w.latency.reset()
		}
	}, func() {
		result.Latency = latencyOf(flows)
		for _, w := range flows {
			w.stop() // all, before one is waited for
		}
		for _, w := range flows {
			if err := w.drain(); err != nil {
				f.fail(err)
			}
		}
	})
	f.stop()
	close(ended)
	f.close()
	running.Wait()
	return err
}

// beat sends heartbeats of the clients that send nothing else until ctx ends.
func (f *fleet) beat(ctx context.Context, flows []*flow) {
	sending := map[*conn]bool{}
	for _, w := range flows {
		sending[w.sender] = true
	}
	for wait(ctx, heartbeatEvery) == nil {
		for _, c := range f.conns {
			if sending[c] {
				continue
			}
			if err := c.write(message(c.id, "server", "heartbeat", "{}")); err != nil {
				f.fail(err)
				return
			}
		}
	}
}

func latencyOf(flows []*flow) Latency {
	var all histogram
	for _, w := range flows {
		for i := range w.latency.counts {
			all.counts[i].Add(w.latency.counts[i].Load())
		}
		all.max.Store(max(all.max.Load(), w.latency.max.Load()))
	}
	return all.latency()
}

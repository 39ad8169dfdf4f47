package loadgen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

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

// errNoReceipts is for loads that have none.
var errNoReceipts = errors.New("with this load there are no receipts")

// FanOutLoad has one sender send to all, which the clients get.
func FanOutLoad(ctx context.Context, cfg Config) (Result, error) {
	var result Result
	if cfg.Receipts != "" {
		return result, errNoReceipts
	}
	f, err := newFleet(ctx, cfg, cfg.Clients+1, &result)
	if err != nil {
		return result, err
	}
	all := newFlow(f, f.conns[0], "all", f.conns[1:]...)
	return result, f.run(ctx, &result, []*flow{all})
}

// IdleLoad has clients that do nothing but send heartbeats, after one of them has
// sent one message to all: what that leaves behind is growth.
func IdleLoad(ctx context.Context, cfg Config) (Result, error) {
	var result Result
	if cfg.Receipts != "" {
		return result, errNoReceipts
	}
	f, err := newFleet(ctx, cfg, cfg.Clients, &result)
	if err != nil {
		return result, err
	}
	if cfg.Clients == 1 {
		return result, f.run(ctx, &result, nil)
	}
	all := newFlow(f, f.conns[0], "all", f.conns[1:]...)
	all.once = true
	return result, f.run(ctx, &result, []*flow{all})
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
	once      bool // whether one message is all, before it is measured

	// arrived counts the receivers of each message that is under way, by its
	// number.
	arrived []atomic.Int32

	// With receipts there is one receiver. A message is under way until it has
	// arrived, also if its receipt has not: these come in their own time.
	reports *reports

	mu      sync.Mutex
	series  *series
	ledger  *ledger // of the receipts; nil for none
	out     []byte
	stopped bool
	due     int           // messages that are to be sent, as soon as receipts allow it
	left    int           // messages under way
	drained chan struct{} // closed when that is 0 after stopped, and no receipt is missing
	ended   bool          // whether it is closed

	sent, delivered atomic.Uint64
}

func newFlow(f *fleet, sender *conn, to string, receivers ...*conn) *flow {
	s := newSeries(sender.id, to, f.cfg.Size, f.cfg.Compress, f.cfg.Receipts)
	w := &flow{fleet: f, sender: sender, receivers: receivers, series: s, latency: new(histogram), drained: make(chan struct{}), arrived: make([]atomic.Int32, f.cfg.InFlight)}
	for range receivers {
		w.checkers = append(w.checkers, s.checker())
	}
	if f.cfg.Receipts != "" {
		w.ledger, w.reports = newLedger(f.cfg.Receipts), &reports{conn: receivers[0]}
	}
	return w
}

// send sends n messages, unless it is to end, when so many have arrived.
func (w *flow) send(n int, arrived int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left -= arrived
	w.due += n
	return w.advance()
}

// advance sends what is due, or ends the flow if that is wanted; with mu held.
func (w *flow) advance() error {
	if w.stopped {
		if w.left == 0 && w.ledger.isComplete() && !w.ended {
			w.ended = true
			close(w.drained)
		}
		return nil
	}
	n := w.ledger.limit(w.due)
	if n == 0 {
		return nil
	}
	w.due -= n
	w.out = w.out[:0]
	for range n {
		w.out = w.series.append(w.out)
	}
	w.ledger.sent(n)
	w.left += n
	w.sent.Add(uint64(n))
	_, err := w.sender.Write(w.out)
	return err
}

// readReceipts reads what comes to the sender until its connection ends.
func (w *flow) readReceipts() error {
	for {
		_, err := w.sender.read(func(text []byte) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if _, err := w.ledger.read(text); err != nil {
				return err
			}
			return w.advance()
		})
		if err != nil {
			return err
		}
	}
}

// receive reads until the connection ends.
func (w *flow) receive(i int) error {
	defer w.reports.close()
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
		w.reports.arrived(n)
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
	_ = w.advance() // which sends no more
}

// settleTime is how long what is under way has to arrive.
func (f *fleet) settleTime() time.Duration { return cmp.Or(f.cfg.Settle, 10*time.Second) }

// settle ends the flows, and waits until all that is under way has arrived, or the
// run fails.
func (f *fleet) settle(ctx context.Context, flows []*flow) {
	for _, w := range flows {
		w.stop() // all, before one is waited for
	}
	within := f.settleTime()
	over := time.NewTimer(within)
	defer over.Stop()
	for _, w := range flows {
		select {
		case <-w.drained:
		case <-ctx.Done():
			f.fail(context.Cause(ctx))
			return
		case <-over.C:
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.left > 0 {
				f.fail(fmt.Errorf("%d messages of %s have not arrived everywhere within %v", w.left, w.sender.id, within))
			} else {
				f.fail(fmt.Errorf("%d messages of %s have no receipt within %v", w.ledger.missing(), w.sender.id, within))
			}
			return
		}
	}
}

// heartbeatEvery is half of what servers expect.
const heartbeatEvery = 15 * time.Second

// run loads the server until the time is over.
func (f *fleet) run(ctx context.Context, result *Result, flows []*flow) error {
	ctx, f.stop = context.WithCancel(ctx)
	defer f.stop()
	defer context.AfterFunc(ctx, f.close)() // whoever waits for a socket
	within := f.settleTime()
	stuck := time.AfterFunc(f.cfg.WarmUp+f.cfg.Duration+3*within, func() {
		f.fail(errors.New("the server does not take what is sent to it"))
	})
	defer stuck.Stop()
	ended := make(chan struct{})
	var running sync.WaitGroup
	begin := func(c *conn, work func() error) {
		running.Go(func() {
			if err := work(); err != nil {
				select {
				case <-ended:
				case <-ctx.Done():
					f.fail(context.Cause(ctx))
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
			begin(c, func() error { return w.receive(i) })
		}
		if w.ledger != nil {
			receiving[w.sender] = true
			begin(w.sender, w.readReceipts)
		}
	}
	for _, c := range f.conns {
		if !receiving[c] {
			begin(c, func() error {
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
		n := f.cfg.InFlight
		if w.once {
			n = 1
		}
		if err := w.send(n, 0); err != nil {
			f.fail(cmp.Or(context.Cause(ctx), err))
		}
		if w.once {
			f.settle(ctx, []*flow{w})
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
		f.settle(ctx, flows)
	})
	close(ended)
	f.stop()
	f.close()
	running.Wait()
	for _, w := range flows {
		result.Receipts += w.ledger.count()
	}
	return err
}

// beat sends heartbeats of the clients that send nothing else until ctx ends.
func (f *fleet) beat(ctx context.Context, flows []*flow) {
	sending := map[*conn]bool{}
	for _, w := range flows {
		sending[w.sender] = !w.once
	}
	for wait(ctx, heartbeatEvery) == nil {
		for _, c := range f.conns {
			if sending[c] {
				continue
			}
			if err := c.write(message(plainID, c.id, "server", "heartbeat", "{}")); err != nil {
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

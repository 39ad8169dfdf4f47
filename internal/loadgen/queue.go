package loadgen

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// QueueLoad has each of Config.Clients senders send its share of Config.Messages to a
// client of its own that has logged in and out before. It ends when the server has
// taken all: with receipts when it has told so of each, and without when it has brought
// each sender a message to itself that came last. With Config.Drain those clients
// log in then, and get them.
func QueueLoad(ctx context.Context, cfg Config) (Result, error) {
	var result Result
	if err := cfg.ValidateQueue(); err != nil {
		return result, err
	}
	away := cfg
	away.Name += "_away"
	if err := logOutAll(ctx, away); err != nil {
		return result, err
	}
	f, err := newFleet(ctx, cfg, cfg.Clients, &result)
	if err != nil {
		return result, err
	}
	defer f.close()
	queues := make([]*queue, cfg.Clients)
	for i, c := range f.conns {
		queues[i] = newQueue(&cfg, c, away.clientID(i), cfg.share(i))
	}
	before, began := f.process.usage(), time.Now()
	if err := f.all(ctx, func(i int) error { return queues[i].fill() }); err != nil {
		return result, err
	}
	result.Elapsed, result.Sent = time.Since(began), uint64(cfg.Messages)
	for _, q := range queues {
		result.Receipts += q.ledger.count()
	}
	if f.process != nil {
		result.Server.grown(before, f.loggedIn, f.process.usage())
	}
	if !cfg.Drain {
		return result, nil
	}
	result.Drained = new(Drained)
	before, began = f.process.usage(), time.Now()
	var drained atomic.Uint64
	err = f.all(ctx, func(i int) error {
		n, err := queues[i].drain(ctx, away, away.clientID(i))
		drained.Add(n)
		return err
	})
	result.Drained.Elapsed, result.Drained.Delivered = time.Since(began), drained.Load()
	result.Drained.CPU = f.process.usage().cpu - before.cpu
	return result, err
}

// share is how many of the messages one of the senders sends.
func (c Config) share(i int) uint64 {
	n := c.Messages / c.Clients
	if i < c.Messages%c.Clients {
		n++
	}
	return uint64(n)
}

// logOutAll has the clients log in and out, so that they are known and away.
func logOutAll(ctx context.Context, cfg Config) error {
	cfg.PID = 0
	f, err := newFleet(ctx, cfg, cfg.Clients, new(Result))
	if err != nil {
		return err
	}
	defer f.close()
	return f.all(ctx, func(i int) error {
		c := f.conns[i]
		if err := c.write(message(plainID, c.id, "server", "logout", "{}")); err != nil {
			return err
		}
		// The answer says that what was before the ping has been handled.
		if _, err := c.Write(wsframe.AppendUnmasked(nil, wsframe.OpPing, nil)); err != nil {
			return err
		}
		for !c.ponged {
			if _, err := c.read(func([]byte) error { return nil }); err != nil {
				return fmt.Errorf("logout: %w", err)
			}
		}
		return nil
	})
}

// all calls the function with the number of each client at the same time, and returns
// the first error. All connections are closed with the context, or if one is stuck.
func (f *fleet) all(ctx context.Context, work func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, f.close)()
	var running sync.WaitGroup
	for i, c := range f.conns {
		running.Go(func() {
			if err := work(i); err != nil {
				cancel(fmt.Errorf("client %s: %w", c.id, err))
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// queue is what one sender sends to a client that is away.
type queue struct {
	cfg    *Config
	sender *conn
	series *series
	ledger *ledger // nil for no receipts
	left   uint64  // messages that are to be sent yet
	out    []byte
}

func newQueue(cfg *Config, sender *conn, to string, messages uint64) *queue {
	q := &queue{cfg: cfg, sender: sender, series: newSeries(sender.id, to, cfg.Size, cfg.Compress, cfg.Receipts), left: messages}
	if cfg.Receipts != "" {
		q.ledger = newLedger(cfg.Receipts)
	}
	return q
}

// send sends so many messages, or as many as are left.
func (q *queue) send(n int) error {
	n = int(min(uint64(n), q.left))
	q.out = q.out[:0]
	for range n {
		q.out = q.series.append(q.out)
	}
	q.left -= uint64(n)
	q.ledger.sent(n)
	if q.ledger == nil { // then this one comes back
		q.out = q.sender.appendText(q.out, textMessage(q.sender.id, q.sender.id, "echo", ""))
	}
	_, err := q.sender.Write(q.out)
	return err
}

// progressTime is how long a server may be silent that has something to do.
const progressTime = time.Minute

// fill sends all, and returns when the server has taken them.
func (q *queue) fill() error {
	if err := q.send(q.cfg.InFlight); err != nil {
		return err
	}
	for done := false; !done; {
		free := 0 // places for further messages
		_ = q.sender.SetReadDeadline(time.Now().Add(progressTime))
		_, err := q.sender.read(func(text []byte) error {
			if q.ledger == nil {
				free = q.cfg.InFlight // the text has come back
				done = q.left == 0
				return nil
			}
			n, err := q.ledger.read(text)
			free += n
			done = q.left == 0 && q.ledger.isComplete()
			return err
		})
		if err == nil && free > 0 && q.left > 0 {
			err = q.send(free)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errSurplus says that more has come than was sent.
var errSurplus = errors.New("more messages have come than were sent")

// drain logs the client in to which all was sent, and returns when all that has come,
// and how much that is.
func (q *queue) drain(ctx context.Context, cfg Config, id string) (n uint64, err error) {
	ch := q.series.checker()
	check := func(text []byte) error {
		if ch.next == q.series.next {
			return errSurplus
		}
		_, err := ch.check(text)
		return err
	}
	c, err := connect(ctx, cfg, id, check)
	if err != nil {
		return ch.next, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	var r *reports
	if cfg.Receipts != "" {
		r = &reports{conn: c}
		r.arrived(int(ch.next))
		defer r.close()
	}
	for ch.next < q.series.next {
		_ = c.SetReadDeadline(time.Now().Add(progressTime))
		n, err := c.read(check)
		r.arrived(n)
		if err != nil {
			return ch.next, err
		}
	}
	return ch.next, nil
}

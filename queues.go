package crosscomm

import (
	"fmt"
	"time"
)

// Queues are the messages that a server keeps for clients that are away, in its
// [Config.DataDir]; without one it keeps none. What is sent to such a client alone
// waits there, whoever has sent it and whatever the client speaks, and comes to it in
// order, before anything newer, when it logs in again. What a client has not been shown to
// have got is sent again; see [Service.Deliver] for what that means. Known are the
// clients that have logged in once, as far as the server remembers them
// ([Limits.KnownClients]). The zero value of a field means its default.
type Queues struct {
	// Off keeps no messages: whoever is away misses what is sent to it.
	Off bool
	// MaxAge is how long a message waits: 7 days if zero. Then it is dropped.
	MaxAge time.Duration
	// MaxMessages and MaxBytes bound what waits for one client: 100,000 messages, and
	// 64 MiB, if zero. The oldest are dropped for newer ones.
	MaxMessages int
	MaxBytes    int64
	// MaxTotalBytes bounds what waits for all of them: 4 GiB if zero. Then nothing
	// more is taken ([ErrQueueFull]).
	MaxTotalBytes int64
	// Broadcasts has messages to all wait, too, for each client that is known and away.
	Broadcasts bool
	// Unread keeps messages for clients that are there, too, until they show that they
	// have read them, and sends them again when they log in anew. Without it, what is
	// on its way to a client whose connection is lost, which nobody may notice for as
	// long as [Config.HeartbeatTimeout], is lost with it, unless its sender waits for a
	// [Stage]. It takes 2 to 2.5 times the processor time for each message, as receipts do; but to
	// disk goes what is not read within 20 ms, or is more than a receiver is sent ahead,
	// and for receivers of the original's wire at full load that is nearly all: 40 times. A client of this package still handles each
	// message once; one that speaks only the original's wire may get some again.
	// Messages to [All] are not kept so.
	Unread bool
	// Clients are ids of clients that count as known, although they may never have
	// logged in.
	Clients []string
}

func (q Queues) withDefaults() Queues {
	fill(&q.MaxAge, 7*24*time.Hour)
	fill(&q.MaxMessages, 100_000)
	fill(&q.MaxBytes, 64<<20)
	fill(&q.MaxTotalBytes, 4<<30)
	return q
}

// isZero reports whether nothing is set.
func (q Queues) isZero() bool {
	return !q.Off && q.MaxAge == 0 && q.MaxMessages == 0 && q.MaxBytes == 0 && q.MaxTotalBytes == 0 && !q.Broadcasts && !q.Unread && q.Clients == nil
}

// check says which field makes no sense.
func (q Queues) check() error {
	for name, n := range map[string]int64{
		"MaxAge": int64(q.MaxAge), "MaxMessages": int64(q.MaxMessages), "MaxBytes": q.MaxBytes, "MaxTotalBytes": q.MaxTotalBytes,
	} {
		if n < 0 {
			return fmt.Errorf("%s is negative", name)
		}
	}
	for _, id := range q.Clients {
		if err := checkID(id); err != nil {
			return fmt.Errorf("Clients: %w", err)
		}
	}
	return nil
}

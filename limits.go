package crosscomm

import (
	"fmt"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// Limits bound what a server grants to those who connect to it, be they careless
// or hostile. The zero value of a field means its default. What exceeds a limit is
// refused with a reason that its sender is told where the protocol has a way to,
// counted in [Stats], and logged, a few lines a second at most.
type Limits struct {
	// Connections is how many clients may be connected at a time: 20,000 if zero.
	// A further one is answered with 503. Under StartServer and Serve it bounds
	// the network connections, too, of which there may be twice as many: some are
	// no WebSockets yet, or carry files. A further one of these is cut.
	Connections int
	// ConnectionsPerAddress is the same for those that come from one address (of
	// IPv6: one network of 64 bits): 1,000 if zero. The answer is 429. The
	// addresses of this machine itself (127.0.0.1), and of the
	// [Config.TrustedProxies], are exempt.
	ConnectionsPerAddress int
	// FailedLoginsPerMinute is how often those of one address may fail for what they
	// show, or do not: a token, a certificate, what Config.Authorize wants; 10 if
	// zero. Further handshakes from there are answered with 429, whatever they bring.
	FailedLoginsPerMinute int
	// LoginTimeout is how long a connection may take, after its handshake, until
	// it logs in: 10 s if zero. Then it is closed with [CloseLoginTimeout].
	LoginTimeout time.Duration
	// HeaderTimeout is how long the headers of a request, or the handshake of TLS,
	// may take under StartServer and Serve: 10 s if zero.
	HeaderTimeout time.Duration

	// MessagesPerSecond and BytesPerSecond are how much a server takes from one
	// client: 100,000 messages and 64 MiB if zero, with as much again at once after
	// a pause. From a client that sends more nothing is lost: it is read more
	// slowly. A request for the list of clients, or to watch them, counts for as
	// many messages as the list is long.
	MessagesPerSecond, BytesPerSecond int
	// QueuedBytes bounds what is held for one client that reads more slowly than
	// others send to it: 16 MiB if zero. A client that falls behind further is
	// sent what is queued, if it still takes that, and then closed with
	// [CloseTooSlow].
	QueuedBytes int
	// TotalQueuedBytes bounds the same for all clients together: 256 MiB if zero.
	// The less of it is left, the less a client may have: never more than what is
	// left. So those that do not read are closed the sooner, the more they are, and
	// those that do never lack room.
	TotalQueuedBytes int

	// KnownClients is how many clients a server remembers: 100,000 if zero. Then those
	// are forgotten that have been offline for longest.
	KnownClients int
	// IDLength is how many bytes the id of a client may have: 256 if zero, which
	// is the most.
	IDLength int
	// Nesting is how deeply a message's arrays and objects may nest, the message
	// itself included: 900 if zero, which is the most: Python and Java read hardly
	// more.
	Nesting int
}

func (l Limits) withDefaults() Limits {
	fill(&l.Connections, 20_000)
	fill(&l.ConnectionsPerAddress, 1_000)
	fill(&l.FailedLoginsPerMinute, 10)
	fill(&l.LoginTimeout, 10*time.Second)
	fill(&l.HeaderTimeout, 10*time.Second)
	fill(&l.MessagesPerSecond, 100_000)
	fill(&l.BytesPerSecond, 64<<20)
	fill(&l.QueuedBytes, 16<<20)
	fill(&l.TotalQueuedBytes, 256<<20)
	fill(&l.KnownClients, 100_000)
	fill(&l.IDLength, maxIDLen)
	fill(&l.Nesting, frame.MaxDepth)
	return l
}

// check says which limit makes no sense.
func (l Limits) check() error {
	for name, n := range map[string]int64{
		"Connections":           int64(l.Connections),
		"ConnectionsPerAddress": int64(l.ConnectionsPerAddress),
		"FailedLoginsPerMinute": int64(l.FailedLoginsPerMinute),
		"LoginTimeout":          int64(l.LoginTimeout),
		"HeaderTimeout":         int64(l.HeaderTimeout),
		"MessagesPerSecond":     int64(l.MessagesPerSecond),
		"BytesPerSecond":        int64(l.BytesPerSecond),
		"QueuedBytes":           int64(l.QueuedBytes),
		"TotalQueuedBytes":      int64(l.TotalQueuedBytes),
		"KnownClients":          int64(l.KnownClients),
		"IDLength":              int64(l.IDLength),
		"Nesting":               int64(l.Nesting),
	} {
		if n < 0 {
			return fmt.Errorf("%s is negative", name)
		}
	}
	for name, n := range map[string][2]int{"IDLength": {l.IDLength, maxIDLen}, "Nesting": {l.Nesting, frame.MaxDepth}} {
		if n[0] > n[1] {
			return fmt.Errorf("%s is %d; it must be at most %d", name, n[0], n[1])
		}
	}
	return nil
}

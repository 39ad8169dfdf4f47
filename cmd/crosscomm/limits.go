package main

import (
	"math"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

// limitFlags are what one client may take, and all together.
type limitFlags struct {
	MaxMessageSize           size    `help:"How large a message may be." default:"1MiB" group:"Limits:" placeholder:"SIZE"`
	MaxConnections           int     `help:"How many clients may be connected." default:"20000" group:"Limits:" placeholder:"N"`
	MaxConnectionsPerAddress int     `help:"The same for one address." default:"1000" group:"Limits:" placeholder:"N"`
	MaxFailedLogins          int     `help:"How often in a minute those of one address may fail to log in." default:"10" group:"Limits:" placeholder:"N"`
	LoginTimeout             seconds `help:"How long a connection may take to log in." default:"10s" group:"Limits:" placeholder:"DURATION"`
	HeaderTimeout            seconds `help:"How long the headers of a request may take, and a TLS handshake." default:"10s" group:"Limits:" placeholder:"DURATION"`
	MaxMessagesPerSecond     int     `help:"What one client may send; more is read more slowly." default:"100000" group:"Limits:" placeholder:"N"`
	MaxBytesPerSecond        size    `help:"The same in bytes." default:"64MiB" group:"Limits:" placeholder:"SIZE"`
	MaxQueued                size    `help:"How much may wait for one client that reads too slowly, before it is disconnected." default:"16MiB" group:"Limits:" placeholder:"SIZE"`
	MaxQueuedInAll           size    `help:"The same for all of them together." default:"256MiB" group:"Limits:" placeholder:"SIZE"`
	MaxClients               int     `help:"How many clients are remembered." default:"100000" group:"Limits:" placeholder:"N"`
	MaxIDLength              int     `name:"max-id-length" help:"How many bytes an id may have; 256 at most." default:"256" group:"Limits:" placeholder:"N"`
	MaxNesting               int     `help:"How deeply JSON may nest; 900 at most." default:"900" group:"Limits:" placeholder:"N"`
}

// apply puts them into the configuration.
func (f limitFlags) apply(cfg *crosscomm.Config) error {
	for _, flag := range []struct {
		name string
		n    int
	}{
		{"--max-connections", f.MaxConnections}, {"--max-connections-per-address", f.MaxConnectionsPerAddress},
		{"--max-failed-logins", f.MaxFailedLogins}, {"--max-messages-per-second", f.MaxMessagesPerSecond},
		{"--max-clients", f.MaxClients}, {"--max-id-length", f.MaxIDLength}, {"--max-nesting", f.MaxNesting},
	} {
		if flag.n < 1 {
			return usageError{flag.name + " must be at least 1"}
		}
	}
	cfg.MaxMessageSize = f.MaxMessageSize.int()
	cfg.Limits = crosscomm.Limits{
		Connections:           f.MaxConnections,
		ConnectionsPerAddress: f.MaxConnectionsPerAddress,
		FailedLoginsPerMinute: f.MaxFailedLogins,
		LoginTimeout:          time.Duration(f.LoginTimeout),
		HeaderTimeout:         time.Duration(f.HeaderTimeout),
		MessagesPerSecond:     f.MaxMessagesPerSecond,
		BytesPerSecond:        f.MaxBytesPerSecond.int(),
		QueuedBytes:           f.MaxQueued.int(),
		TotalQueuedBytes:      f.MaxQueuedInAll.int(),
		KnownClients:          f.MaxClients,
		IDLength:              f.MaxIDLength,
		Nesting:               f.MaxNesting,
	}
	return nil
}

// int returns the size, or the greatest int if that is less.
func (s size) int() int { return int(min(int64(s), math.MaxInt)) }

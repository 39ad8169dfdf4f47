package main

import (
	"math"
	"net/netip"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

// accessFlags say who may speak.
type accessFlags struct {
	Token        crosscomm.Token `help:"What every client must show, whatever its id; random, 20 characters or more. In CROSSCOMM_TOKEN in the environment other users of this machine do not see it." env:"CROSSCOMM_TOKEN" group:"Who may connect:" placeholder:"TOKEN"`
	Tokens       string          `help:"File with a line for each client: its id (* for any) and its token. It is read again when it changes." type:"path" group:"Who may connect:" placeholder:"FILE"`
	Origin       []string        `help:"A web page that may connect from a browser, such as https://app.example.com; * for all. May be repeated." group:"Who may connect:" placeholder:"ORIGIN"`
	TrustedProxy []string        `help:"Address or network of a proxy in front of this server, which tells the clients' addresses by X-Forwarded-For. May be repeated." group:"Who may connect:" placeholder:"ADDRESS"`
}

// apply puts them into the configuration.
func (f accessFlags) apply(cfg *crosscomm.Config) error {
	cfg.Token, cfg.TokenFile, cfg.AllowedOrigins = f.Token, f.Tokens, f.Origin
	for _, text := range f.TrustedProxy {
		network, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil {
			network, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			return usageError{"--trusted-proxy is " + text + "; it must be an address such as 127.0.0.1, or a network such as 10.0.0.0/8"}
		}
		cfg.TrustedProxies = append(cfg.TrustedProxies, network)
	}
	return nil
}

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
		FailedLogins:          f.MaxFailedLogins,
		LoginTimeout:          time.Duration(f.LoginTimeout),
		HeaderTimeout:         time.Duration(f.HeaderTimeout),
		MessagesPerSecond:     f.MaxMessagesPerSecond,
		BytesPerSecond:        f.MaxBytesPerSecond.int(),
		QueuedBytes:           f.MaxQueued.int(),
		QueuedBytesInAll:      f.MaxQueuedInAll.int(),
		Clients:               f.MaxClients,
		IDLength:              f.MaxIDLength,
		Nesting:               f.MaxNesting,
	}
	return nil
}

// int returns the size, or the greatest int if that is less.
func (s size) int() int { return int(min(int64(s), math.MaxInt)) }

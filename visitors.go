package crosscomm

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// visitorAddr returns the address that a request comes from: that of the
// connection, or what trusted proxies say of where they have it from. It is the
// zero Addr if that is no IP address.
func visitorAddr(r *http.Request, proxies []netip.Prefix) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := from.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	// From the end: each proxy appends whom it has the request from, and what
	// stands before may be made up.
	for _, hop := range slices.Backward(hops) {
		if !within(proxies, addr) {
			break
		}
		hop = strings.TrimSpace(hop)
		before, err := netip.ParseAddr(hop)
		if withPort, portErr := netip.ParseAddrPort(hop); portErr == nil {
			before, err = withPort.Addr(), nil
		}
		if err != nil {
			break
		}
		addr = before.Unmap().WithZone("")
	}
	return addr
}

func within(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// addrOf returns the IP address of the other end of a connection, or the zero Addr.
func addrOf(a net.Addr) netip.Addr {
	var addr netip.Addr
	switch a := a.(type) {
	case *net.TCPAddr:
		addr = a.AddrPort().Addr()
	case *net.IPAddr: // of somebody behind a proxy
		addr, _ = netip.AddrFromSlice(a.IP)
	}
	return addr.Unmap().WithZone("")
}

// visitor is who is counted as one: an address, or, since each household has a whole
// network of IPv6, such a network.
func visitor(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		network, _ := addr.Prefix(64)
		return network.Addr()
	}
	return addr
}

// connLimiter counts connections, in all and of each address, so that none takes the
// place of others. It may be used concurrently.
type connLimiter struct {
	most, mostEach int
	proxies        []netip.Prefix // which bring others' connections

	mu   sync.Mutex
	n    int
	each map[netip.Addr]int // without those that are exempt
}

func newConnLimiter(cfg Config) *connLimiter {
	return &connLimiter{
		most: cfg.Limits.Connections, mostEach: cfg.Limits.ConnectionsPerAddress, proxies: cfg.TrustedProxies,
		each: map[netip.Addr]int{},
	}
}

// connRefusal is why a connection is one too many.
type connRefusal string

const (
	tooManyConns       connRefusal = "the server has as many connections as it may have"
	tooManyFromAddress connRefusal = "there are as many connections from this address as there may be"
)

// exempt reports whether only the number of all counts. The machine's own programs
// have other ways to harm it, and proxies bring many.
func (c *connLimiter) exempt(addr netip.Addr) bool {
	return !addr.IsValid() || addr.IsLoopback() || within(c.proxies, addr)
}

// enter counts a connection, whose leave must follow also if there is one too many:
// then it says why.
func (c *connLimiter) enter(addr netip.Addr) connRefusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	each := 0
	if !c.exempt(addr) {
		c.each[visitor(addr)]++
		each = c.each[visitor(addr)]
	}
	switch {
	case each > c.mostEach:
		return tooManyFromAddress
	case c.n > c.most:
		return tooManyConns
	}
	return ""
}

func (c *connLimiter) leave(addr netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n--
	if c.exempt(addr) {
		return
	}
	addr = visitor(addr)
	if c.each[addr]--; c.each[addr] == 0 {
		delete(c.each, addr)
	}
}

func (c *connLimiter) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// failures counts failed logins by address. It may be used concurrently.
type failures struct {
	perMinute int

	mu   sync.Mutex
	each map[netip.Addr]*rate.Limiter // a token of it is a failure that is still free
}

// mostFailing is for how many addresses failures are kept.
const mostFailing = 10_000

// note counts a failure, but for those without an address: to keep one of these out
// would be to keep out all.
func (f *failures) note(addr netip.Addr, now time.Time) {
	if !addr.IsValid() {
		return
	}
	addr = visitor(addr)
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.each[addr]
	if l == nil {
		f.makeRoom(now)
		l = rate.NewLimiter(rate.Limit(f.perMinute)/60, f.perMinute)
		f.each[addr] = l
	}
	l.AllowN(now, 1)
}

// makeRoom forgets addresses if there are too many: those with no failures within
// the last minute, and if that does not do, any, until a tenth is free: who fails from
// ever new addresses shall not have all looked through each time.
func (f *failures) makeRoom(now time.Time) {
	if f.each == nil {
		f.each = map[netip.Addr]*rate.Limiter{}
	}
	if len(f.each) < mostFailing {
		return
	}
	for addr, l := range f.each {
		if l.TokensAt(now) >= float64(f.perMinute) {
			delete(f.each, addr)
		}
	}
	for addr := range f.each {
		if len(f.each) <= mostFailing-mostFailing/10 {
			return
		}
		delete(f.each, addr)
	}
}

// tooMany reports whether no login of the address is looked at now.
func (f *failures) tooMany(addr netip.Addr, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.each[visitor(addr)]
	return l != nil && l.TokensAt(now) < 1
}

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// load is what servers are put under: the arguments of crosscomm bench.
type load struct {
	name     string
	mode     string // p2p, fanout or idle
	clients  int    // receivers; of p2p each has a sender
	size     int    // of a message, in bytes
	inFlight int    // messages of a sender that are under way
	of       int    // in growth: how many clients are meant, one or so more or less
}

// loads are those of the comparison. With one message in flight nothing can be
// joined with anything, and each costs all that a message can; with more a server
// may do better. Of 16 KiB there is one, as 1,000 receivers have 16 MiB under way
// then, which is what sockets hold anyway: copying is what is measured, not how
// long a queue may be.
var loads = []load{
	{name: "p2p-32", mode: "p2p", clients: 50, size: 256, inFlight: 32},
	{name: "p2p-1", mode: "p2p", clients: 50, size: 256, inFlight: 1},
	{name: "fanout-256-16", mode: "fanout", clients: 1000, size: 256, inFlight: 16},
	{name: "fanout-256-1", mode: "fanout", clients: 1000, size: 256, inFlight: 1},
	{name: "fanout-16k", mode: "fanout", clients: 1000, size: 16 << 10, inFlight: 1},
	{name: "idle", mode: "idle", clients: 10_000, size: 256, inFlight: 1},
}

// growthSizes are how many clients are connected, in the loads of growth.
var growthSizes = []int{100, 1000, 10_000}

// growthLoads are the same few things at three sizes.
func growthLoads() (all []load) {
	for _, l := range []load{
		{mode: "p2p", size: 256, inFlight: 1}, {mode: "fanout", size: 256, inFlight: 16}, {mode: "idle", size: 256, inFlight: 1},
	} {
		for _, n := range growthSizes {
			l.name, l.of, l.clients = fmt.Sprintf("%s-of-%d", l.mode, n), n, n
			if l.mode == "p2p" {
				l.clients = n / 2
			}
			all = append(all, l)
		}
	}
	return all
}

// secureLoads are those with TLS and compression. Idle clients are few: their
// handshakes take long, and a thousand tell what each needs as well.
func secureLoads() (all []load) {
	for _, l := range loads {
		switch l.name {
		case "fanout-256-1":
			continue // says what p2p-1 says
		case "idle":
			l.clients = 1000
		}
		all = append(all, l)
	}
	return all
}

// idleDuration is how long at least idle clients are measured: some heartbeats of
// each are sent then.
const idleDuration = 20 * time.Second

// durationOf is how long a load of the mode is measured.
func (o options) durationOf(mode string) time.Duration {
	if mode == "idle" && !o.smoke {
		return max(o.duration, idleDuration)
	}
	return o.duration
}

// connections is how many the load has.
func (l load) connections() int {
	switch l.mode {
	case "p2p":
		return 2 * l.clients
	case "fanout":
		return l.clients + 1
	}
	return l.clients
}

// about says what the load is.
func (l load) about() string {
	size := fmt.Sprintf("%d B", l.size)
	if l.size >= 1<<10 {
		size = fmt.Sprintf("%d KiB", l.size>>10)
	}
	switch l.mode {
	case "p2p":
		return fmt.Sprintf("%s pairs, each with %d of %s in flight", count(l.clients), l.inFlight, size)
	case "fanout":
		return fmt.Sprintf("one sender to %s receivers, %d of %s in flight", count(l.clients), l.inFlight, size)
	}
	return fmt.Sprintf("%s clients that do nothing, after one message to all", count(l.clients))
}

// args are those of crosscomm bench.
func (l load) args() []string {
	return []string{"bench", l.mode, "--json", "--clients", fmt.Sprint(l.clients), "--size", fmt.Sprint(l.size), "--in-flight", fmt.Sprint(l.inFlight)}
}

// contender is a server that is compared.
type contender struct {
	name string
	dir  string   // of its package, in servers; "" for ours
	args []string // but for where to listen
	note string
	// idle is how many clients it can have in the load idle, if not all.
	idle int

	tls     bool // it makes a certificate in the file certFile
	deflate bool // messages are compressed

	receipts string // the stage of which senders are told, or ""; then it is under the loads of pairs only
}

// certFile is where servers with TLS leave their certificates, in the directory
// of their run.
const certFile = "cert.pem"

// ours is the one that the others are compared with.
const ours = "crosscomm"

const original = "pywayne"

// ourArgs start the program with this data directory, or none. It tells of logins
// otherwise, which the others do not.
func ourArgs(dataDir string) []string {
	return []string{"server", "--ip", "127.0.0.1", "--port", "0", "--data-dir=" + dataDir, "--log-level", "warn"}
}

var contenders = []contender{
	{name: ours, args: ourArgs("")},
	{name: ours + "-receipts", args: ourArgs(""), receipts: "accepted", note: ours + "-receipts has each message confirmed when it is accepted, and " + ours + "-receipts-disk does so with queues on disk, which those who are there do not need if they keep up."},
	{name: ours + "-receipts-disk", args: ourArgs("data"), receipts: "accepted"},
	{name: "epoll", dir: "epoll", note: "epoll is no server but the practical limit: one thread, no checks, no timeouts."},
	{name: "epoll-check", dir: "epoll", args: []string{"--check"}, note: "epoll-check also looks whether each frame is valid, with the scan of ours."},
	{name: "gws", dir: "gws"},
	{name: "gws-fast-scan", dir: "gws", args: []string{"--fast-scan"}, note: "gws-fast-scan does not read frames with encoding/json but with a scan that does not check them."},
	{name: "melody", dir: "melody"},
	{name: "gorilla", dir: "gorilla"},
	{name: original, dir: original, idle: 1000, note: "pywayne has 1,000 clients in the load idle: it writes its file of all clients at each login, so that the cost of them all grows with the square of their number."},
}

// secure are the contenders with TLS or compression.
var secure = []contender{
	{name: ours + "-tls", dir: "embedded", args: tlsArgs, tls: true, note: "Names with -tls: with TLS 1.3, a full handshake (ECDSA P-256) in each login. crosscomm-tls and crosscomm-deflate are our library in a program of its own, and keep the file, too."},
	{name: "gorilla-tls", dir: "gorilla", args: tlsArgs, tls: true},
	{name: ours + "-deflate", dir: "embedded", args: deflateArgs, deflate: true, note: "Names with -deflate: with permessage-deflate, without context takeover, flate level 1. The messages are words then; the sizes are those before. The latency includes what that takes at both ends."},
	{name: "gorilla-deflate", dir: "gorilla", args: deflateArgs, deflate: true},
}

var (
	tlsArgs     = []string{"--tls", "--cert", certFile}
	deflateArgs = []string{"--deflate"}
)

// ours is the name of the server of ours that does the same.
func (c contender) ours() string {
	switch {
	case c.tls:
		return ours + "-tls"
	case c.deflate:
		return ours + "-deflate"
	}
	return ours
}

// url is where the generator finds the server that listens there.
func (c contender) url(address string) string {
	if c.tls {
		return "wss://" + address + "/"
	}
	return "ws://" + address + "/"
}

// under returns the load as this server gets it.
func (c contender) under(l load) load {
	if l.mode == "idle" && c.idle > 0 {
		l.clients = min(l.clients, c.idle)
	}
	return l
}

// isUnder reports whether this server is put under the load.
func (c contender) isUnder(l load) bool { return c.receipts == "" || l.mode == "p2p" }

// choose returns the elements whose names are listed, in their own order.
func choose[T any](all []T, name func(T) string, list, what string) (chosen []T, err error) {
	wanted := strings.Split(list, ",")
	var names []string
	for _, one := range all {
		names = append(names, name(one))
		if slices.Contains(wanted, name(one)) {
			chosen = append(chosen, one)
		}
	}
	for _, want := range wanted {
		if !slices.Contains(names, want) {
			return nil, fmt.Errorf("there is no %s %q; there are %s", what, want, strings.Join(names, ", "))
		}
	}
	return chosen, nil
}

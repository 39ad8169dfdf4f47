package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// options are the command line.
type options struct {
	loads    []load
	servers  []contender
	rounds   int
	warmUp   time.Duration
	duration time.Duration
	growth   bool
	secure   bool
	smoke    bool
	json     string // the file for all results, or ""
}

const (
	smokeClients  = 10
	smokeWarmUp   = 50 * time.Millisecond
	smokeDuration = 300 * time.Millisecond
)

// secureServers are those of --secure if none are chosen. Without TLS and
// compression there are the same two, to compare with.
const secureServers = ours + ",gorilla," + ours + "-tls,gorilla-tls," + ours + "-deflate,gorilla-deflate"

// growthServers are those of --growth if none are chosen. The others would take
// long, and say no more.
const growthServers = ours + ",epoll,gorilla"

func parseOptions(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.SetOutput(stderr)
	loadList := flags.String("loads", "", "which `loads`, as p2p-32,idle; without it all")
	serverList := flags.String("servers", "", "which `servers`, as crosscomm,gws; without it all but those of --secure")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each server is under each load")
	flags.DurationVar(&o.warmUp, "warm-up", time.Second, "how long before it is measured")
	flags.DurationVar(&o.duration, "duration", 5*time.Second, "how long is measured")
	flags.BoolVar(&o.growth, "growth", false, "compare 100, 1,000 and 10,000 clients, with "+growthServers+" unless --servers is given")
	flags.BoolVar(&o.secure, "secure", false, "compare TLS and compression with neither, with "+secureServers+" unless --servers is given")
	flags.BoolVar(&o.smoke, "smoke", false, "run everything once, with TLS and compression, too, briefly and with few clients, and only check that it works")
	flags.StringVar(&o.json, "json", "", "write all results to the `file`")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "compare measures our server beside others. Tables go to standard output.\n\nLoads: %s\nwith --growth: %s\nwith --secure: %s\nServers: %s\nand: %s\n\n",
			names(loads, loadName), names(growthLoads(), loadName), names(secureLoads(), loadName), names(contenders, serverName), names(secure, serverName))
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return o, flag.ErrHelp // the flag package has told
	}
	all := slices.Concat(contenders, secure)
	o.loads, o.servers = loads, contenders
	switch {
	case o.growth && o.secure:
		return o, errors.New("--growth and --secure are two comparisons")
	case o.growth:
		o.loads, *serverList = growthLoads(), cmp.Or(*serverList, growthServers)
	case o.secure:
		o.loads, *serverList = secureLoads(), cmp.Or(*serverList, secureServers)
	case o.smoke:
		o.servers = all
	}
	if *loadList != "" {
		if o.loads, err = choose(o.loads, loadName, *loadList, "load"); err != nil {
			return o, err
		}
	}
	if *serverList != "" {
		if o.servers, err = choose(all, serverName, *serverList, "server"); err != nil {
			return o, err
		}
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("%q is not understood; see --help", flags.Arg(0))
	case o.rounds < 1 || o.warmUp <= 0 || o.duration <= 0:
		return o, errors.New("--rounds must be at least 1, --warm-up and --duration more than 0")
	}
	if o.smoke {
		o.rounds, o.warmUp, o.duration = 1, smokeWarmUp, smokeDuration
		smoked := make([]load, len(o.loads))
		for i, l := range o.loads {
			l.clients = min(l.clients, smokeClients)
			smoked[i] = l
		}
		o.loads = smoked
	}
	return o, nil
}

func loadName(l load) string        { return l.name }
func serverName(c contender) string { return c.name }

func names[T any](all []T, name func(T) string) string {
	var list []string
	for _, one := range all {
		list = append(list, name(one))
	}
	return strings.Join(list, ",")
}

// spareFiles is what a process has open beside its connections, and more.
const spareFiles = 100

// checkLimit tells if a process may not have as many connections as are needed.
func (o options) checkLimit(limit uint64) error {
	for _, l := range o.loads {
		if need := uint64(l.connections()) + spareFiles; need > limit {
			return fmt.Errorf("the load %s needs %d open files, but a process may have %d here; raise that (ulimit -Hn %d, as root), or choose other --loads", l.name, need, limit, need)
		}
	}
	return nil
}

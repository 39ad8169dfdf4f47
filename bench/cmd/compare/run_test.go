package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	o := optionsOf(t, "--smoke", "--rounds", "5")
	if len(o.loads) != len(loads) || len(o.servers) != len(contenders)+len(secure) || o.rounds != 1 || o.duration != smokeDuration {
		t.Errorf("got %+v", o)
	}
	for _, l := range o.loads {
		if l.clients > smokeClients || l.inFlight == 0 || l.size < 256 {
			t.Errorf("got %+v", l)
		}
	}
	if d := o.durationOf("idle"); d != smokeDuration {
		t.Errorf("idle clients are measured for %v", d)
	}
	if o := optionsOf(t, "--duration", "3s"); o.durationOf("idle") != idleDuration || o.durationOf("p2p") != 3*time.Second {
		t.Errorf("idle clients are measured for %v, others for %v", o.durationOf("idle"), o.durationOf("p2p"))
	}
	o = optionsOf(t, "--growth")
	if len(o.loads) != 9 || len(o.servers) != 3 {
		t.Errorf("growth: got %+v", o)
	}
	for _, l := range o.loads {
		if n := l.connections(); n != l.of && n != l.of+1 {
			t.Errorf("growth: %s has %d connections", l.name, n)
		}
	}
	o = optionsOf(t, "--secure")
	if len(o.loads) != 5 || len(o.servers) != 6 || o.loads[4].clients != 1000 {
		t.Errorf("secure: got %+v", o)
	}
	for text, args := range map[string][]string{
		`no load "p3p"; there are p2p-32`: {"--loads", "idle,p3p"}, `no server "x"`: {"--servers", "x"}, "not understood": {"now"}, "at least 1": {"--rounds", "0"}, "two comparisons": {"--growth", "--secure"},
	} {
		if _, err := parseOptions(args, new(strings.Builder)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v", args, err)
		}
	}
	var help strings.Builder
	if _, err := parseOptions([]string{"--help"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "fanout-16k") {
		t.Errorf("got %v and %s", err, &help)
	}
	if err := optionsOf(t).checkLimit(1024); err == nil || !strings.Contains(err.Error(), "needs 1101 open files") {
		t.Errorf("got %v", err)
	}
	if err := optionsOf(t).checkLimit(20_000); err != nil {
		t.Error(err)
	}
}

// Real servers are built, run and loaded.
func TestSmoke(t *testing.T) {
	t.Chdir(filepath.Join("..", "..")) // where it is to be run
	file := filepath.Join(t.TempDir(), "results.json")
	var stdout, stderr strings.Builder
	servers, runs := "crosscomm,crosscomm-receipts,crosscomm-receipts-disk,gorilla,crosscomm-deflate", "11 runs"
	if runtime.GOOS == "linux" {
		servers, runs = servers+",crosscomm-tls", "14 runs"
	}
	err := run(context.Background(), []string{"--smoke", "--servers", servers, "--loads", "p2p-32,fanout-256-16,idle", "--json", file}, &stdout, &stderr)
	if err != nil || !strings.Contains(stdout.String(), runs+": every message") {
		t.Fatalf("%v\n%s%s", err, &stdout, &stderr)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got archive
	if err := json.Unmarshal(data, &got); err != nil || fmt.Sprintf("%d runs", len(got.Outcomes)) != runs || got.Machine.Go != runtime.Version() {
		t.Errorf("%v, %s", err, data)
	}
}

// A server that does not start, or does not do what it should, fails its own
// runs, and the others go on.
func TestFailures(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := optionsOf(t, "--smoke", "--servers", "crosscomm,gws,melody", "--loads", "p2p-1")
	p := &plan{options: o, temp: t.TempDir(), progress: new(strings.Builder), programs: programs{generator: self, servers: map[string][]string{
		"crosscomm": {self, "-test.run", "^$"},                       // ends at once
		"gws":       {filepath.Join(t.TempDir(), "no-such-program")}, // is not there
	}}}
	outcomes := p.run(context.Background())
	if len(outcomes) != 2 || !strings.Contains(outcomes[0].Error, "ended before it listened") || !strings.Contains(outcomes[1].Error, "gws does not start") {
		t.Errorf("got %+v", outcomes)
	}
	if err := conclude(context.Background(), outcomes, new(strings.Builder)); err == nil || !strings.Contains(err.Error(), "2 of 2 runs have failed") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if outcomes := p.run(ctx); len(outcomes) != 0 {
		t.Errorf("interrupted: got %+v", outcomes)
	}
	if err := conclude(ctx, nil, new(strings.Builder)); err == nil {
		t.Error("interrupted is no error")
	}
}

// Command compare measures our server beside others, on one machine, with one
// protocol and under the same loads, and prints tables for
// docs/performance.md. Run it in the directory bench.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, restore) // a second Ctrl-C kills
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// archive is the file of --json.
type archive struct {
	Machine  machine   `json:"machine"`
	Rounds   int       `json:"rounds"`
	WarmUp   float64   `json:"warm_up_seconds"`
	Duration float64   `json:"duration_seconds"`
	Outcomes []outcome `json:"outcomes"`
}

// run does all; tables go to stdout, and what is being done to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	if err := o.checkLimit(raiseLimit()); err != nil {
		return err
	}
	dirs, err := findDirectories(ctx)
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", "crosscomm-compare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	fmt.Fprintln(stderr, "building")
	programs, err := build(ctx, dirs, filepath.Join(temp, "bin"), o, stderr)
	if err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		return err
	}
	m := readMachine(ctx, dirs)
	p := &plan{options: o, programs: programs, temp: temp, progress: stderr}
	outcomes := p.run(ctx)
	if o.json != "" {
		data, err := json.MarshalIndent(archive{m, o.rounds, o.warmUp.Seconds(), o.duration.Seconds(), outcomes}, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	if o.smoke {
		return conclude(ctx, outcomes, stdout)
	}
	if err := printTables(stdout, o, m, outcomes); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errors.New("interrupted: the tables have what was complete")
	}
	return nil
}

// conclude is all that comes of --smoke: nothing is said of times.
func conclude(ctx context.Context, outcomes []outcome, stdout io.Writer) error {
	failed := 0
	for _, o := range outcomes {
		if o.Error != "" {
			failed++
		}
	}
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case failed > 0:
		return fmt.Errorf("%d of %d runs have failed", failed, len(outcomes))
	}
	_, err := fmt.Fprintf(stdout, "%d runs: every message has arrived once, unchanged and in order\n", len(outcomes))
	return err
}

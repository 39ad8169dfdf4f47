package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/testkit/subprocess"
)

// outcome is what came of one server under one load in one round.
type outcome struct {
	Round   int             `json:"round"`
	Load    string          `json:"load"`
	Server  string          `json:"server"`
	Clients int             `json:"clients"` // as the load counts them
	Result  json.RawMessage `json:"result,omitempty"`
	Error   string          `json:"error,omitempty"`

	report report // of Result
}

// report is what crosscomm bench --json prints; nil is what it does not know.
type report struct {
	LoginCPU        *float64 `json:"server_cpu_seconds_per_login"`
	MemoryPerClient *float64 `json:"server_memory_per_client"`
	MemoryGrowth    *float64 `json:"server_memory_growth"`
	Seconds         float64  `json:"seconds"`
	ServerCPU       *float64 `json:"server_cpu_seconds"`
	Delivered       uint64   `json:"delivered"`
	PerSecond       float64  `json:"delivered_per_second"`
	CPUPerDelivery  *float64 `json:"server_cpu_seconds_per_delivery"`
	Latency         *struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	} `json:"latency_seconds"`
}

// plan is what is to be run.
type plan struct {
	options
	programs programs
	temp     string
	progress io.Writer
}

// run runs all rounds, or those before ctx ends. Servers alternate, so that what
// else the machine does meets all of them alike, and each round begins with
// another one, so that none always follows the same.
func (p *plan) run(ctx context.Context) (outcomes []outcome) {
	available := p.programs.available(p.servers)
	for round := range p.rounds {
		for _, l := range p.loads {
			servers := slices.DeleteFunc(slices.Clone(available), func(c contender) bool { return !c.isUnder(l) })
			for i := range servers {
				c := servers[(i+round)%len(servers)]
				l := c.under(l)
				o := outcome{Round: round + 1, Load: l.name, Server: c.name, Clients: l.clients}
				result, err := p.measure(ctx, c, l)
				if ctx.Err() != nil {
					return outcomes
				}
				if err == nil {
					err = json.Unmarshal(result, &o.report)
				}
				if err == nil && l.mode != "idle" && o.report.Delivered == 0 {
					err = errors.New("no message has arrived in the measured time")
				}
				if err != nil {
					o.Error = err.Error()
				} else {
					o.Result = result
				}
				outcomes = append(outcomes, o)
				fmt.Fprintf(p.progress, "round %d of %d, %s, %s: %s\n", o.Round, p.rounds, o.Load, o.Server, o.brief(p.smoke))
			}
		}
	}
	return outcomes
}

// brief is an outcome in a few words; those of --smoke tell no times, which are
// none.
func (o outcome) brief(smoke bool) string {
	micro := func(seconds *float64) string {
		if seconds == nil {
			return "–"
		}
		return figure(1e6 * *seconds)
	}
	switch r := o.report; {
	case o.Error != "":
		return "FAILED: " + o.Error
	case smoke:
		return "ok"
	case r.Latency != nil:
		return micro(r.CPUPerDelivery) + " µs a delivery, " + figure(r.PerSecond) + " a second"
	default:
		return micro(r.LoginCPU) + " µs a login"
	}
}

// runTime is how long a run may take beyond what is measured; Python's logins
// take long.
const runTime = 3 * time.Minute

// measure starts a server, has the generator load it, and returns what that
// prints.
func (p *plan) measure(ctx context.Context, c contender, l load) (json.RawMessage, error) {
	duration := p.durationOf(l.mode)
	most := p.warmUp + duration + runTime
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	dir, err := os.MkdirTemp(p.temp, "run-") // ours and pywayne leave a file
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	command := p.programs.servers[c.name]
	server, address, err := subprocess.StartServer(ctx, dir, command[0], command[1:]...)
	if err != nil {
		return nil, fmt.Errorf("%s does not start: %w", c.name, err)
	}
	args := append(l.args(), "--server", c.url(address), "--warm-up", seconds(p.warmUp), "--duration", seconds(duration))
	if runtime.GOOS == "linux" { // elsewhere nothing is known of processes
		args = append(args, "--pid", strconv.Itoa(server.Cmd.Process.Pid))
	}
	if c.deflate {
		args = append(args, "--compress")
	}
	if c.receipts != "" {
		args = append(args, "--receipts", c.receipts)
	}
	generator := exec.CommandContext(ctx, p.programs.generator, args...)
	generator.Dir = dir
	if c.tls {
		generator.Env = append(os.Environ(), "SSL_CERT_FILE="+filepath.Join(dir, certFile))
	}
	var stderr subprocess.Tail
	generator.Stderr = &stderr
	result, err := generator.Output()
	said := server.Stop()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("it has not ended within %v%s", most, said)
	case err != nil:
		return nil, fmt.Errorf("%s%s", stderr.String(), said)
	}
	return bytes.TrimSpace(result), nil
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

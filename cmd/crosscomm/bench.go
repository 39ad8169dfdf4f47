package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/loadgen"
)

type benchCommand struct {
	Mode     string          `arg:"" enum:"p2p,fanout,idle" help:"p2p: clients get messages from a sender each. fanout: all get those of one sender. idle: they only stay connected, after one message to all."`
	Server   string          `help:"The server, as HOST:PORT, HOST, or a ws:// or wss:// address." default:"127.0.0.1:9898" placeholder:"HOST:PORT"`
	Token    crosscomm.Token `help:"What the clients show the server, if that asks for it; better in CROSSCOMM_TOKEN in the environment." env:"CROSSCOMM_TOKEN" placeholder:"TOKEN"`
	Clients  int             `help:"How many clients: receivers, but for idle." default:"100" placeholder:"N"`
	Size     size            `help:"The size of a message on the wire." default:"256B" placeholder:"SIZE"`
	InFlight int             `help:"How many messages of a sender are under way at a time." default:"32" placeholder:"N"`
	Compress bool            `help:"Compress all messages (permessage-deflate); the server must agree to it."`
	WarmUp   seconds         `help:"How long before it is measured." default:"1s" placeholder:"DURATION"`
	Duration seconds         `help:"How long is measured." default:"5s" placeholder:"DURATION"`
	PID      int             `name:"pid" help:"The server's process on this machine, for its processor time and memory (Linux)." placeholder:"PID"`
	JSON     bool            `name:"json" help:"Print the result as a JSON object."`

	clientTLSFlags
}

// Help is shown by kong.
func (benchCommand) Help() string {
	return `It works with any cross_comm server. Every message is checked to arrive once, unchanged and in order; if one does not, that is a failure. But for heartbeats the clients send nothing but what is measured, from this process; on the server's own machine they take processor time from it. A server of ours takes 100,000 messages and 64 MiB a second from a client, unless its --max-messages-per-second and --max-bytes-per-second say otherwise.

A server with TLS has a wss:// address, and a certificate that this system, --tls-ca or --tls-pin trusts. One that asks clients for certificates (--tls-client-ca) cannot be loaded: all that the clients are would be the one name of one certificate. With --compress messages consist of words, of which large ones deflate to two fifths and those of 256 bytes to two thirds; --size is that before, and the latency includes what it takes here to compress and inflate them.

Examples:
  crosscomm bench p2p --clients 50 --in-flight 32 --pid $(pgrep -fn "crosscomm server")
  crosscomm bench fanout --clients 1000 --in-flight 16 --size 16KiB
  crosscomm bench idle --clients 10000 --pid $(pgrep -fn "crosscomm server")

With --json it prints one object: times in seconds, sizes in bytes, and null for what is not known.`
}

// Run is called by kong.
func (c benchCommand) Run(ctx context.Context, con console) error {
	client, _, err := clientFlags{Server: c.Server, ID: "bench", Token: c.Token, clientTLSFlags: c.clientTLSFlags}.config(con.stderr)
	if err != nil {
		return err
	}
	checked, err := crosscomm.New(client)
	if err != nil {
		return usageError{err.Error()}
	}
	cfg := loadgen.Config{
		URL: checked.Config().URL, TLS: client.TLS, Name: fmt.Sprintf("bench_%d_%d", os.Getpid(), time.Now().Unix()),
		Token: string(c.Token), Compress: c.Compress, Clients: c.Clients, InFlight: c.InFlight,
		Size:   int(min(c.Size, loadgen.MaxSize+1)), // an int may have 32 bits
		WarmUp: time.Duration(c.WarmUp), Duration: time.Duration(c.Duration), PID: c.PID,
	}
	if err := cfg.Validate(); err != nil {
		return usageError{err.Error()}
	}
	load := map[string]func(context.Context, loadgen.Config) (loadgen.Result, error){
		"p2p": loadgen.PairLoad, "fanout": loadgen.FanOutLoad, "idle": loadgen.IdleLoad,
	}[c.Mode]
	result, err := load(ctx, cfg)
	if ctx.Err() != nil {
		return errors.New("interrupted: there is no result")
	}
	if err != nil {
		return err
	}
	out := &printer{w: con.stdout}
	if c.JSON {
		line, err := json.Marshal(newBenchReport(c.Mode, result))
		if err != nil {
			return err
		}
		out.line("%s", line)
	} else {
		newBenchReport(c.Mode, result).print(out)
	}
	return out.err
}

// benchReport is what a run has found. What is nil is not known.
type benchReport struct {
	Mode              string     `json:"mode"`
	Clients           int        `json:"clients"` // senders included
	LoginSeconds      float64    `json:"login_seconds"`
	LoginCPU          *float64   `json:"server_cpu_seconds_per_login"`
	MemoryPerClient   *float64   `json:"server_memory_per_client"`
	MemoryGrowth      *int64     `json:"server_memory_growth"` // since all had logged in
	Seconds           float64    `json:"seconds"`
	ServerCPU         *float64   `json:"server_cpu_seconds"`
	Sent              uint64     `json:"sent"`
	Delivered         uint64     `json:"delivered"`
	PerSecond         float64    `json:"delivered_per_second"`
	CPUPerDelivery    *float64   `json:"server_cpu_seconds_per_delivery"`
	LatencyPercentile *latencies `json:"latency_seconds"`
}

type latencies struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func newBenchReport(mode string, r loadgen.Result) benchReport {
	report := benchReport{
		Mode: mode, Clients: r.Clients, LoginSeconds: r.LoginTime.Seconds(), Seconds: r.Elapsed.Seconds(),
		Sent: r.Sent, Delivered: r.Delivered, PerSecond: float64(r.Delivered) / r.Elapsed.Seconds(),
	}
	if s := r.Server; s != nil {
		clients := float64(r.Clients)
		perLogin, perClient, cpu := s.LoginCPU.Seconds()/clients, float64(s.Memory)/clients, s.CPU.Seconds()
		report.LoginCPU, report.MemoryPerClient, report.ServerCPU, report.MemoryGrowth = &perLogin, &perClient, &cpu, &s.Growth
		if r.Delivered > 0 {
			perDelivery := cpu / float64(r.Delivered)
			report.CPUPerDelivery = &perDelivery
		}
	}
	if l := r.Latency; l.Max > 0 {
		report.LatencyPercentile = &latencies{l.Median.Seconds(), l.P90.Seconds(), l.P99.Seconds(), l.Max.Seconds()}
	}
	return report
}

func (r benchReport) print(out *printer) {
	micro := func(seconds float64) float64 { return seconds * 1e6 }
	out.line("%d clients logged in within %.2f s", r.Clients, r.LoginSeconds)
	if r.LoginCPU != nil {
		out.line("  server: %.0f µs of processor time a login, %.1f KiB of memory a client", micro(*r.LoginCPU), *r.MemoryPerClient/1024)
	}
	if r.Delivered > 0 {
		out.line("%d messages sent, %d delivered in %.1f s: %.0f a second", r.Sent, r.Delivered, r.Seconds, r.PerSecond)
	}
	if l := r.LatencyPercentile; l != nil {
		out.line("  latency: median %.0f µs, 90%% %.0f µs, 99%% %.0f µs, at most %.0f µs", micro(l.P50), micro(l.P90), micro(l.P99), micro(l.Max))
	}
	switch {
	case r.CPUPerDelivery != nil:
		out.line("  server: %.2f µs of processor time a delivery, %.0f %% of a processor, memory grown by %.1f MiB since the logins", micro(*r.CPUPerDelivery), 100**r.ServerCPU/r.Seconds, float64(*r.MemoryGrowth)/(1<<20))
	case r.ServerCPU != nil:
		out.line("  server: %.2f %% of a processor in %.1f s, memory grown by %.1f MiB since the logins", 100**r.ServerCPU/r.Seconds, r.Seconds, float64(*r.MemoryGrowth)/(1<<20))
	}
}

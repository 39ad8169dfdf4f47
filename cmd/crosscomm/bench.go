package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/loadgen"
)

type benchCommand struct {
	Mode     string          `arg:"" enum:"p2p,fanout,idle,queue" help:"p2p: clients get messages from a sender each. fanout: all get those of one sender. idle: they only stay connected, after one message to all. queue: messages from a sender each wait for them while they are away."`
	Server   string          `help:"The server, as HOST:PORT, HOST, or a ws:// or wss:// address." default:"127.0.0.1:9898" placeholder:"HOST:PORT"`
	Token    crosscomm.Token `help:"What the clients show the server, if that asks for it; better in CROSSCOMM_TOKEN in the environment." env:"CROSSCOMM_TOKEN" placeholder:"TOKEN"`
	Clients  int             `help:"How many clients: receivers, but for idle." default:"100" placeholder:"N"`
	Size     size            `help:"The size of a message on the wire." default:"256B" placeholder:"SIZE"`
	InFlight int             `help:"How many messages of a sender are under way at a time." default:"32" placeholder:"N"`
	Compress bool            `help:"Compress all messages (permessage-deflate); the server must agree to it."`
	Receipts string          `help:"For p2p and queue: have each message confirmed, when it is accepted, written or handled; with queue, accepted. The server must know crosscomm.v3, and messages are larger by the headers for it." enum:",accepted,written,handled" default:"" placeholder:"STAGE"`
	Messages int             `help:"For queue: how many are sent, in all." default:"100000" placeholder:"N"`
	Drain    bool            `help:"For queue: have the clients log in then, and get all."`
	WarmUp   seconds         `help:"How long before it is measured." default:"1s" placeholder:"DURATION"`
	Duration seconds         `help:"How long is measured." default:"5s" placeholder:"DURATION"`
	PID      int             `name:"pid" help:"The server's process on this machine, for its processor time and memory (Linux)." placeholder:"PID"`
	JSON     bool            `name:"json" help:"Print the result as a JSON object."`

	clientTLSFlags
}

// Help is shown by kong.
func (benchCommand) Help() string {
	return `It works with any cross_comm server. Every message is checked to arrive once, unchanged and in order, and with --receipts to be confirmed once; if one is not, that is a failure. But for heartbeats the clients send nothing but what is measured, from this process; on the server's own machine they take processor time from it. A server of ours takes 100,000 messages and 64 MiB a second from a client, unless its --max-messages-per-second and --max-bytes-per-second say otherwise.

A server with TLS has a wss:// address, and a certificate that this system, --tls-ca or --tls-pin trusts. One that asks clients for certificates (--tls-client-ca) cannot be loaded: all that the clients are would be the one name of one certificate. With --compress messages consist of words, of which large ones deflate to two fifths and those of 256 bytes to two thirds; --size is that before, and the latency includes what it takes here to compress and inflate them.

The load queue has no set time: it is measured until the server has taken --messages for clients that have logged in and out before, with --in-flight of each sender at a time. With --receipts that is when all are confirmed, and else when each sender has got a message to itself behind them. A server of ours keeps 100,000 messages and 64 MiB for one client, unless its --queue-messages and --queue-size say otherwise, and drops the oldest.

Examples:
  crosscomm bench p2p --clients 50 --in-flight 32 --pid $(pgrep -fn "crosscomm server")
  crosscomm bench fanout --clients 1000 --in-flight 16 --size 16KiB
  crosscomm bench idle --clients 10000 --pid $(pgrep -fn "crosscomm server")
  crosscomm bench p2p --receipts accepted --pid $(pgrep -fn "crosscomm server")
  crosscomm bench queue --receipts accepted --messages 1000000 --in-flight 500 --drain

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
		URL: checked.Config().URL, TLS: client.TLS, Name: fmt.Sprintf("bench_%s_%s", strconv.FormatInt(int64(os.Getpid()), 36), strconv.FormatInt(time.Now().UnixMilli(), 36)),
		Token: string(c.Token), Compress: c.Compress, Clients: c.Clients, InFlight: c.InFlight,
		Size:     int(min(c.Size, loadgen.MaxSize+1)), // an int may have 32 bits
		Receipts: c.Receipts, Messages: c.Messages, Drain: c.Drain,
		WarmUp: time.Duration(c.WarmUp), Duration: time.Duration(c.Duration), PID: c.PID,
	}
	if err := cfg.Validate(); err != nil {
		return usageError{err.Error()}
	}
	if err := c.checkMode(cfg); err != nil {
		return err
	}
	load := map[string]func(context.Context, loadgen.Config) (loadgen.Result, error){
		"p2p": loadgen.PairLoad, "fanout": loadgen.FanOutLoad, "idle": loadgen.IdleLoad, "queue": loadgen.QueueLoad,
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
		line, err := json.Marshal(newBenchReport(c.Mode, c.Receipts, result))
		if err != nil {
			return err
		}
		out.line("%s", line)
	} else {
		newBenchReport(c.Mode, c.Receipts, result).print(out)
	}
	return out.err
}

// checkMode says what does not go with the mode.
func (c benchCommand) checkMode(cfg loadgen.Config) error {
	switch {
	case c.Receipts != "" && (c.Mode == "fanout" || c.Mode == "idle"):
		return usageError{"--receipts goes with p2p and queue only"}
	case c.Drain && c.Mode != "queue":
		return usageError{"--drain goes with queue only"}
	case c.Mode == "queue":
		if err := cfg.ValidateQueue(); err != nil {
			return usageError{err.Error()}
		}
	}
	return nil
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

	Receipts  *string    `json:"receipts"`         // the stage; null for none
	Confirmed *uint64    `json:"confirmed"`        // messages with a receipt, warm-up included
	Queued    *queuedUse `json:"queued,omitempty"` // of the mode queue
	Drained   *drainUse  `json:"drained,omitempty"`
}

// queuedUse is what it took to have messages wait: sent of them within seconds.
type queuedUse struct {
	PerSecond       float64  `json:"per_second"`
	CPUPerMessage   *float64 `json:"server_cpu_seconds_per_message"`
	AnonymousGrowth *int64   `json:"server_anonymous_memory_growth"`
}

// drainUse is what it took to bring them to their clients.
type drainUse struct {
	Delivered      uint64   `json:"delivered"`
	Seconds        float64  `json:"seconds"`
	PerSecond      float64  `json:"delivered_per_second"`
	CPUPerDelivery *float64 `json:"server_cpu_seconds_per_delivery"`
}

type latencies struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func newBenchReport(mode, receipts string, r loadgen.Result) benchReport {
	report := benchReport{
		Mode: mode, Clients: r.Clients, LoginSeconds: r.LoginTime.Seconds(), Seconds: r.Elapsed.Seconds(),
		Sent: r.Sent, Delivered: r.Delivered, PerSecond: float64(r.Delivered) / r.Elapsed.Seconds(),
	}
	if receipts != "" {
		report.Receipts, report.Confirmed = &receipts, &r.Receipts
	}
	if mode == "queue" {
		report.Queued = &queuedUse{PerSecond: float64(r.Sent) / r.Elapsed.Seconds()}
	}
	if d := r.Drained; d != nil {
		report.Drained = &drainUse{Delivered: d.Delivered, Seconds: d.Elapsed.Seconds(), PerSecond: float64(d.Delivered) / d.Elapsed.Seconds()}
	}
	if s := r.Server; s != nil {
		clients := float64(r.Clients)
		perLogin, perClient, cpu := s.LoginCPU.Seconds()/clients, float64(s.Memory)/clients, s.CPU.Seconds()
		report.LoginCPU, report.MemoryPerClient, report.ServerCPU, report.MemoryGrowth = &perLogin, &perClient, &cpu, &s.Growth
		if r.Delivered > 0 {
			perDelivery := cpu / float64(r.Delivered)
			report.CPUPerDelivery = &perDelivery
		}
		if report.Queued != nil {
			perMessage := cpu / float64(r.Sent)
			report.Queued.CPUPerMessage, report.Queued.AnonymousGrowth = &perMessage, &s.Anonymous
		}
		if d := r.Drained; d != nil {
			perDelivery := d.CPU.Seconds() / float64(d.Delivered)
			report.Drained.CPUPerDelivery = &perDelivery
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
	if r.Confirmed != nil {
		out.line("  %d were confirmed to be %s, those of the warm-up included", *r.Confirmed, *r.Receipts)
	}
	if q := r.Queued; q != nil {
		out.line("%d messages wait, taken in %.1f s: %.0f a second", r.Sent, r.Seconds, q.PerSecond)
		if q.CPUPerMessage != nil {
			out.line("  server: %.2f µs of processor time a message, memory grown by %.1f MiB, of which %.1f MiB are no file's", micro(*q.CPUPerMessage), float64(*r.MemoryGrowth)/(1<<20), float64(*q.AnonymousGrowth)/(1<<20))
		}
	}
	if d := r.Drained; d != nil {
		out.line("%d fetched in %.1f s: %.0f a second", d.Delivered, d.Seconds, d.PerSecond)
		if d.CPUPerDelivery != nil {
			out.line("  server: %.2f µs of processor time a delivery", micro(*d.CPUPerDelivery))
		}
	}
	if l := r.LatencyPercentile; l != nil {
		out.line("  latency: median %.0f µs, 90%% %.0f µs, 99%% %.0f µs, at most %.0f µs", micro(l.P50), micro(l.P90), micro(l.P99), micro(l.Max))
	}
	switch {
	case r.Queued != nil:
	case r.CPUPerDelivery != nil:
		out.line("  server: %.2f µs of processor time a delivery, %.0f %% of a processor, memory grown by %.1f MiB since the logins", micro(*r.CPUPerDelivery), 100**r.ServerCPU/r.Seconds, float64(*r.MemoryGrowth)/(1<<20))
	case r.ServerCPU != nil:
		out.line("  server: %.2f %% of a processor in %.1f s, memory grown by %.1f MiB since the logins", 100**r.ServerCPU/r.Seconds, r.Seconds, float64(*r.MemoryGrowth)/(1<<20))
	}
}

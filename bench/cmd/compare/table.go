package main

import (
	"fmt"
	"io"
	"strings"
)

// measure is one of the things that are measured of a server.
type measure struct {
	title  string
	spread bool // whether the least and the most are told, and how ours compares
	of     func(r report) *float64
}

var (
	cpuPerDelivery = measure{"CPU µs a delivery", true, func(r report) *float64 { return times(r.CPUPerDelivery, 1e6) }}
	perSecond      = measure{"deliveries a second", false, func(r report) *float64 { return &r.PerSecond }}
	latency50      = measure{"p50 µs", false, func(r report) *float64 {
		if r.Latency == nil {
			return nil
		}
		return times(&r.Latency.P50, 1e6)
	}}
	latency99 = measure{"p99 µs", false, func(r report) *float64 {
		if r.Latency == nil {
			return nil
		}
		return times(&r.Latency.P99, 1e6)
	}}
	memoryPerClient = measure{"KiB a connection", true, func(r report) *float64 { return times(r.MemoryPerClient, 1.0/(1<<10)) }}
	cpuPerLogin     = measure{"CPU µs a login", true, func(r report) *float64 { return times(r.LoginCPU, 1e6) }}
	idleCPU         = measure{"CPU % when idle", false, func(r report) *float64 { return times(r.ServerCPU, 100/r.Seconds) }}
	memoryGrowth    = measure{"then grown by MiB", false, func(r report) *float64 { return times(r.MemoryGrowth, 1.0/(1<<20)) }}

	busyMeasures = []measure{cpuPerDelivery, perSecond, latency50, latency99}
	idleMeasures = []measure{memoryPerClient, cpuPerLogin, idleCPU, memoryGrowth}
)

func times(v *float64, factor float64) *float64 {
	if v == nil {
		return nil
	}
	product := *v * factor
	return &product
}

// results are the outcomes, to be looked up.
type results []outcome

// figures are those of a server under a load.
func (r results) figures(server, load string, m measure) figures {
	f := figures{}
	for _, o := range r {
		if o.Server != server || o.Load != load || o.Error != "" {
			continue
		}
		if v := m.of(o.report); v != nil {
			f[o.Round] = *v
		}
	}
	return f
}

// failures are in how many of its rounds a server has failed, and how.
func (r results) failures(server, load string) (failed, rounds int, why []string) {
	for _, o := range r {
		if o.Server == server && o.Load == load {
			rounds++
			if o.Error != "" {
				failed++
				why = append(why, fmt.Sprintf("%s has failed in round %d: %s", server, o.Round, strings.Join(strings.Fields(o.Error), " ")))
			}
		}
	}
	return failed, rounds, why
}

// printTables prints all that was measured as Markdown.
func printTables(w io.Writer, o options, m machine, outcomes []outcome) error {
	r := results(outcomes)
	var b strings.Builder
	fmt.Fprintf(&b, "%v.\n\n%s\n", m, o.method())
	for _, l := range o.loads {
		r.table(&b, l, o.servers)
	}
	if o.growth {
		r.growth(&b, o)
	}
	notes := []string{"crosscomm and pywayne keep a file with their clients' states, the others do not."}
	if o.secure {
		notes = append(notes, "“ours ÷ it” is with what does the same: crosscomm-tls for those with TLS, crosscomm-deflate for those with compression.")
	}
	for _, c := range o.servers {
		if c.note != "" {
			notes = append(notes, c.note)
		}
	}
	b.WriteString("\nNotes:\n\n")
	for _, note := range notes {
		fmt.Fprintf(&b, "- %s\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// method says how to read the tables.
func (o options) method() string {
	return fmt.Sprintf("Each figure is the median of the rounds, here %d, in which the servers take turns, each a new process that is measured for %v (idle ones for %v) after %v to warm up. "+
		"The load generator is on the same machine. The processor time is that of the server's process, user and system. "+
		"“ours ÷ it” is the median of the rounds' ratios: below 1 ours takes less.", o.rounds, o.duration, o.durationOf("idle"), o.warmUp)
}

// table prints what is known of a load.
func (r results) table(b *strings.Builder, l load, servers []contender) {
	measures := busyMeasures
	header := []string{"server"}
	if l.mode == "idle" {
		measures = idleMeasures
		header = append(header, "clients")
	}
	fmt.Fprintf(b, "\n### %s: %s\n\n", l.name, l.about())
	for _, m := range measures {
		header = append(header, m.title)
		if m.spread {
			header = append(header, "least–most", "ours ÷ it")
		}
	}
	printHeader(b, header)
	var failures []string
	for _, c := range servers {
		failed, rounds, why := r.failures(c.name, l.name)
		failures = append(failures, why...)
		if rounds == 0 {
			continue
		}
		row := []string{c.name}
		if failed > 0 {
			row[0] += fmt.Sprintf(" (failed in %d of %d rounds)", failed, rounds)
		}
		if l.mode == "idle" {
			row = append(row, count(c.under(l).clients))
		}
		for _, m := range measures {
			f := r.figures(c.name, l.name, m)
			row = append(row, figure(f.median()))
			if m.spread {
				row = append(row, f.spread(), figure(r.figures(c.ours(), l.name, m).over(f).median()))
			}
		}
		printRow(b, row)
	}
	r.receipts(b, l, servers)
	if len(failures) > 0 {
		b.WriteByte('\n')
	}
	for _, why := range failures {
		fmt.Fprintf(b, "- %s\n", why)
	}
}

// receipts tells what receipts cost under a load: the opposite of “ours ÷ it”.
func (r results) receipts(b *strings.Builder, l load, servers []contender) {
	without := r.figures(ours, l.name, cpuPerDelivery)
	for _, c := range servers {
		ratios := r.figures(c.name, l.name, cpuPerDelivery).over(without)
		if c.receipts != "" && len(ratios) > 0 {
			fmt.Fprintf(b, "\n%s takes %s times the processor time of %s, from %s.\n", c.name, figure(ratios.median()), ours, ratios.spread())
		}
	}
}

// growth prints what matters most, by the number of clients.
func (r results) growth(b *strings.Builder, o options) {
	for _, part := range []struct {
		mode string
		measure
	}{{"p2p", cpuPerDelivery}, {"fanout", cpuPerDelivery}, {"idle", memoryPerClient}, {"idle", cpuPerLogin}} {
		header := []string{"server"}
		var of []load
		for _, l := range o.loads {
			if l.mode == part.mode {
				of = append(of, l)
				header = append(header, count(l.of)+" clients")
			}
		}
		if len(of) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n### %s, by the number of clients: %s\n\n", part.mode, part.title)
		printHeader(b, header)
		for _, c := range o.servers {
			row := []string{c.name}
			for _, l := range of {
				row = append(row, figure(r.figures(c.name, l.name, part.measure).median()))
			}
			printRow(b, row)
		}
	}
}

func printHeader(b *strings.Builder, titles []string) {
	printRow(b, titles)
	b.WriteString("|---|" + strings.Repeat("---:|", len(titles)-1) + "\n")
}

func printRow(b *strings.Builder, cells []string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

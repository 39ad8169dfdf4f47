package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// outcomeOf is what a round gives if the processor time of a delivery is so many
// µs.
func outcomeOf(t *testing.T, round int, load, server string, micro float64) outcome {
	t.Helper()
	o := outcome{Round: round, Load: load, Server: server}
	o.Result = json.RawMessage(fmt.Sprintf(`{"server_cpu_seconds_per_delivery": %g, "delivered": 10, "delivered_per_second": 123456, "latency_seconds": {"p50": 0.001, "p90": 0.002, "p99": 0.003, "max": 1},
		"server_cpu_seconds_per_login": %g, "server_memory_per_client": 2048, "server_cpu_seconds": 0.5, "seconds": 5, "server_memory_growth": 1048576}`, micro/1e6, micro/1e6))
	if err := json.Unmarshal(o.Result, &o.report); err != nil {
		t.Fatal(err)
	}
	return o
}

func optionsOf(t *testing.T, args ...string) options {
	t.Helper()
	o, err := parseOptions(args, new(strings.Builder))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// The tables have medians, ranges and ratios, and tell of what has failed.
func TestTables(t *testing.T) {
	o := optionsOf(t, "--loads", "p2p-32,idle", "--servers", "crosscomm,gws,pywayne")
	failed := outcome{Round: 2, Load: "p2p-32", Server: "gws", Error: "a message has\narrived changed"}
	outcomes := []outcome{
		outcomeOf(t, 1, "p2p-32", "crosscomm", 1), outcomeOf(t, 2, "p2p-32", "crosscomm", 3), outcomeOf(t, 3, "p2p-32", "crosscomm", 2),
		outcomeOf(t, 1, "p2p-32", "gws", 4), failed, outcomeOf(t, 3, "p2p-32", "gws", 4),
		outcomeOf(t, 1, "idle", "crosscomm", 50), outcomeOf(t, 1, "idle", "pywayne", 20_000),
	}
	var b strings.Builder
	if err := printTables(&b, o, machine{CPU: "some processor"}, outcomes); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		"some processor",
		"### p2p-32: 50 pairs, each with 32 of 256 B in flight\n\n| server | CPU µs a delivery | least–most | ours ÷ it |",
		"\n| crosscomm | 2.00 | 1.00–3.00 | 1.00 | 123,456 | 1,000 | 3,000 |\n",
		"\n| gws (failed in 1 of 3 rounds) | 4.00 | 4.00–4.00 | 0.38 | 123,456 |",
		"\n- gws has failed in round 2: a message has arrived changed\n",
		"\n### idle: 10,000 clients that do nothing, after one message to all\n",
		"\n| crosscomm | 10,000 | 2.00 | 2.00–2.00 | 1.00 | 50.0 | 50.0–50.0 | 1.00 | 10.0 | 1.00 |\n",
		"\n| pywayne | 1,000 | 2.00 | 2.00–2.00 | 1.00 | 20,000 | 20,000–20,000 | 0.0025 |",
		"\n- pywayne has 1,000 clients in the load idle",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "| pywayne | –") || strings.Contains(got, "no server but") {
		t.Errorf("what was not measured is in\n%s", got)
	}
}

func TestGrowthTable(t *testing.T) {
	o := optionsOf(t, "--growth", "--loads", "p2p-of-100,p2p-of-10000", "--servers", "crosscomm")
	var b strings.Builder
	if err := printTables(&b, o, machine{}, []outcome{outcomeOf(t, 1, "p2p-of-100", "crosscomm", 1), outcomeOf(t, 1, "p2p-of-10000", "crosscomm", 2)}); err != nil {
		t.Fatal(err)
	}
	want := "\n### p2p, by the number of clients: CPU µs a delivery\n\n| server | 100 clients | 10,000 clients |\n|---|---:|---:|\n| crosscomm | 1.00 | 2.00 |\n"
	if got := b.String(); !strings.Contains(got, want) || strings.Contains(got, "fanout, by") {
		t.Errorf("got\n%s", got)
	}
}

// Those with TLS are compared with ours with TLS.
func TestSecureTable(t *testing.T) {
	o := optionsOf(t, "--secure", "--loads", "p2p-1", "--servers", "crosscomm,gorilla,crosscomm-tls,gorilla-tls")
	outcomes := []outcome{
		outcomeOf(t, 1, "p2p-1", "crosscomm", 1), outcomeOf(t, 1, "p2p-1", "gorilla", 2),
		outcomeOf(t, 1, "p2p-1", "crosscomm-tls", 4), outcomeOf(t, 1, "p2p-1", "gorilla-tls", 5),
	}
	var b strings.Builder
	if err := printTables(&b, o, machine{}, outcomes); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		"\n| gorilla | 2.00 | 2.00–2.00 | 0.50 |", "\n| crosscomm-tls | 4.00 | 4.00–4.00 | 1.00 |", "\n| gorilla-tls | 5.00 | 5.00–5.00 | 0.80 |",
		"\n- Names with -tls: with TLS 1.3", "crosscomm-tls for those with TLS",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

// What receipts cost is told as a multiple of what there is without, under the loads
// that have them.
func TestReceiptsTable(t *testing.T) {
	o := optionsOf(t, "--loads", "p2p-1,idle", "--servers", "crosscomm,crosscomm-receipts,crosscomm-receipts-disk")
	outcomes := []outcome{
		outcomeOf(t, 1, "p2p-1", "crosscomm", 2), outcomeOf(t, 2, "p2p-1", "crosscomm", 4), outcomeOf(t, 1, "idle", "crosscomm", 50),
		outcomeOf(t, 1, "p2p-1", "crosscomm-receipts", 3), outcomeOf(t, 2, "p2p-1", "crosscomm-receipts", 5),
	}
	var b strings.Builder
	if err := printTables(&b, o, machine{}, outcomes); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	if want := "\n\ncrosscomm-receipts takes 1.38 times the processor time of crosscomm, from 1.25–1.50.\n"; strings.Count(got, "times the processor time") != 1 || !strings.Contains(got, want) {
		t.Errorf("%q is not, or not alone, in\n%s", want, got)
	}
	for _, c := range o.servers {
		for _, l := range o.loads {
			if c.isUnder(l) != (c.name == ours || l.name == "p2p-1") {
				t.Errorf("%s under %s", c.name, l.name)
			}
		}
	}
}

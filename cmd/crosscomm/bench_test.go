package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

func TestBench(t *testing.T) {
	_, addr := startServer(t)
	args := []string{"--server", addr, "--clients", "3", "--warm-up", "0.01"}
	if runtime.GOOS == "linux" {
		args = append(args, "--pid", strconv.Itoa(os.Getpid()))
	}
	for _, mode := range []string{"p2p", "fanout", "idle"} {
		got := measured(t, append([]string{mode}, args...)...)
		busy := mode != "idle"
		if got["mode"] != mode || (got["delivered"].(float64) > 0) != busy || (got["latency_seconds"] != nil) != busy || (got["server_cpu_seconds"] != nil) != (runtime.GOOS == "linux") {
			t.Errorf("got %v", got)
		}
		c := start(t, nil, append([]string{"bench", mode, "--duration", "0.05"}, args...)...)
		text, err := c.stdout.ReadString('\n')
		if err != nil || !strings.Contains(text, "clients logged in within") {
			t.Errorf("%s: got %q, %v, %s", mode, text, err, c.stderr)
		}
		c.ends(exitOK, "")
	}
	start(t, nil, "bench", "idle", "--server", "127.0.0.1:1").ends(exitFail, "refused")
	start(t, nil, "bench", "p2p", "--server", addr, "--pid", "999999999").ends(exitFail, "cannot be read")
	start(t, nil, "bench", "p2p", "--server", addr, "--compress").ends(exitFail, "does not agree to permessage-deflate")
}

// With receipts each message is confirmed; messages for clients that are away wait, and
// are fetched.
func TestBenchReceipts(t *testing.T) {
	_, addr := startServer(t)
	args := []string{"--server", addr, "--clients", "3", "--warm-up", "0.01", "--receipts", "accepted"}
	if got := measured(t, append([]string{"p2p"}, args...)...); got["receipts"] != "accepted" || got["confirmed"].(float64) < got["delivered"].(float64) {
		t.Errorf("got %v", got)
	}
	args = append(args, "--messages", "100", "--drain")
	if runtime.GOOS == "linux" {
		args = append(args, "--pid", strconv.Itoa(os.Getpid()))
	}
	got := measured(t, append([]string{"queue"}, args...)...)
	queued, drained := got["queued"].(map[string]any), got["drained"].(map[string]any)
	if got["sent"] != 100.0 || got["confirmed"] != 100.0 || queued["per_second"].(float64) <= 0 || drained["delivered"] != 100.0 {
		t.Errorf("got %v", got)
	}
	c := start(t, nil, append([]string{"bench", "queue"}, args...)...)
	for _, want := range []string{"clients logged in within", "100 messages wait"} {
		for {
			text, err := c.stdout.ReadString('\n')
			if err != nil {
				t.Fatalf("%q is not told: %v, %s", want, err, c.stderr)
			}
			if strings.Contains(text, want) {
				break
			}
		}
	}
	c.ends(exitOK, "")
}

// measured is what a run prints as JSON. A slow machine gets more time to
// deliver something.
func measured(t *testing.T, args ...string) (got map[string]any) {
	t.Helper()
	for duration := 0.05; ; duration *= 4 {
		c := start(t, nil, append([]string{"bench", "--json", "--duration", fmt.Sprint(duration)}, args...)...)
		line, err := c.stdout.ReadString('\n')
		if err != nil {
			t.Fatalf("%v: %v, %s", args, err, c.stderr)
		}
		c.ends(exitOK, "")
		got = nil
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		if got["mode"] == "idle" || got["mode"] == "queue" || got["delivered"] != 0.0 && got["latency_seconds"] != nil || duration > testkit.Patience.Seconds() {
			return got
		}
	}
}

// A server with TLS is asked for its certificate; one that compresses has its
// messages compressed.
func TestBenchSecure(t *testing.T) {
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, NoStateFile: true, Compression: true})
	if err != nil {
		t.Fatal(err)
	}
	plain, secure := httptest.NewServer(svc), httptest.NewUnstartedServer(svc)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(func() {
		if err := svc.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		plain.Close()
		secure.Close()
	})
	got := measured(t, "p2p", "--compress", "--size", "4KiB", "--clients", "2", "--warm-up", "0.01", "--server", "ws"+strings.TrimPrefix(plain.URL, "http"))
	if got["delivered"] == 0.0 {
		t.Errorf("got %v", got)
	}
	start(t, nil, "bench", "idle", "--server", "wss"+strings.TrimPrefix(secure.URL, "https")).ends(exitFail, "certificate")
}

// What makes no sense is told before anything is connected: there is no server.
func TestBenchUsage(t *testing.T) {
	const much = "4611686018427387904"
	for _, c := range []struct {
		want string
		args []string
	}{
		{"must be one of", []string{"all"}},
		{"ws://host:port", []string{"p2p", "--server", "http://x"}},
		{"at least 1 and at most", []string{"p2p", "--clients", "0"}},
		{"at least 1 and at most", []string{"idle", "--clients", much}},
		{"--clients", []string{"idle", "--clients", much + "0"}},
		{"a message has at least", []string{"p2p", "--size", "5"}},
		{"a message has at least", []string{"fanout", "--size", much}},
		{"--size", []string{"fanout", "--size", "-1"}},
		{"at least 1 message", []string{"p2p", "--in-flight=-1"}},
		{"clients × in flight × size", []string{"p2p", "--in-flight", much}},
		{"clients × in flight × size", []string{"fanout", "--clients", "60000", "--size", "64MiB"}},
		{"--receipts goes with p2p and queue only", []string{"fanout", "--receipts", "accepted"}},
		{"--receipts goes with p2p and queue only", []string{"idle", "--receipts", "handled"}},
		{"--receipts", []string{"p2p", "--receipts", "read"}},
		{"at most 1000 messages", []string{"p2p", "--receipts", "accepted", "--in-flight", "1001"}},
		{"--drain goes with queue only", []string{"p2p", "--drain"}},
		{"while its receiver is away", []string{"queue", "--receipts", "written"}},
		{"one message at least", []string{"queue", "--messages", "99"}},
		{"more than 168h", []string{"idle", "--duration", "9e9"}},
		{"more than 168h", []string{"idle", "--warm-up", "2000h"}},
		{"not a duration", []string{"idle", "--duration=-1"}},
		{"not a duration", []string{"idle", "--duration", "NaN"}},
		{"not a duration", []string{"idle", "--warm-up", "1e300"}},
	} {
		args := append([]string{"bench", "--server", "127.0.0.1:1"}, c.args...)
		start(t, nil, args...).ends(exitUsage, c.want)
	}
}

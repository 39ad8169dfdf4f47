package main

import (
	"encoding/json"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

func TestBench(t *testing.T) {
	_, addr := startServer(t)
	args := []string{"--server", addr, "--clients", "3", "--warm-up", "0.01", "--duration", "0.1"}
	if runtime.GOOS == "linux" {
		args = append(args, "--pid", strconv.Itoa(os.Getpid()))
	}
	for _, mode := range []string{"p2p", "fanout", "idle"} {
		c := start(t, nil, append([]string{"bench", mode, "--json"}, args...)...)
		line, err := c.stdout.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v, %s", mode, err, c.stderr)
		}
		c.ends(exitOK, "")
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		busy := mode != "idle"
		if got["mode"] != mode || (got["delivered"].(float64) > 0) != busy || (got["latency_seconds"] != nil) != busy || (got["server_cpu_seconds"] != nil) != (runtime.GOOS == "linux") {
			t.Errorf("got %s", line)
		}
		c = start(t, nil, append([]string{"bench", mode}, args...)...)
		text, err := c.stdout.ReadString('\n')
		if err != nil || !strings.Contains(text, "clients logged in within") {
			t.Errorf("%s: got %q, %v, %s", mode, text, err, c.stderr)
		}
		c.ends(exitOK, "")
	}
	for text, args := range map[string][]string{
		"must be one of": {"bench", "all"}, "at least 1": {"bench", "p2p", "--clients", "0"}, "ws://host:port": {"bench", "p2p", "--server", "http://x"},
	} {
		start(t, nil, args...).ends(exitUsage, text)
	}
	start(t, nil, "bench", "idle", "--server", "127.0.0.1:1").ends(exitFail, "refused")
	start(t, nil, "bench", "p2p", "--server", addr, "--size", "5").ends(exitFail, "at least")
	start(t, nil, "bench", "p2p", "--server", addr, "--pid", "999999999").ends(exitFail, "cannot be read")
}

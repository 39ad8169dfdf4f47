package main

import (
	"strings"
	"testing"
)

func TestSendWaits(t *testing.T) {
	server, addr := startServer(t)
	listener := start(t, nil, "listen", "--server", addr, "--id", "desk", "--json", "--type", "text")
	listener.event("up")
	server.event("login")
	for _, stage := range []string{"accepted", "written", "handled"} {
		sent := start(t, nil, "send", "--server", addr, "--to", "desk", "--wait", stage, "--json", "hello "+stage)
		got := listener.event("message") // it is handled when that is read
		e := sent.event(stage)
		if got["msg_id"] != e["msg_id"] || e["content"] != "hello "+stage || got["content"] != e["content"] || got["headers"] != nil {
			t.Errorf("sent %v, got %v", e, got)
		}
		sent.ends(exitOK, "")
	}
	sent := start(t, nil, "send", "--server", addr, "--to", "desk", "--json", "just so")
	if e := sent.event("sent"); e["msg_id"] == "" || e["content"] != "just so" {
		t.Errorf("got %v", e)
	}
	sent.ends(exitOK, "")

	for _, tc := range []struct{ to, kind, reason string }{
		{"nobody", "text", "unknown client"},
		{"desk", "dict", "no listener"},
	} {
		sent := start(t, nil, "send", "--server", addr, "--to", tc.to, "--type", tc.kind, "--wait", "handled", "--json", "1")
		if e := sent.event("failed"); e["msg_id"] == "" || e["content"] != "1" || !strings.Contains(e["error"].(string), tc.reason) {
			t.Errorf("got %v", e)
		}
		sent.ends(exitFail, tc.reason)
	}
	listener.event("message")
	all := start(t, nil, "send", "--server", addr, "--wait", "handled", "--json", "to all")
	listener.event("message")
	if e := all.event("handled"); e["receivers"] != 1.0 || e["handled"] != 1.0 || e["failed"] != 0.0 {
		t.Errorf("got %v", e)
	}
	all.ends(exitOK, "")
}

func TestSendLinesWaits(t *testing.T) {
	_, addr := startServer(t)
	listener := start(t, nil, "listen", "--server", addr, "--id", "desk", "--json", "--count", "2")
	listener.event("up")
	sent := start(t, strings.NewReader("one\ntwo\n"), "send", "--server", addr, "--to", "desk", "--wait", "handled", "--json", "--lines")
	for _, line := range []string{"one", "two"} {
		listener.event("message")
		if e := sent.event("handled"); e["content"] != line {
			t.Errorf("got %v", e)
		}
	}
	sent.ends(exitOK, "")
	listener.ends(exitOK, "")
	// Who is away gets them later.
	sent = start(t, strings.NewReader("three\nfour\n"), "send", "--server", addr, "--to", "desk", "--wait", "accepted", "--json", "--lines")
	sent.event("accepted")
	sent.event("accepted")
	sent.ends(exitOK, "")
	listener = start(t, nil, "listen", "--server", addr, "--id", "desk", "--json", "--count", "2")
	listener.event("up")
	for _, line := range []string{"three", "four"} {
		if e := listener.event("message"); e["content"] != line {
			t.Errorf("got %v", e)
		}
	}
	listener.ends(exitOK, "")
}

func TestQueueFlags(t *testing.T) {
	for _, args := range [][]string{{"--data-dir=", "--queue-broadcasts"}, {"--data-dir=", "--queue-unread"}, {"--queue-for", "all"}, {"--queue-for", "desk", "--no-queues"}, {"--queue-messages", "-1"}, {"--queue-age", "7"}} {
		c := start(t, nil, append([]string{"server", "--port", "0"}, args...)...)
		c.ends(exitUsage, "")
	}
	server := start(t, nil, "server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", t.TempDir(), "--json", "--no-queues")
	addr := server.event("listening")["addr"].(string)
	sent := start(t, nil, "send", "--server", addr, "--to", "expected", "--wait", "accepted", "x")
	sent.ends(exitFail, "unknown client")
	server.stop()
	server.ends(exitOK, "")
	server = start(t, nil, "server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", t.TempDir(), "--json", "--queue-for", "expected")
	addr = server.event("listening")["addr"].(string)
	sent = start(t, nil, "send", "--server", addr, "--to", "expected", "--wait", "accepted", "x")
	sent.ends(exitOK, "")
	server.stop()
	server.ends(exitOK, "")
}

// A server that is started before another one has ended waits for its port and its
// directory, and goes on with what it has.
func TestSuccessor(t *testing.T) {
	dir := t.TempDir()
	first := start(t, nil, "server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", dir, "--json", "--queue-for", "desk")
	addr := first.event("listening")["addr"].(string)
	_, port, _ := strings.Cut(addr, ":")
	second := []string{"server", "--ip", "127.0.0.1", "--port", port, "--data-dir", dir, "--json"}
	impatient := start(t, nil, second...)
	impatient.ends(exitFail, "cannot listen")
	sent := start(t, nil, "send", "--server", addr, "--to", "desk", "--wait", "accepted", "for later")
	sent.ends(exitOK, "")
	successor := start(t, nil, append(second, "--start-timeout", "1m")...)
	successor.untilStderr("waiting")
	first.stop()
	first.ends(exitOK, "stopped")
	successor.event("listening")
	listener := start(t, nil, "listen", "--server", addr, "--id", "desk", "--json", "--count", "1")
	listener.event("up")
	if e := listener.event("message"); e["content"] != "for later" {
		t.Errorf("got %v", e)
	}
	listener.ends(exitOK, "")
	successor.stop()
	successor.ends(exitOK, "")
}

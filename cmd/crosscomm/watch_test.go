package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// Who is there comes first, then who comes and goes, and never the command itself.
func TestWatch(t *testing.T) {
	_, addr := startServer(t)
	desk := start(t, nil, "listen", "--server", addr, "--id", "desk", "--json")
	desk.event("up")
	watch := start(t, nil, "clients", "--server", addr, "--id", "me", "--watch", "--json")
	told := func(event, id string) {
		t.Helper()
		e := watch.event(event)
		if at, ok := e["time"].(float64); len(e) != 3 || e["client_id"] != id || !ok || at < 1e9 {
			t.Errorf("got %v, want %s of %s", e, event, id)
		}
	}
	told("present", "desk")
	second := start(t, nil, "listen", "--server", addr, "--id", "desk", "--json")
	second.event("up")
	told("replaced", "desk")
	desk.ends(exitFail, "another client has logged in with this id")
	start(t, nil, "send", "--server", addr, "--id", "brief", "x").ends(exitOK, "")
	told("joined", "brief")
	told("left", "brief")
	second.stop()
	second.ends(exitOK, "")
	told("left", "desk")
	watch.stop()
	watch.ends(exitOK, "")
}

// People read lines.
func TestWatchForPeople(t *testing.T) {
	_, addr := startServer(t)
	desk := start(t, nil, "listen", "--server", addr, "--id", "desk", "--json")
	desk.event("up")
	watch := start(t, nil, "clients", "--server", addr, "--watch")
	for _, kind := range []string{"present", "left"} {
		line, err := watch.stdout.ReadString('\n')
		if err != nil || !strings.HasSuffix(line, "  desk  "+kind+"\n") {
			t.Errorf("got %q, %v", line, err)
		}
		desk.stop()
	}
	watch.stop()
	watch.ends(exitOK, "")
}

// The server goes and comes back: what is different then is printed.
func TestWatchReconnects(t *testing.T) {
	port := fmt.Sprint(testkit.FreePort(t))
	serve := func() *command {
		s := start(t, nil, "server", "--ip", "127.0.0.1", "--port", port, "--data-dir", t.TempDir(), "--json")
		s.event("listening")
		return s
	}
	server := serve()
	desk := start(t, nil, "listen", "--server", ":"+port, "--id", "desk", "--json")
	desk.event("up")
	watch := start(t, nil, "clients", "--server", ":"+port, "--watch", "--json")
	watch.event("present")
	desk.stop()
	desk.ends(exitOK, "")
	watch.event("left")
	server.stop()
	server.ends(exitOK, "")
	watch.untilStderr("reconnecting")
	server = serve()
	desk = start(t, nil, "listen", "--server", ":"+port, "--id", "desk", "--json")
	desk.event("up")
	if e := watch.next(); e["client_id"] != "desk" || e["event"] != "joined" {
		t.Errorf("got %v", e)
	}
	watch.stop()
	watch.ends(exitOK, "")
	desk.stop()
	desk.ends(exitOK, "")
	server.stop()
	server.ends(exitOK, "")
}

// A server that is not ours, output that cannot be written, and another program that takes
// the id.
func TestWatchFails(t *testing.T) {
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, NoStateFile: true})
	if err != nil {
		t.Fatal(err)
	}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Sec-WebSocket-Protocol")
		svc.ServeHTTP(w, r)
	}))
	defer plain.Close()
	defer svc.Stop(context.Background())
	start(t, nil, "clients", "--server", "ws"+strings.TrimPrefix(plain.URL, "http"), "--watch").ends(exitFail, "does not speak crosscomm.v3")

	_, addr := startServer(t)
	desk := start(t, nil, "listen", "--server", addr, "--id", "desk", "--json")
	desk.event("up")
	broken := start(t, nil, "clients", "--server", addr, "--watch")
	broken.broken()
	broken.ends(exitFail, "standard output: ")

	watch := start(t, nil, "clients", "--server", addr, "--id", "me", "--watch", "--json")
	watch.event("present")
	start(t, nil, "send", "--server", addr, "--id", "me", "x").ends(exitOK, "")
	watch.ends(exitFail, "another client has logged in with this id")
	desk.stop()
	desk.ends(exitOK, "")

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if code := run(ctx, []string{"clients", "--server", addr, "--watch"}, console{}); code != exitOK {
		t.Errorf("Ctrl-C before the login: %d", code)
	}
}

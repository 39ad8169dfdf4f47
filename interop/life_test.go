package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/filelock"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// A Python client whose heartbeats end becomes unreachable, and its next
// heartbeat brings it back.
func TestHeartbeatTimeout(t *testing.T) {
	server, port, _ := startGoServer(t, crosscomm.Config{HeartbeatInterval: 100 * time.Millisecond, HeartbeatTimeout: 700 * time.Millisecond}, "127.0.0.1:0")
	p := startPython(t)
	a := goClient(t, "go", port, crosscomm.Config{HeartbeatInterval: 100 * time.Millisecond})
	p.client("py", port, map[string]any{"interval": 0.1})
	online := func() bool { return slices.Contains(server.GetOnlineClients(), "py") }
	testkit.Eventually(t, "py is online", online)
	p.call("stop_heartbeats", map[string]any{"name": "py"})
	testkit.Eventually(t, "py has timed out", func() bool { return !online() })
	ctx := testContext(t)
	if list, err := a.ListClients(ctx, true); err != nil || list.TotalCount != 1 {
		t.Errorf("after the time-out: %+v, %v", list, err)
	}
	if err := server.SendMessage(ctx, "lost", crosscomm.TypeText, "py"); !errors.Is(err, crosscomm.ErrOffline) {
		t.Errorf("to one who has timed out: %v", err)
	}
	testkit.Eventually(t, "py is back", func() bool {
		p.call("heartbeat_once", map[string]any{"name": "py"})
		return server.SendMessage(ctx, "welcome back", crosscomm.TypeText, "py") == nil
	})
	if e := p.message("py"); e.Content != `"welcome back"` {
		t.Errorf("got %+v", e)
	}
}

// Our client's heartbeats keep it online on the real server, with a short
// time-out.
func TestGoHeartbeatsOnPythonServer(t *testing.T) {
	p := startPython(t)
	port := p.server("server", 0, map[string]any{"interval": 0.1, "timeout": 3.0})
	goClient(t, "go", port, crosscomm.Config{HeartbeatInterval: 100 * time.Millisecond})
	observer := goClient(t, "observer", port, crosscomm.Config{HeartbeatInterval: 50 * time.Millisecond})
	ctx := testContext(t)
	for end := time.After(5 * time.Second); ; {
		list, err := observer.ListClients(ctx, true)
		if err != nil || list.TotalCount != 2 {
			t.Fatalf("%+v, %v", list, err)
		}
		select {
		case <-end:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Two programs with one id: the newer one has it, also after the older one's
// connection has ended.
func TestTakeOver(t *testing.T) {
	server, port, _ := startGoServer(t, crosscomm.Config{}, "127.0.0.1:0")
	p, q := startPython(t), startPython(t)
	p.client("robot", port, nil)
	testkit.Eventually(t, "the first is online", func() bool { return len(server.GetOnlineClients()) == 1 })
	q.client("robot", port, nil)
	testkit.Eventually(t, "the first is disconnected", func() bool {
		return string(p.call("connected", map[string]any{"name": "robot"})) == "false"
	})
	ctx := testContext(t)
	if err := server.SendMessage(ctx, "for the newer", crosscomm.TypeText, "robot"); err != nil {
		t.Fatal(err)
	}
	if e := q.message("robot"); e.Content != `"for the newer"` {
		t.Errorf("got %+v", e)
	}
	// Then a Go client takes it, and a Python one takes it back.
	down := make(chan error, 1)
	goClient(t, "robot", port, crosscomm.Config{OnDown: func(err error) { down <- err }})
	testkit.Eventually(t, "the second is disconnected", func() bool {
		return string(q.call("connected", map[string]any{"name": "robot"})) == "false"
	})
	p.login("robot")
	if err := testkit.Receive(t, down); !errors.Is(err, crosscomm.ErrReplaced) {
		t.Errorf("OnDown: %v", err)
	}
	if got := server.GetOnlineClients(); !slices.Equal(got, []string{"robot"}) {
		t.Errorf("online: %v", got)
	}
}

// Either server is restarted: our client comes back by itself, with its
// listeners, and what was sent meanwhile arrives.
func TestReconnect(t *testing.T) {
	for _, serverIn := range []string{"Python", "Go"} {
		t.Run(serverIn+" server", func(t *testing.T) {
			p := startPython(t)
			dir := t.TempDir()
			port := testkit.FreePort(t)
			var stop func()
			if serverIn == "Go" {
				_, _, stop = startGoServer(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile)}, fmt.Sprintf("127.0.0.1:%d", port))
			} else {
				p.server("server", port, nil)
				stop = func() { p.call("stop_server", map[string]any{"name": "server"}) }
			}
			up, down := make(chan bool, 10), make(chan error, 10)
			a := goClient(t, "go_a", port, crosscomm.Config{OnUp: func() { up <- true }, OnDown: func(err error) { down <- err }})
			onA := collect(a)
			testkit.Receive(t, up)
			for round := range 3 {
				stop()
				if err := testkit.Receive(t, down); errors.Is(err, crosscomm.ErrReplaced) {
					t.Fatal(err)
				}
				sent := make(chan error, 1)
				go func() { sent <- a.SendMessage(context.Background(), "while down", crosscomm.TypeText, "all") }()
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
				err := a.SendMessage(ctx, "too impatient", crosscomm.TypeText, "all")
				cancel()
				if !errors.Is(err, crosscomm.ErrNotConnected) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a send while down: %v", err)
				}
				if serverIn == "Go" {
					_, _, stop = startGoServer(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile)}, fmt.Sprintf("127.0.0.1:%d", port))
				} else {
					name := fmt.Sprint("server", round)
					p.server(name, port, nil)
					stop = func() { p.call("stop_server", map[string]any{"name": name}) }
				}
				testkit.Receive(t, up)
				if err := testkit.Receive(t, sent); err != nil {
					t.Error(err)
				}
				p.client(fmt.Sprint("py", round), port, nil)
				p.send(fmt.Sprint("py", round), "text", "'hello again'", "go_a")
				if m := testkit.Receive(t, onA); m.Text() != "hello again" {
					t.Errorf("got %+v", m)
				}
			}
		})
	}
}

// The state file that one server leaves the other reads.
func TestStateFileIsShared(t *testing.T) {
	p := startPython(t)
	dir := t.TempDir()
	_, port, stop := startGoServer(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile)}, "127.0.0.1:0")
	goClient(t, "数字 1: [x]", port, crosscomm.Config{})
	goClient(t, "123", port, crosscomm.Config{})
	goClient(t, "yes", port, crosscomm.Config{})
	odd := []string{"<<", "2001-99-99", "2001-01-01", ".3_", "1_000", "190:20:30", "0x1F", "~", "=", "- a", "a: b", "'\"\\", "é😀", ".inf", "n"}
	for _, id := range odd {
		goClient(t, id, port, crosscomm.Config{})
	}
	p.client("py", port, nil)
	stop()
	raw := p.call("read_state", map[string]any{"path": filepath.Join(dir, "cross_comm_clients.yaml")})
	var states map[string]struct {
		Status   string  `json:"status"`
		LastSeen float64 `json:"last_seen"`
	}
	if err := json.Unmarshal(raw, &states); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	for _, id := range append(odd, "数字 1: [x]", "123", "yes", "py") {
		s, ok := states[id]
		if age := time.Since(time.UnixMicro(int64(s.LastSeen * 1e6))).Abs(); !ok || s.Status != "offline" || age > time.Hour {
			t.Errorf("%q: %+v in %s", id, s, raw)
		}
	}
	p.call("write_state", map[string]any{"path": filepath.Join(dir, "cross_comm_clients.yaml"), "add": "from python"})
	server, _, _ := startGoServer(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile)}, "127.0.0.1:0")
	testkit.Eventually(t, "the server has read all clients", func() bool { return len(server.Clients()) == len(odd)+5 })
}

// Our lock and Python's filelock keep each other out.
func TestLockIsShared(t *testing.T) {
	p := startPython(t)
	path := filepath.Join(t.TempDir(), "x.lock")
	p.call("lock", map[string]any{"path": path})
	if _, err := filelock.Lock(path, 50*time.Millisecond); !errors.Is(err, filelock.ErrHeld) {
		t.Errorf("while Python holds it: %v", err)
	}
	p.call("unlock", nil)
	unlock, err := filelock.Lock(path, testkit.Patience)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(p.call("try_lock", map[string]any{"path": path})); got != "false" {
		t.Errorf("while we hold it, Python got %s", got)
	}
	unlock()
	if got := string(p.call("try_lock", map[string]any{"path": path})); got != "true" {
		t.Errorf("after that Python got %s", got)
	}
}

package interop

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/filelock"
	"github.com/crosscomm/crosscomm-go/internal/testport"
)

// The contents are those of the recordings: what Python was told to send, what
// stood on the wire, and what a Python listener got.
//
//go:embed testdata/contents.jsonl
var contents string

type content struct {
	Name, Type, Wire, Python, PyType, Received string
}

func forEachContent(t *testing.T, do func(t *testing.T, c content)) {
	for line := range strings.Lines(contents) {
		var c content
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		t.Run(c.Name, func(t *testing.T) { do(t, c) })
	}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func startGoServer(t *testing.T, cfg crosscomm.Config, addr string) (svc *crosscomm.Service, port int, stop func()) {
	t.Helper()
	cfg.Role = crosscomm.Server
	if cfg.DataDir == "" {
		cfg.DataDir = t.TempDir()
	}
	svc, err := crosscomm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := receive(t, done); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return svc, l.Addr().(*net.TCPAddr).Port, stop
}

func goClient(t *testing.T, id string, port int, cfg crosscomm.Config) *crosscomm.Service {
	t.Helper()
	cfg.Role, cfg.ClientID, cfg.Port = crosscomm.Client, id, port
	cfg.BackoffMin, cfg.BackoffMax = 5*time.Millisecond, 100*time.Millisecond
	svc, err := crosscomm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Logout(context.Background()) })
	return svc
}

func collect(svc *crosscomm.Service) <-chan *crosscomm.Message {
	ch := make(chan *crosscomm.Message, 100_000)
	svc.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		ch <- m
		return nil
	}, crosscomm.ListenerOptions{})
	return ch
}

func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !condition() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("it never came true: %s", what)
		}
	}
}

// sameJSON compares JSON texts, which may hold NaN, by what they say.
func sameJSON(a, b string) bool {
	decode := func(text string) string {
		m := crosscomm.Message{MsgType: crosscomm.TypeDict, Content: json.RawMessage(text)}
		d, err := m.ToDict()
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%#v", d["content"])
	}
	return decode(a) == decode(b)
}

// checkGo checks what a Go listener got of a content that Python sent.
func checkGo(t *testing.T, m *crosscomm.Message, c content) {
	t.Helper()
	if string(m.MsgType) != c.Type || !sameJSON(string(m.Content), c.Wire) {
		t.Errorf("got %s %s, want %s %s", m.MsgType, m.Content, c.Type, c.Wire)
	}
	switch {
	case c.PyType == "bytes":
		b, err := m.Bytes()
		if got, _ := json.Marshal(base64.StdEncoding.EncodeToString(b)); err != nil || string(got) != c.Received {
			t.Errorf("bytes: got %s, %v; want %s", got, err, c.Received)
		}
	case c.Type == "bytes":
		if b, err := m.Bytes(); err == nil {
			t.Errorf("Python leaves %s undecoded; we made %q of it", c.Wire, b)
		}
	case c.Type == "json":
		var v any
		if err := m.Decode(&v); err != nil {
			t.Error(err)
		}
	}
}

// Python clients on our server: every content passes from Python to Python, to
// a Go client and to the server's listener, directly and to all.
func TestPythonClientsOnGoServer(t *testing.T) {
	server, port, _ := startGoServer(t, crosscomm.Config{}, "127.0.0.1:0")
	onServer := collect(server)
	p := startPython(t)
	p.client("py_a", port, nil)
	p.client("py_b", port, nil)
	onGo := collect(goClient(t, "go", port, crosscomm.Config{}))

	forEachContent(t, func(t *testing.T, c content) {
		p.send("py_a", c.Type, c.Python, "all")
		checkGo(t, receive(t, onGo), c)
		checkGo(t, receive(t, onServer), c)
		if e := p.message("py_b"); e.PyType != c.PyType || e.Content != c.Received || e.OSSKey != nil {
			t.Errorf("Python got %+v, want %+v", e, c)
		}
		p.send("py_a", c.Type, c.Python, "py_b")
		if e := p.message("py_b"); e.PyType != c.PyType || e.Content != c.Received || e.To != "py_b" {
			t.Errorf("Python got %+v, want %+v", e, c)
		}
		p.send("py_a", c.Type, c.Python, "go")
		checkGo(t, receive(t, onGo), c)
		p.send("py_a", c.Type, c.Python, "server")
		checkGo(t, receive(t, onServer), c)
	})
	if len(onGo) != 0 || len(onServer) != 0 {
		t.Errorf("%d messages too many at the Go client, %d at the server", len(onGo), len(onServer))
	}
	if n := server.Stats().Refused; n != 0 {
		t.Errorf("%d frames of real Python peers were refused", n)
	}
}

// Our client sends every type; the real Python client on the real Python server
// is the judge of what came. The same on our server.
func TestGoSendsToPython(t *testing.T) {
	for _, serverIn := range []string{"Python", "Go"} {
		t.Run(serverIn+" server", func(t *testing.T) {
			p := startPython(t)
			var port int
			if serverIn == "Go" {
				_, port, _ = startGoServer(t, crosscomm.Config{}, "127.0.0.1:0")
			} else {
				port = p.server("server", 0, nil)
			}
			a := goClient(t, "go_a", port, crosscomm.Config{})
			onB := collect(goClient(t, "go_b", port, crosscomm.Config{}))
			p.client("py", port, nil)
			ctx := testContext(t)
			forEachContent(t, func(t *testing.T, c content) {
				var sent any = json.RawMessage(c.Wire)
				typ := crosscomm.MsgType(c.Type)
				switch typ {
				case crosscomm.TypeBytes:
					if c.PyType == "bytes" {
						var b []byte
						if err := json.Unmarshal([]byte(c.Wire), &b); err != nil {
							t.Fatal(err)
						}
						sent = b
						break
					}
					fallthrough
				case crosscomm.TypeText, crosscomm.TypeJSON:
					// A Go string holds no lone surrogate, and bytes are no list:
					// these go as a dict, which may be any JSON value.
					var s *string
					if err := json.Unmarshal([]byte(c.Wire), &s); err == nil && s != nil && !strings.Contains(c.Wire, `\ud800y`) {
						sent = *s
					} else {
						typ = crosscomm.TypeDict
					}
				}
				for _, to := range []string{"all", "py"} {
					if err := a.SendMessage(ctx, sent, typ, to); err != nil {
						t.Fatal(err)
					}
					if e := p.message("py"); e.PyType != c.PyType || !sameJSON(e.Content, c.Received) || e.Type != string(typ) || e.Sender != "go_a" || e.OSSKey != nil {
						t.Errorf("Python got %+v, want %+v", e, c)
					}
				}
				if m := receive(t, onB); !sameJSON(string(m.Content), c.Wire) {
					t.Errorf("Go got %s, want %s", m.Content, c.Wire)
				}
			})
			nan := map[string]any{"x": json.RawMessage("NaN"), "big": json.RawMessage("123456789012345678901234567890")}
			if err := a.SendMessage(ctx, nan, crosscomm.TypeDict, "py"); err != nil {
				t.Fatal(err)
			}
			if e := p.message("py"); e.Content != `{"big": 123456789012345678901234567890, "x": NaN}` {
				t.Errorf("Python got %s", e.Content)
			}
		})
	}
}

// Many messages from one Python sender to one receiver of each kind: all, in
// order.
func TestOrder(t *testing.T) {
	_, port, _ := startGoServer(t, crosscomm.Config{}, "127.0.0.1:0")
	p := startPython(t)
	p.client("py_a", port, nil)
	p.client("py_b", port, nil)
	onGo := collect(goClient(t, "go", port, crosscomm.Config{}))
	const count = 2000
	if got := string(p.call("send_many", map[string]any{"name": "py_a", "count": count, "to": "all", "prefix": "n"})); got != fmt.Sprint(count) {
		t.Fatalf("Python sent %s", got)
	}
	for i := range count {
		if m := receive(t, onGo); m.Text() != fmt.Sprint("n", i) {
			t.Fatalf("Go: message %d is %s", i, m.Text())
		}
		if e := p.message("py_b"); e.Content != fmt.Sprintf(`"n%d"`, i) {
			t.Fatalf("Python: message %d is %s", i, e.Content)
		}
	}
}

func TestLists(t *testing.T) {
	for _, serverIn := range []string{"Python", "Go"} {
		t.Run(serverIn+" server", func(t *testing.T) {
			p := startPython(t)
			var port int
			var server *crosscomm.Service
			if serverIn == "Go" {
				server, port, _ = startGoServer(t, crosscomm.Config{}, "127.0.0.1:0")
			} else {
				port = p.server("server", 0, nil)
			}
			a := goClient(t, "go_a", port, crosscomm.Config{})
			p.client("py", port, nil)
			ctx := testContext(t)
			// A Python login does not wait for the answer, so it may be seen a
			// little later.
			eventually(t, "both are online", func() bool {
				list, err := a.ListClients(ctx, true)
				if err != nil {
					t.Fatal(err)
				}
				return list.TotalCount == 2 && len(list.Clients) == 2 && list.OnlyShowOnline
			})
			list, err := a.ListClients(ctx, false)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range list.Clients {
				if !c.Online || time.Since(c.LastHeartbeat).Abs() > time.Hour || time.Since(c.LoginTime).Abs() > time.Hour {
					t.Errorf("got %+v", c)
				}
			}
			var fromPython struct {
				Clients []struct {
					ID     string   `json:"client_id"`
					Status string   `json:"status"`
					Last   float64  `json:"last_heartbeat"`
					Login  *float64 `json:"login_time"`
				}
				Total int  `json:"total_count"`
				Only  bool `json:"only_show_online"`
			}
			raw := p.call("list_clients", map[string]any{"name": "py", "online": true})
			if err := json.Unmarshal(raw, &fromPython); err != nil || fromPython.Total != 2 || !fromPython.Only {
				t.Fatalf("Python's list: %s, %v", raw, err)
			}
			for _, c := range fromPython.Clients {
				if c.Status != "online" || c.Last == 0 || c.Login == nil {
					t.Errorf("Python's list: %s", raw)
				}
			}
			if server == nil {
				return
			}
			// The original shows those who logged out as online; we do not.
			p.call("logout", map[string]any{"name": "py"})
			eventually(t, "py is offline", func() bool { return slices.Equal(server.GetOnlineClients(), []string{"go_a"}) })
			list, err = a.ListClients(ctx, false)
			if err != nil || list.TotalCount != 2 || list.Clients[1].Online {
				t.Errorf("after py's logout: %+v, %v", list, err)
			}
		})
	}
}

// A Python client whose heartbeats end becomes unreachable, and its next
// heartbeat brings it back.
func TestHeartbeatTimeout(t *testing.T) {
	server, port, _ := startGoServer(t, crosscomm.Config{HeartbeatInterval: 100 * time.Millisecond, HeartbeatTimeout: 700 * time.Millisecond}, "127.0.0.1:0")
	p := startPython(t)
	a := goClient(t, "go", port, crosscomm.Config{HeartbeatInterval: 100 * time.Millisecond})
	p.client("py", port, map[string]any{"interval": 0.1})
	online := func() bool { return slices.Contains(server.GetOnlineClients(), "py") }
	eventually(t, "py is online", online)
	p.call("stop_heartbeats", map[string]any{"name": "py"})
	eventually(t, "py has timed out", func() bool { return !online() })
	ctx := testContext(t)
	if list, err := a.ListClients(ctx, true); err != nil || list.TotalCount != 1 {
		t.Errorf("after the time-out: %+v, %v", list, err)
	}
	if err := server.SendMessage(ctx, "lost", crosscomm.TypeText, "py"); !errors.Is(err, crosscomm.ErrOffline) {
		t.Errorf("to one who has timed out: %v", err)
	}
	eventually(t, "py is back", func() bool {
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
	eventually(t, "the first is online", func() bool { return len(server.GetOnlineClients()) == 1 })
	q.client("robot", port, nil)
	eventually(t, "the first is disconnected", func() bool {
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
	eventually(t, "the second is disconnected", func() bool {
		return string(q.call("connected", map[string]any{"name": "robot"})) == "false"
	})
	p.login("robot")
	if err := receive(t, down); !errors.Is(err, crosscomm.ErrReplaced) {
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
			port := testport.Free(t)
			var stop func()
			if serverIn == "Go" {
				_, _, stop = startGoServer(t, crosscomm.Config{DataDir: dir}, fmt.Sprintf("127.0.0.1:%d", port))
			} else {
				p.server("server", port, nil)
				stop = func() { p.call("stop_server", map[string]any{"name": "server"}) }
			}
			up, down := make(chan bool, 10), make(chan error, 10)
			a := goClient(t, "go_a", port, crosscomm.Config{OnUp: func() { up <- true }, OnDown: func(err error) { down <- err }})
			onA := collect(a)
			receive(t, up)
			for round := range 3 {
				stop()
				if err := receive(t, down); errors.Is(err, crosscomm.ErrReplaced) {
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
					_, _, stop = startGoServer(t, crosscomm.Config{DataDir: dir}, fmt.Sprintf("127.0.0.1:%d", port))
				} else {
					name := fmt.Sprint("server", round)
					p.server(name, port, nil)
					stop = func() { p.call("stop_server", map[string]any{"name": name}) }
				}
				receive(t, up)
				if err := receive(t, sent); err != nil {
					t.Error(err)
				}
				p.client(fmt.Sprint("py", round), port, nil)
				p.send(fmt.Sprint("py", round), "text", "'hello again'", "go_a")
				if m := receive(t, onA); m.Text() != "hello again" {
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
	_, port, stop := startGoServer(t, crosscomm.Config{DataDir: dir}, "127.0.0.1:0")
	goClient(t, "数字 1: [x]", port, crosscomm.Config{})
	goClient(t, "123", port, crosscomm.Config{})
	goClient(t, "yes", port, crosscomm.Config{})
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
	for _, id := range []string{"数字 1: [x]", "123", "yes", "py"} {
		s, ok := states[id]
		if age := time.Since(time.UnixMicro(int64(s.LastSeen * 1e6))).Abs(); !ok || s.Status != "offline" || age > time.Hour {
			t.Errorf("%q: %+v in %s", id, s, raw)
		}
	}
	p.call("write_state", map[string]any{"path": filepath.Join(dir, "cross_comm_clients.yaml"), "add": "from python"})
	server, _, _ := startGoServer(t, crosscomm.Config{DataDir: dir}, "127.0.0.1:0")
	eventually(t, "the server has read the five clients", func() bool { return len(server.Clients()) == 5 })
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
	unlock, err := filelock.Lock(path, patience)
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

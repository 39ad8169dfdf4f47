package interop

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
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
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	t.Cleanup(cancel)
	return ctx
}

func startGoServer(t *testing.T, cfg crosscomm.Config, addr string) (svc *crosscomm.Service, port int, stop func()) {
	t.Helper()
	cfg.Role = crosscomm.Server
	if cfg.StateFile == "" {
		cfg.StateFile = filepath.Join(t.TempDir(), crosscomm.DefaultStateFile)
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
		if err := testkit.Receive(t, done); err != nil {
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
		checkGo(t, testkit.Receive(t, onGo), c)
		checkGo(t, testkit.Receive(t, onServer), c)
		if e := p.message("py_b"); e.PyType != c.PyType || e.Content != c.Received || e.OSSKey != nil {
			t.Errorf("Python got %+v, want %+v", e, c)
		}
		p.send("py_a", c.Type, c.Python, "py_b")
		if e := p.message("py_b"); e.PyType != c.PyType || e.Content != c.Received || e.To != "py_b" {
			t.Errorf("Python got %+v, want %+v", e, c)
		}
		p.send("py_a", c.Type, c.Python, "go")
		checkGo(t, testkit.Receive(t, onGo), c)
		p.send("py_a", c.Type, c.Python, "server")
		checkGo(t, testkit.Receive(t, onServer), c)
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
				if m := testkit.Receive(t, onB); !sameJSON(string(m.Content), c.Wire) {
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
		if m := testkit.Receive(t, onGo); m.Text() != fmt.Sprint("n", i) {
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
			testkit.Eventually(t, "both are online", func() bool {
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
			testkit.Eventually(t, "py is offline", func() bool { return slices.Equal(server.GetOnlineClients(), []string{"go_a"}) })
			list, err = a.ListClients(ctx, false)
			if err != nil || list.TotalCount != 2 || list.Clients[1].Online {
				t.Errorf("after py's logout: %+v, %v", list, err)
			}
		})
	}
}

// With compression by choice, the real Python client, which offers it, gets and
// sends compressed frames.
func TestCompression(t *testing.T) {
	_, port, _ := startGoServer(t, crosscomm.Config{Compression: true}, "127.0.0.1:0")
	p := startPython(t)
	p.client("py_a", port, nil)
	p.client("py_b", port, nil)
	a := goClient(t, "go", port, crosscomm.Config{Compression: true})
	onGo := collect(a)
	for _, n := range []int{1, 500, 70_000} {
		text := strings.Repeat("压缩 ", n)
		p.send("py_a", "text", fmt.Sprintf("'压缩 ' * %d", n), "all")
		if m := testkit.Receive(t, onGo); m.Text() != text {
			t.Errorf("Go got %d bytes, want %d", len(m.Text()), len(text))
		}
		want := len(`""`) + n*len(`\u538b\u7f29 `) // as the driver reports it
		if e := p.message("py_b"); len(e.Content) != want {
			t.Errorf("Python got %d bytes, want %d", len(e.Content), want)
		}
		if err := a.SendMessage(testContext(t), text, crosscomm.TypeText, "py_b"); err != nil {
			t.Fatal(err)
		}
		if e := p.message("py_b"); len(e.Content) != want {
			t.Errorf("Python got %d bytes, want %d", len(e.Content), want)
		}
	}
}

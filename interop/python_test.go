// Package interop tests crosscomm against the real pywayne.cross_comm: the
// original is the judge of the wire.
package interop

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/testkit/pywayne"
	"github.com/crosscomm/crosscomm-go/internal/testkit/subprocess"
)

//go:embed testdata/peer.py
var peerScript string

func TestMain(m *testing.M) {
	if role := os.Getenv(asProcess); role != "" {
		if err := runAs(role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	for _, name := range []string{"OSS_ENDPOINT", "OSS_BUCKET_NAME", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_REGION"} {
		os.Unsetenv(name) // no test may use a developer's own bucket
	}
	goleak.VerifyTestMain(m)
}

// python makes the environment once for all tests: a failure would be that of
// each of them, and take as long.
var python = sync.OnceValues(func() (string, error) { return pywayne.Interpreter(context.Background()) })

// pyProcess is a Python process that runs real pywayne services.
type pyProcess struct {
	t       *testing.T
	process *subprocess.Process
	stdin   io.WriteCloser
	events  chan event
	done    <-chan struct{} // closed when it has ended

	mu      sync.Mutex
	next    int
	waiting map[int]chan answer
}

// event is what a Python listener was given. Content is JSON as Python writes
// it, of bytes the base64.
type event struct {
	Event, Service, Type, Sender, To, Content, PyType string
	MsgID                                             string  `json:"msg_id"`
	OSSKey                                            *string `json:"oss_key"`
}

type answer struct {
	ID     int
	Result json.RawMessage
	Error  string
}

// pythonInterpreter skips the test, loudly, if there is no Python; in CI that
// is a failure.
func pythonInterpreter(t testing.TB) string {
	t.Helper()
	interpreter, err := python()
	if err == nil && interpreter == "" {
		t.Skipf("SKIPPED: there is no python3 on this machine, so nothing was tested against the original")
	}
	if err != nil {
		t.Fatal(err)
	}
	return interpreter
}

func startPython(t *testing.T) *pyProcess {
	t.Helper()
	interpreter := pythonInterpreter(t)
	cmd := exec.Command(interpreter, "-u", "-c", peerScript)
	cmd.Dir = t.TempDir() // the state file goes there
	cmd.Env = append(os.Environ(), "OSS_ENDPOINT=http://127.0.0.1:1", "OSS_BUCKET_NAME=bucket", "OSS_ACCESS_KEY_ID=k", "OSS_ACCESS_KEY_SECRET=s")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &pyProcess{t: t, stdin: stdin, events: make(chan event, 100_000), waiting: map[int]chan answer{}}
	python, err := subprocess.Start(cmd, p.line)
	if err != nil {
		t.Fatal(err)
	}
	p.process, p.done = python, python.Ended()
	t.Cleanup(func() {
		python.Stop()
		if t.Failed() {
			t.Logf("the end of what Python printed:\n%s", &python.Stderr)
		}
	})
	if e := p.event(); e.Event != "ready" {
		t.Fatalf("Python began with %+v", e)
	}
	return p
}

// line takes what Python says: an event or an answer.
func (p *pyProcess) line(text []byte) {
	var e event
	var a answer
	if json.Unmarshal(text, &e) == nil && e.Event != "" {
		p.events <- e
		return
	}
	if err := json.Unmarshal(text, &a); err != nil {
		a.Error = fmt.Sprintf("%v: %s", err, text)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch := p.waiting[a.ID]; ch != nil {
		ch <- a
	}
}

// call gives an order and returns its result.
func (p *pyProcess) call(cmd string, args map[string]any) json.RawMessage {
	p.t.Helper()
	p.mu.Lock()
	p.next++
	order := map[string]any{"id": p.next, "cmd": cmd}
	for k, v := range args {
		order[k] = v
	}
	ch := make(chan answer, 1)
	p.waiting[p.next] = ch
	p.mu.Unlock()
	line, err := json.Marshal(order)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		p.t.Fatal(err)
	}
	select {
	case a := <-ch:
		if a.Error != "" {
			p.t.Fatalf("Python, %s: %s", cmd, a.Error)
		}
		return a.Result
	case <-p.done:
		p.t.Fatalf("Python ended during %s", cmd)
	case <-time.After(testkit.Patience):
		p.t.Fatalf("Python does not answer to %s", cmd)
	}
	panic("unreachable")
}

func (p *pyProcess) event() event {
	p.t.Helper()
	select {
	case e := <-p.events:
		return e
	case <-p.done:
		p.t.Fatal("Python has ended")
	case <-time.After(testkit.Patience):
		p.t.Fatal("no event from Python")
	}
	panic("unreachable")
}

// message returns the next event of the service that is not the login response,
// which the original gives to its listeners too.
func (p *pyProcess) message(service string) event {
	p.t.Helper()
	for {
		e := p.event()
		if e.Type == "login_response" {
			continue
		}
		if e.Event != "message" || e.Service != service {
			p.t.Fatalf("got %+v, want a message for %s", e, service)
		}
		return e
	}
}

func (p *pyProcess) client(id string, port int, args map[string]any) {
	p.t.Helper()
	all := map[string]any{"name": id, "role": "client", "port": port, "client_id": id}
	for k, v := range args {
		all[k] = v
	}
	p.call("new", all)
	p.login(id)
}

func (p *pyProcess) login(id string) {
	p.t.Helper()
	if got := string(p.call("login", map[string]any{"name": id})); got != "true" {
		p.t.Fatalf("the Python client %s could not log in: %s", id, got)
	}
}

// server starts a Python server; port 0 takes a free one.
func (p *pyProcess) server(name string, port int, args map[string]any) int {
	p.t.Helper()
	all := map[string]any{"name": name, "role": "server", "port": port}
	for k, v := range args {
		all[k] = v
	}
	p.call("new", all)
	var got int
	if raw := p.call("start_server", map[string]any{"name": name}); json.Unmarshal(raw, &got) != nil {
		p.t.Fatalf("the Python server did not start: %s", raw)
	}
	return got
}

func (p *pyProcess) send(name, typ, python, to string) {
	p.t.Helper()
	if got := string(p.call("send", map[string]any{"name": name, "type": typ, "python": python, "to": to})); got != "true" {
		p.t.Fatalf("Python could not send %s as %s: %s", python, typ, got)
	}
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// The test binary is the program too, if this is set: so signals can be tried.
const asProgram = "CROSSCOMM_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	for _, name := range ossSettings { // a developer's own must not be used
		os.Unsetenv(name)
	}
	// Where the ids of the program's clients are kept track of.
	dir, err := os.MkdirTemp("", "crosscomm-test")
	if err != nil {
		panic(err)
	}
	os.Setenv("XDG_CACHE_HOME", dir)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

func TestConversation(t *testing.T) {
	server, addr := startServer(t)
	listen := start(t, nil, "listen", "--server", addr, "--id", "desk", "--json", "--count", "5")
	if e := listen.event("up"); e["client_id"] != "desk" || e["server"] != "ws://"+addr+"/" {
		t.Errorf("got %v", e)
	}
	if e := server.event("login"); e["client_id"] != "desk" {
		t.Errorf("got %v", e)
	}
	for _, args := range [][]string{{"hello"}, {"--to", "desk", "--type", "dict", `{"a": [1, 2]}`}, {"--type", "json", " [1] "}} {
		start(t, nil, append([]string{"send", "--server", addr, "--id", "sender"}, args...)...).ends(exitOK, "")
	}
	start(t, strings.NewReader("\x00\xff"), "send", "--server", addr, "--id", "sender", "--type", "bytes", "-").ends(exitOK, "")
	start(t, strings.NewReader("last"), "send", "--server", addr, "--id", "sender", "-").ends(exitOK, "")
	for _, want := range []struct{ typ, to, content string }{
		{"text", "all", "hello"}, {"dict", "desk", "map[a:[1 2]]"}, {"json", "all", " [1] "}, {"bytes", "all", "AP8="}, {"text", "all", "last"},
	} {
		e := listen.event("message")
		if len(e) != 8 || e["msg_type"] != want.typ || e["to_client_id"] != want.to || e["from_client_id"] != "sender" || e["oss_key"] != nil || fmt.Sprint(e["content"]) != want.content {
			t.Errorf("got %v, want %v", e, want)
		}
	}
	listen.ends(exitOK, "")
}

func TestLines(t *testing.T) {
	_, addr := startServer(t)
	listen := start(t, nil, "listen", "--server", addr, "--json", "--type", "json", "--from", "sensor", "--count", "3")
	listen.event("up")
	lines := "1\n\"two\"\r\nnot JSON\n3"
	send := start(t, strings.NewReader(lines), "send", "--server", addr, "--id", "sensor", "--type", "json", "--lines")
	send.ends(exitFail, "line 3: crosscomm: Deliver: bad content")
	if !strings.Contains(send.stderr.String(), "1 of 4 lines") {
		t.Errorf("standard error has %s", send.stderr)
	}
	for _, want := range []string{"1", `"two"`, "3"} {
		if e := listen.event("message"); e["content"] != want {
			t.Errorf("got %v, want %s", e, want)
		}
	}
	listen.ends(exitOK, "")
}

func TestClients(t *testing.T) {
	_, addr := startServer(t)
	start(t, nil, "send", "--server", addr, "--id", "gone", "x").ends(exitOK, "")
	list := start(t, nil, "clients", "--server", addr, "--id", "me", "--all", "--json")
	statuses := map[any]any{}
	for range 2 {
		line, err := list.stdout.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		var c map[string]any
		if err := json.Unmarshal(line, &c); err != nil || c["last_heartbeat"].(float64) < 1e9 || c["login_time"].(float64) < 1e9 {
			t.Fatalf("got %s, %v", line, err)
		}
		statuses[c["client_id"]] = c["status"]
	}
	list.ends(exitOK, "")
	if statuses["gone"] != "offline" || statuses["me"] != "online" {
		t.Errorf("got %v", statuses)
	}
	list = start(t, nil, "clients", "--server", addr, "--id", "me")
	header, _ := list.stdout.ReadString('\n')
	line, _ := list.stdout.ReadString('\n')
	if !strings.HasPrefix(header, "CLIENT") || !strings.HasPrefix(line, "me      online") {
		t.Errorf("got %s%s", header, line)
	}
	list.ends(exitOK, "")
}

// People read lines, in which nothing from the network can steer the terminal.
func TestListenForPeople(t *testing.T) {
	_, addr := startServer(t)
	listen := start(t, nil, "listen", "--server", addr, "--id", "desk", "--count", "2")
	listen.untilStderr("listening as desk")
	for range 2 {
		start(t, nil, "send", "--server", addr, "--id", "s", "--to", "desk", "red \x1b[31m\nx").ends(exitOK, "")
	}
	line, err := listen.stdout.ReadString('\n')
	if err != nil || !strings.HasSuffix(line, "s → desk  text: red \\x1b[31m\\nx\n") {
		t.Errorf("got %q, %v", line, err)
	}
	listen.ends(exitOK, "")
}

// Arguments reach the receiver to the byte, also where they are no text.
func TestBytesAsArgument(t *testing.T) {
	_, addr := startServer(t)
	listen := start(t, nil, "listen", "--server", addr, "--json", "--count", "1")
	listen.event("up")
	start(t, nil, "send", "--server", addr, "--type", "bytes", "\xff\xfe\x00").ends(exitOK, "")
	if e := listen.event("message"); e["content"] != "//4A" {
		t.Errorf("got %v", e)
	}
	listen.ends(exitOK, "")
}

// Programs without an --id use the same one again, but not two at a time.
func TestIDsAreUsedAgain(t *testing.T) {
	server, addr := startServer(t)
	listen := start(t, nil, "listen", "--server", addr, "--json")
	first := listen.event("up")["client_id"]
	server.event("login")
	var second any
	for round := range 3 {
		start(t, nil, "send", "--server", addr, "x").ends(exitOK, "")
		id := server.event("login")["client_id"]
		server.event("logout")
		if round == 0 {
			second = id
		}
		if id == first || id != second {
			t.Errorf("the ids are %v, %v and %v", first, second, id)
		}
	}
	listen.stop()
	listen.ends(exitOK, "")
}

func TestLongLines(t *testing.T) {
	_, addr := startServer(t)
	long := strings.Repeat("x", 5<<20)
	listen := start(t, nil, "listen", "--server", addr, "--json", "--count", "2")
	listen.event("up")
	send := start(t, strings.NewReader("one\n"+long+"\ntwo\n"+long), "send", "--server", addr, "--lines", "--json")
	for _, event := range []string{"sent", "failed", "sent", "failed"} {
		send.event(event)
	}
	send.ends(exitFail, "line 2: the line has more than")
	if !strings.Contains(send.stderr.String(), "2 of 4 lines") {
		t.Errorf("standard error has %s", send.stderr)
	}
	for _, want := range []string{"one", "two"} {
		if e := listen.event("message"); e["content"] != want {
			t.Errorf("got %v", e)
		}
	}
	listen.ends(exitOK, "")
}

// Output that cannot be written is a failure.
func TestBrokenOutput(t *testing.T) {
	_, addr := startServer(t)
	for _, args := range [][]string{{"listen", "--json"}, {"listen", "--count", "1"}, {"clients"}, {"clients", "--json"}} {
		c := start(t, nil, append(args, "--server", addr, "--id", "x")...)
		c.broken()
		ctx, cancel := context.WithCancel(context.Background())
		var sending sync.WaitGroup
		if args[0] == "listen" {
			sending.Go(func() { // until it has a message to print
				for ctx.Err() == nil {
					_ = run(ctx, []string{"send", "--server", addr, "--to", "x", "hello"}, console{strings.NewReader(""), io.Discard, io.Discard})
				}
			})
		}
		c.ends(exitFail, "standard output: ")
		cancel()
		sending.Wait()
	}
}

func TestDescribe(t *testing.T) {
	for content, want := range map[string]string{
		`"AAH/"`:                               "bytes: 3 bytes: 0001ff",
		`"` + strings.Repeat("AAAA", 20) + `"`: "bytes: 60 bytes: " + strings.Repeat("00", 32) + "…",
		`"hello world!"`:                       "bytes: hello world!",
	} {
		m, err := crosscomm.ParseMessage([]byte(`{"msg_id": "1", "from_client_id": "a", "to_client_id": "all", "msg_type": "bytes", "content": ` + content + `, "timestamp": 0}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := describe(m); !strings.HasSuffix(got, "  a → all  "+want) {
			t.Errorf("%s is described as %q", content, got)
		}
	}
}

func TestReachable(t *testing.T) {
	if got := reachable("10.1.2.3", "5"); got != "10.1.2.3:5" {
		t.Errorf("got %s", got)
	}
	host, port, err := net.SplitHostPort(reachable("0.0.0.0", "5"))
	if ip := net.ParseIP(host); err != nil || port != "5" || ip == nil || ip.IsUnspecified() {
		t.Errorf("all addresses become %s", host)
	}
}

// A server on all addresses, which tells the one it was given.
func TestAllAddresses(t *testing.T) {
	server := start(t, nil, "server", "--port", "0", "--data-dir", t.TempDir(), "--json")
	host, port, err := net.SplitHostPort(server.event("listening")["addr"].(string))
	if err != nil || host != "0.0.0.0" {
		t.Errorf("it listens on %s, %v", host, err)
	}
	start(t, nil, "send", "--server", ":"+port, "x").ends(exitOK, "")
	server.stop()
	server.ends(exitOK, "")
}

func TestListenTimeout(t *testing.T) {
	_, addr := startServer(t)
	start(t, nil, "listen", "--server", addr, "--count", "1", "--timeout", "0.05").ends(exitFail, "fewer than 1 messages came within 50ms")
	start(t, nil, "listen", "--server", addr, "--timeout", "50ms").ends(exitOK, "listening as")
}

func TestReplacedListenerEnds(t *testing.T) {
	_, addr := startServer(t)
	first := start(t, nil, "listen", "--server", addr, "--id", "same", "--json")
	first.event("up")
	second := start(t, nil, "listen", "--server", addr, "--id", "same", "--json")
	second.event("up")
	first.event("down")
	first.ends(exitFail, "another client has logged in with this id")
	second.stop()
	second.ends(exitOK, "")
}

// The server goes and comes back: listen tells, and gets what is sent then.
func TestListenReconnects(t *testing.T) {
	port := fmt.Sprint(testkit.FreePort(t))
	serve := func() *command {
		s := start(t, nil, "server", "--ip", "127.0.0.1", "--port", port, "--data-dir", t.TempDir(), "--json")
		s.event("listening")
		return s
	}
	listen := start(t, nil, "listen", "--server", ":"+port, "--id", "desk", "--json", "--retry", "--count", "1")
	server := serve()
	listen.event("up")
	server.stop()
	server.ends(exitOK, "")
	if e := listen.event("down"); e["error"] == "" {
		t.Errorf("got %v", e)
	}
	server = serve()
	listen.event("up")
	start(t, nil, "send", "--server", "127.0.0.1:"+port, "--to", "desk", "hello").ends(exitOK, "")
	listen.event("message")
	listen.ends(exitOK, "")
	server.stop()
	server.ends(exitOK, "")
}

func TestWrongUsage(t *testing.T) {
	for _, tc := range []struct {
		stderr string
		args   []string
	}{
		{"unknown flag --bogus", []string{"server", "--bogus"}},
		{"unexpected argument nonsense", []string{"nonsense"}},
		{"--port", []string{"server", "--port", "many"}},
		{"--port is 70000", []string{"server", "--port", "70000"}},
		{"--log-level", []string{"server", "--log-level", "loud"}},
		{"not a duration", []string{"server", "--heartbeat-timeout", "soon"}},
		{"--type", []string{"listen", "--type", "audio"}},
		{"--count is -1", []string{"listen", "--count=-1"}},
		{"nothing to send", []string{"send"}},
		{"give no content", []string{"send", "--lines", "x"}},
		{"--type", []string{"send", "--type", "audio", "x"}},
		{"--server", []string{"send", "--server", "", "x"}},
		{"must look like ws://", []string{"clients", "--server", "http://localhost:9898"}},
		{"reserved", []string{"listen", "--id", "all"}},
		{"give no --all", []string{"clients", "--watch", "--all"}},
	} {
		c := start(t, strings.NewReader(""), tc.args...)
		c.ends(exitUsage, tc.stderr)
		if n := strings.Count(c.stderr.String(), "\n"); n != 1 {
			t.Errorf("%v: %d lines on standard error: %s", tc.args, n, c.stderr)
		}
	}
}

func TestFailures(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, port, _ := net.SplitHostPort(busy.Addr().String())
	start(t, nil, "server", "--ip", "127.0.0.1", "--port", port, "--data-dir", t.TempDir()).ends(exitFail, "address already in use")
	start(t, nil, "server", "--ip", "no.such.host.invalid", "--data-dir", t.TempDir()).ends(exitFail, "no.such.host.invalid")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, nil, "server", "--port", "0", "--data-dir", filepath.Join(file, "sub")).ends(exitFail, "--data-dir: ")
	for _, args := range [][]string{{"listen"}, {"send", "x"}, {"send", "--type", "file", "x"}, {"clients"}, {"download", "key", t.TempDir()}} {
		start(t, nil, append(args, "--server", "127.0.0.1:1")...).ends(exitFail, "connection refused")
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"server", "--help"}, {"listen", "--help"}, {"send", "--help"}, {"clients", "--help"}, {"download", "--help"}, {"--version"}} {
		c := start(t, nil, args...)
		text, err := io.ReadAll(c.stdout)
		if err != nil {
			t.Fatal(err)
		}
		c.ends(exitOK, "")
		if len(args) == 2 && (!strings.Contains(string(text), "Example") || !strings.Contains(string(text), "crosscomm "+args[0])) {
			t.Errorf("%v has no example:\n%s", args, text)
		}
		if !strings.Contains(string(text), "crosscomm") {
			t.Errorf("%v: %s", args, text)
		}
	}
}

// Ctrl-C on the real program: the client logs out, the server stops, both
// succeed.
func TestInterrupt(t *testing.T) {
	program := func(args ...string) (*exec.Cmd, *command) {
		cmd := exec.Command(os.Args[0], args...)
		cmd.Env = append(os.Environ(), asProgram+"=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		c := &command{t: t, stdout: bufio.NewReader(out), stderr: new(testkit.Buffer)}
		cmd.Stderr = c.stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		return cmd, c
	}
	dir := t.TempDir()
	serverCmd, server := program("server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", dir, "--json")
	addr := server.event("listening")["addr"].(string)
	listenCmd, listen := program("listen", "--server", addr, "--id", "desk", "--json")
	listen.event("up")
	server.event("login")
	if err := listenCmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	server.event("logout")
	if err := listenCmd.Wait(); err != nil {
		t.Errorf("listen: %v, %s", err, listen.stderr)
	}
	if err := serverCmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := serverCmd.Wait(); err != nil {
		t.Errorf("server: %v, %s", err, server.stderr)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "cross_comm_clients.yaml")); err != nil || !strings.Contains(string(data), "desk") {
		t.Errorf("the state file: %s, %v", data, err)
	}
}

// Package examples checks that the examples run as they stand.
package examples

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const patience = 60 * time.Second

// example is a running example.
type example struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
}

func start(t *testing.T, name string, args ...string) *example {
	t.Helper()
	binary := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", binary, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	e := &example{t: t, cmd: exec.Command(binary, args...), lines: make(chan string, 10_000)}
	e.cmd.Dir = t.TempDir()
	e.cmd.Stderr = os.Stderr
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(e.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			e.lines <- s.Text()
		}
	}()
	t.Cleanup(func() { _ = e.cmd.Process.Kill() })
	return e
}

// prints waits for the texts, in this order, among what the example prints.
func (e *example) prints(texts ...string) {
	e.t.Helper()
	end := time.After(patience)
	for _, text := range texts {
		for found := false; !found; {
			select {
			case line, ok := <-e.lines:
				if !ok {
					e.t.Fatalf("it ended without printing %q", text)
				}
				found = strings.Contains(line, text)
			case <-end:
				e.t.Fatalf("it does not print %q", text)
			}
		}
	}
}

// interrupt is Ctrl-C, after which the example must end well.
func (e *example) interrupt() {
	e.t.Helper()
	if err := e.cmd.Process.Signal(os.Interrupt); err != nil {
		e.t.Fatal(err)
	}
	e.ends()
}

func (e *example) ends() {
	e.t.Helper()
	for range e.lines { // Wait must not close the pipe before it is read
	}
	if err := e.cmd.Wait(); err != nil {
		e.t.Errorf("it ended with %v", err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func waitForPort(t *testing.T, port string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestServerAndClient(t *testing.T) {
	port := freePort(t)
	server := start(t, "server", "-ip", "127.0.0.1", "-port", port)
	waitForPort(t, port)
	first := start(t, "client", "-port", port, "-id", "target_client_id")
	first.prints("listening")
	second := start(t, "client", "-port", port)
	second.prints("2 clients (only those online: false)", "target_client_id, online: true", "listening")
	want := map[string]bool{"Hello everyone!": true, "JSON: map[data:test type:notification]": true, "dict: {Action:update ID:123}": true, `11 bytes: "Binary data"`: true, "Private message": true}
	for len(want) > 0 {
		line, ok := <-first.lines
		if !ok {
			t.Fatalf("it ended without printing %v", want)
		}
		for text := range want {
			if strings.Contains(line, text) {
				delete(want, text)
			}
		}
	}
	server.prints("Hello server!")
	second.interrupt()
	first.interrupt()
	server.interrupt()
}

func TestMulticlient(t *testing.T) {
	e := start(t, "multiclient")
	e.prints("°C", "all sensors have stopped")
	e.ends()
}

func TestEmbed(t *testing.T) {
	port := freePort(t)
	e := start(t, "embed", "-addr", "127.0.0.1:"+port)
	waitForPort(t, port)
	resp, err := http.Get("http://127.0.0.1:" + port + "/online")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "[]\n" {
		t.Errorf("/online: %s, %v", body, err)
	}
	resp, err = http.Get("http://127.0.0.1:" + port + "/ws")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("/ws: %s", resp.Status)
	}
	e.interrupt()
}

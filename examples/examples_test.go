// Package examples checks that the examples run as they stand.
package examples

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

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
	end := time.After(testkit.Patience)
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

func waitForPort(t *testing.T, port string) {
	t.Helper()
	for deadline := time.Now().Add(testkit.Patience); ; <-time.After(10 * time.Millisecond) {
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
	port := fmt.Sprint(testkit.FreePort(t))
	server := start(t, "server", "-ip", "127.0.0.1", "-port", port)
	waitForPort(t, port)
	first := start(t, "client", "-port", port, "-id", "target_client_id")
	first.prints("listening")
	path := filepath.Join(t.TempDir(), "a file.txt")
	if err := os.WriteFile(path, []byte("what is in it"), 0o644); err != nil {
		t.Fatal(err)
	}
	second := start(t, "client", "-port", port, path)
	second.prints("2 clients (only those online: false)", "target_client_id, online: true", "listening")
	want := map[string]bool{"Hello everyone!": true, "JSON: map[data:test type:notification]": true, "dict: {Action:update ID:123}": true, `11 bytes: "Binary data"`: true, "Private message": true, "file " + path + " is now ": true}
	for end := time.After(testkit.Patience); len(want) > 0; {
		var line string
		select {
		case line = <-first.lines:
		case <-end:
			t.Fatalf("it does not print %v", want)
		}
		for text := range want {
			if !strings.Contains(line, text) {
				continue
			}
			delete(want, text)
			if _, name, ok := strings.Cut(line, " is now "); ok {
				if got, err := os.ReadFile(filepath.Join(first.cmd.Dir, name)); err != nil || string(got) != "what is in it" {
					t.Errorf("the file has %q, %v", got, err)
				}
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

func TestDelivery(t *testing.T) {
	e := start(t, "delivery")
	e.prints("desk: accepted: water the plants", "robot: I clean the kitchen", "robot: I water the plants", "robot: I go home", "desk: handled", "12.5 V", "it refuses: true")
	e.ends()
}

func TestEmbed(t *testing.T) {
	port := fmt.Sprint(testkit.FreePort(t))
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
	client, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, URL: "ws://127.0.0.1:" + port + "/ws"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	client.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		said <- m.Text()
		return nil
	}, crosscomm.ListenerOptions{From: crosscomm.ServerID})
	if err := client.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := client.SendMessage(t.Context(), path, crosscomm.TypeFile, crosscomm.All); err != nil {
		t.Error(err)
	}
	resp, err = http.Post("http://127.0.0.1:"+port+"/say", "text/plain", strings.NewReader("hello from HTTP"))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("/say: %v, %v", resp, err)
	}
	defer resp.Body.Close()
	select {
	case text := <-said:
		if text != "hello from HTTP" {
			t.Errorf("the client got %q", text)
		}
	case <-time.After(testkit.Patience):
		t.Error("the client got nothing")
	}
	if err := client.Logout(context.Background()); err != nil {
		t.Error(err)
	}
	e.interrupt()
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// command is a run of the program inside of the test.
type command struct {
	t      *testing.T
	stdout *bufio.Reader
	pipe   *io.PipeReader
	stderr *testkit.Buffer
	code   chan int
	stop   context.CancelFunc
}

func start(t *testing.T, stdin io.Reader, args ...string) *command {
	t.Helper()
	return launch(t, func(con console) console {
		con.stdin = stdin
		return con
	}, args...)
}

// launch is start with a console that is changed.
func launch(t *testing.T, change func(console) console, args ...string) *command {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	c := &command{t: t, stdout: bufio.NewReader(r), pipe: r, stderr: new(testkit.Buffer), code: make(chan int, 1), stop: cancel}
	con := change(console{stdin: strings.NewReader(""), stdout: w, stderr: c.stderr})
	go func() {
		code := run(ctx, args, con)
		w.Close()
		c.code <- code
	}()
	t.Cleanup(func() {
		cancel()
		r.Close()
	})
	return c
}

// broken makes all that is printed to standard output fail.
func (c *command) broken() { c.pipe.CloseWithError(errors.New("nobody reads this")) }

// event returns the next line of standard output, which must be an event of the
// name.
func (c *command) event(name string) map[string]any {
	c.t.Helper()
	e := c.next()
	if e["event"] != name {
		c.t.Fatalf("got %v, want the event %s", e, name)
	}
	return e
}

// next returns the next line of standard output, which must be an event.
func (c *command) next() (e map[string]any) {
	c.t.Helper()
	line, err := c.stdout.ReadString('\n')
	if err != nil {
		c.t.Fatalf("no event: %v; standard error: %s", err, c.stderr)
	}
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		c.t.Fatalf("got %s: %v", line, err)
	}
	return e
}

// untilStderr waits until standard error has the text.
func (c *command) untilStderr(text string) {
	c.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(testkit.Patience)
	for !strings.Contains(c.stderr.String(), text) {
		select {
		case <-tick.C:
		case <-end:
			c.t.Fatalf("standard error never has %q, but %q", text, c.stderr)
		}
	}
}

// ends waits for the end, and checks the code and what standard error has.
func (c *command) ends(code int, stderr string) {
	c.t.Helper()
	go io.Copy(io.Discard, c.stdout)
	select {
	case got := <-c.code:
		if got != code || !strings.Contains(c.stderr.String(), stderr) {
			c.t.Errorf("it ended with %d, want %d; standard error has %q, want %q", got, code, c.stderr, stderr)
		}
	case <-time.After(testkit.Patience):
		c.t.Fatal("it does not end")
	}
}

func startServer(t *testing.T) (server *command, addr string) {
	t.Helper()
	server = start(t, nil, "server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", t.TempDir(), "--json")
	addr = server.event("listening")["addr"].(string)
	t.Cleanup(func() {
		server.stop()
		server.ends(exitOK, "stopped")
	})
	return server, addr
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"
)

// startTime is how long a server may take to listen; Python's has much to
// import.
const startTime = time.Minute

// child is a server that runs.
type child struct {
	cmd     *exec.Cmd
	address string
	stderr  tail
	ended   chan struct{} // closed when its standard output has
}

var localAddress = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)

// startChild starts a server, and waits until it says where it listens. It is
// killed when ctx ends.
func startChild(ctx context.Context, command []string, dir string) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, command[0], command[1:]...), ended: make(chan struct{})}
	c.cmd.Dir, c.cmd.Stderr = dir, &c.stderr
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	address := make(chan string, 1)
	go func() {
		defer close(c.ended)
		// It is read to its end, or the server would wait for that.
		for lines := bufio.NewReader(stdout); ; {
			line, err := lines.ReadString('\n')
			if found := localAddress.FindString(line); found != "" {
				select {
				case address <- found:
				default:
				}
			}
			if err != nil {
				return
			}
		}
	}()
	timeout := time.NewTimer(startTime)
	defer timeout.Stop()
	select {
	case c.address = <-address:
		return c, nil
	case <-c.ended:
		err = errors.New("it has ended before it listened")
	case <-timeout.C:
		err = fmt.Errorf("it has not said where it listens within %v", startTime)
	case <-ctx.Done():
		err = ctx.Err()
	}
	said := c.stop()
	return nil, fmt.Errorf("%w%s", err, said)
}

// stop ends the server, and returns what it has said of errors last.
func (c *child) stop() (said string) {
	_ = c.cmd.Process.Kill() // it may have ended by itself
	<-c.ended
	_ = c.cmd.Wait()
	return c.stderr.quoted()
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - 2000; over > 0 {
		t.buf = t.buf[over:]
	}
	return len(p), nil
}

// String implements fmt.Stringer.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}

// mostQuoted is how much of what a server has said is worth repeating.
const mostQuoted = 300

// quoted is the last line in parentheses, or nothing.
func (t *tail) quoted() string {
	s := t.String()
	if s == "" {
		return ""
	}
	s = s[strings.LastIndexByte(s, '\n')+1:]
	return " (" + strings.ToValidUTF8(s[:min(len(s), mostQuoted)], "") + ")"
}

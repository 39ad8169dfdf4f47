// Package subprocess runs child processes for tests and for the comparison of
// servers: those that are read line by line, and killed when they are not needed
// any more.
package subprocess

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"time"
)

// A Process is a child process that has been started.
type Process struct {
	Cmd    *exec.Cmd
	Stderr Tail
	ended  chan struct{}
}

// Start starts the command. Each line that it prints is given to line, with its
// line break, from one goroutine. The output is read to its end, or the process
// would wait for that.
func Start(cmd *exec.Cmd, line func([]byte)) (*Process, error) {
	p := &Process{Cmd: cmd, ended: make(chan struct{})}
	cmd.Stderr = &p.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		for lines := bufio.NewReaderSize(stdout, 64<<10); ; {
			text, err := lines.ReadBytes('\n')
			if len(text) > 0 {
				line(text)
			}
			if err != nil {
				return
			}
		}
	}()
	return p, nil
}

// Ended is closed when the output of the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Stop kills the process, and returns when all that it has printed is read. It
// returns the last line of its errors, in parentheses after a space, or nothing.
func (p *Process) Stop() (said string) {
	_ = p.Cmd.Process.Kill() // it may have ended by itself
	<-p.ended
	_ = p.Cmd.Wait()
	return p.Stderr.quoted()
}

// startTime is how long a server may take to listen; Python's has much to
// import.
const startTime = time.Minute

var localAddress = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)

// StartServer starts a server in the directory, "" for the current one, and waits
// up to a minute until it prints an address of 127.0.0.1, which it returns. The
// server is killed when ctx ends. An error has the last line of its errors.
func StartServer(ctx context.Context, dir, name string, args ...string) (p *Process, address string, err error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	addresses := make(chan string, 1)
	p, err = Start(cmd, func(line []byte) {
		if found := localAddress.Find(line); found != nil {
			select {
			case addresses <- string(found):
			default: // the first one counts
			}
		}
	})
	if err != nil {
		return nil, "", err
	}
	timeout := time.NewTimer(startTime)
	defer timeout.Stop()
	select {
	case address = <-addresses:
		return p, address, nil
	case <-p.ended:
		err = errors.New("it has ended before it listened")
	case <-timeout.C:
		err = fmt.Errorf("it has not said where it listens within %v", startTime)
	case <-ctx.Done():
		err = ctx.Err()
	}
	said := p.Stop()
	return nil, "", fmt.Errorf("%w%s", err, said)
}

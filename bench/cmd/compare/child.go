package main

import (
	"context"
	"os/exec"

	"github.com/crosscomm/crosscomm-go/internal/testkit/subprocess"
)

// child is a server that runs.
type child struct {
	cmd     *exec.Cmd
	address string
	stop    func() (said string) // ends it, and returns what it has said of errors last
}

// startChild starts a server, and waits until it says where it listens. It is
// killed when ctx ends.
func startChild(ctx context.Context, command []string, dir string) (*child, error) {
	p, address, err := subprocess.StartServer(ctx, dir, command[0], command[1:]...)
	if err != nil {
		return nil, err
	}
	return &child{cmd: p.Cmd, address: address, stop: p.Stop}, nil
}

// tail keeps the end of what is written to it.
type tail = subprocess.Tail

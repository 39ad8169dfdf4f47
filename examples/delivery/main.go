// Command delivery shows what becomes of messages: a robot is sent two orders while it
// is away, gets them when it comes, handles a third one, is asked for its battery, and
// refuses what it cannot do.
//
//	go run ./examples/delivery
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"

	"github.com/crosscomm/crosscomm-go"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	url, stopServer, err := startServer()
	if err != nil {
		return err
	}
	defer stopServer()

	desk, err := newClient(url, "desk")
	if err != nil {
		return err
	}
	if err := desk.Login(ctx); err != nil {
		return err
	}
	defer desk.Logout(context.Background())
	for _, order := range []string{"clean the kitchen", "water the plants"} {
		// Accepted: it is on the server's disk, although the robot is away.
		if err := desk.SendMessage(ctx, order, crosscomm.TypeText, "robot", crosscomm.Accepted); err != nil {
			return err
		}
		fmt.Println("desk: accepted:", order)
	}

	robot, err := newClient(url, "robot")
	if err != nil {
		return err
	}
	robot.MessageListener(work, crosscomm.ListenerOptions{Type: crosscomm.TypeText})
	if err := robot.Login(ctx); err != nil {
		return err
	}
	defer robot.Logout(context.Background())

	// Handled: the robot's listener has returned. It had the other orders first.
	if err := desk.SendMessage(ctx, "go home", crosscomm.TypeText, "robot", crosscomm.Handled); err != nil {
		return err
	}
	fmt.Println("desk: handled: go home")
	reply, err := desk.Request(ctx, "battery?", crosscomm.TypeText, "robot")
	if err != nil {
		return err
	}
	fmt.Println("desk: the battery has", reply.Text())
	_, err = desk.Request(ctx, "fly", crosscomm.TypeText, "robot")
	fmt.Println("desk: it refuses:", errors.Is(err, crosscomm.ErrListener), err)
	return nil
}

// work is the robot's listener.
func work(ctx context.Context, m *crosscomm.Message) error {
	switch {
	case m.Text() == "battery?":
		return m.Reply(ctx, "12.5 V", crosscomm.TypeText)
	case m.Text() == "fly":
		return errors.New("there are no wings")
	}
	fmt.Println("robot: I", m.Text())
	return nil
}

func newClient(url, id string) (*crosscomm.Service, error) {
	return crosscomm.New(crosscomm.Config{Role: crosscomm.Client, URL: url, ClientID: id})
}

// startServer starts a server on a free port of this machine alone, which expects the
// robot and keeps its messages in a directory that is removed at the end.
func startServer() (url string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "crosscomm-delivery-")
	if err != nil {
		return "", nil, err
	}
	server, err := crosscomm.New(crosscomm.Config{
		Role: crosscomm.Server, DataDir: dir, Queues: crosscomm.Queues{Clients: []string{"robot"}},
	})
	var l net.Listener
	if err == nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(ctx, l); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	return "ws://" + l.Addr().String() + "/", func() {
		cancel()
		<-done
		_ = os.RemoveAll(dir)
	}, nil
}

// Command multiclient runs a server and several clients in one program: two
// sensors report to a display, and the display tells one of them to stop.
//
//	go run ./examples/multiclient
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"time"

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

type reading struct {
	Celsius float64 `json:"celsius"`
	Number  int     `json:"number"`
}

func run(ctx context.Context) error {
	url, stopServer, err := startServer()
	if err != nil {
		return err
	}
	defer stopServer()

	display, err := newClient(url, "display")
	if err != nil {
		return err
	}
	display.MessageListener(func(ctx context.Context, m *crosscomm.Message) error {
		var r reading
		if err := m.Decode(&r); err != nil {
			return err
		}
		fmt.Printf("%s: %.1f °C\n", m.FromClientID, r.Celsius)
		if r.Number == 5 {
			return display.SendMessage(ctx, "enough", crosscomm.TypeText, m.FromClientID)
		}
		return nil
	}, crosscomm.ListenerOptions{Type: crosscomm.TypeDict})
	if err := display.Login(ctx); err != nil {
		return err
	}
	defer display.Logout(context.Background())

	var sensors sync.WaitGroup
	for _, name := range []string{"kitchen", "cellar"} {
		sensor, err := newClient(url, name)
		if err != nil {
			return err
		}
		sensors.Go(func() {
			if err := runSensor(ctx, sensor); err != nil {
				fmt.Fprintln(os.Stderr, name, err)
			}
		})
	}
	sensors.Wait()
	fmt.Println("all sensors have stopped")
	return nil
}

// runSensor reports until it is told that it is enough.
func runSensor(ctx context.Context, sensor *crosscomm.Service) error {
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	sensor.MessageListener(func(context.Context, *crosscomm.Message) error {
		enough()
		return nil
	}, crosscomm.ListenerOptions{Type: crosscomm.TypeText, From: "display"})
	if err := sensor.Login(ctx); err != nil {
		return err
	}
	defer sensor.Logout(context.Background())
	every := time.NewTicker(100 * time.Millisecond)
	defer every.Stop()
	for n := 1; ; n++ {
		err := sensor.SendMessage(ctx, reading{Celsius: 20 + float64(n)/10, Number: n}, crosscomm.TypeDict, "display")
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func newClient(url, id string) (*crosscomm.Service, error) {
	return crosscomm.New(crosscomm.Config{Role: crosscomm.Client, URL: url, ClientID: id})
}

// startServer starts a server on a free port of this machine alone.
func startServer() (url string, stop func(), err error) {
	server, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, NoStateFile: true})
	if err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(ctx, l); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	return "ws://" + l.Addr().String() + "/", func() { cancel(); <-done }, nil
}

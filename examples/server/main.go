// Command server is the server of the original's documentation, with the
// listeners that it promises: it prints what clients send to "server" or to
// "all", answers texts, and tells every 10 s who is online.
//
//	go run ./examples/server
//	go run ./examples/client    # in another terminal
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

func main() {
	ip := flag.String("ip", "0.0.0.0", "address to listen on")
	port := flag.Int("port", 9898, "port to listen on")
	data := flag.String("data", "crosscomm-data", "directory for the server's files")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *ip, *port, *data); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, ip string, port int, data string) error {
	server, err := crosscomm.New(crosscomm.Config{
		Role:              crosscomm.Server,
		IP:                ip,
		Port:              port,
		HeartbeatInterval: 30 * time.Second,
		HeartbeatTimeout:  60 * time.Second,
		DataDir:           data, // so that it carries files, too
		Logger:            slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}

	// Texts for the server itself are answered.
	server.MessageListener(func(ctx context.Context, m *crosscomm.Message) error {
		fmt.Printf("text from %s: %s\n", m.FromClientID, m.Text())
		if m.ToClientID != crosscomm.ServerID {
			return nil
		}
		return server.SendMessage(ctx, "the server got: "+m.Text(), crosscomm.TypeText, m.FromClientID)
	}, crosscomm.ListenerOptions{Type: crosscomm.TypeText})

	// No options: every message.
	server.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		fmt.Printf("[all] %s from %s to %s: %.100s\n", m.MsgType, m.FromClientID, m.ToClientID, m.Content)
		return nil
	}, crosscomm.ListenerOptions{})

	go func() {
		every := time.NewTicker(10 * time.Second)
		defer every.Stop()
		for {
			select {
			case <-every.C:
				fmt.Println("online:", server.GetOnlineClients())
			case <-ctx.Done():
				return
			}
		}
	}()

	fmt.Printf("serving on %s, port %d; Ctrl-C ends\n", ip, port)
	return server.StartServer(ctx)
}

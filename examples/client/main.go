// Command client is the client of the original's documentation: a listener for
// each type of message, a message of each type, both lists of clients, and then
// it stays until Ctrl-C.
//
//	go run ./examples/client -ip 192.168.1.10 -id desk
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/crosscomm/crosscomm-go"
)

func main() {
	ip := flag.String("ip", "127.0.0.1", "the server's address")
	port := flag.Int("port", 9898, "the server's port")
	id := flag.String("id", "example_client", "this client's id")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *ip, *port, *id); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, ip string, port int, id string) error {
	client, err := crosscomm.New(crosscomm.Config{
		Role:     crosscomm.Client,
		IP:       ip,
		Port:     port,
		ClientID: id,
		OnUp:     func() { fmt.Println("connected") },
		OnDown:   func(err error) { fmt.Println("the link is down:", err) },
	})
	if err != nil {
		return err
	}
	listen(client)

	if err := client.Login(ctx); err != nil {
		return err
	}
	// The context of the program may have ended by then.
	defer client.Logout(context.Background())

	if err := sendAll(ctx, client); err != nil {
		return err
	}
	if err := printLists(ctx, client); err != nil {
		return err
	}
	fmt.Println("listening; Ctrl-C ends")
	<-ctx.Done()
	return nil
}

func listen(client *crosscomm.Service) {
	client.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		fmt.Printf("text from %s at %s: %s\n", m.FromClientID, m.Time().Format("15:04:05"), m.Text())
		return nil
	}, crosscomm.ListenerOptions{Type: crosscomm.TypeText})

	client.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		var v any
		if err := m.Decode(&v); err != nil {
			return err // is logged
		}
		fmt.Printf("JSON: %v\n", v)
		return nil
	}, crosscomm.ListenerOptions{Type: crosscomm.TypeJSON})

	client.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		var update struct {
			Action string
			ID     int
		}
		if err := m.Decode(&update); err != nil {
			return err
		}
		fmt.Printf("dict: %+v\n", update)
		return nil
	}, crosscomm.ListenerOptions{Type: crosscomm.TypeDict})

	client.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		b, err := m.Bytes()
		if err != nil {
			return err
		}
		fmt.Printf("%d bytes: %q\n", len(b), b)
		return nil
	}, crosscomm.ListenerOptions{Type: crosscomm.TypeBytes})

	// Files, images and folders of peers that use object storage arrive with
	// the key under which they lie there.
	for _, t := range []crosscomm.MsgType{crosscomm.TypeFile, crosscomm.TypeImage, crosscomm.TypeFolder} {
		client.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
			fmt.Printf("%s %s, OSS key %q\n", m.MsgType, m.Text(), m.OSSKey)
			return nil
		}, crosscomm.ListenerOptions{Type: t})
	}

	// From one sender only.
	client.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		fmt.Printf("something from special_client: %s\n", m.MsgType)
		return nil
	}, crosscomm.ListenerOptions{From: "special_client"})

	// No options: every message.
	client.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		fmt.Printf("[all] %s: %.100s\n", m.MsgType, m.Content)
		return nil
	}, crosscomm.ListenerOptions{})
}

func sendAll(ctx context.Context, client *crosscomm.Service) error {
	for _, m := range []struct {
		content any
		typ     crosscomm.MsgType
		to      string
	}{
		{"Hello everyone!", crosscomm.TypeText, crosscomm.All},
		{`{"type": "notification", "data": "test"}`, crosscomm.TypeJSON, crosscomm.All},
		{map[string]any{"action": "update", "id": 123}, crosscomm.TypeDict, crosscomm.All},
		{[]byte("Binary data"), crosscomm.TypeBytes, crosscomm.All},
		{"Private message", crosscomm.TypeText, "target_client_id"},
		{"Hello server!", crosscomm.TypeText, crosscomm.ServerID},
	} {
		if err := client.SendMessage(ctx, m.content, m.typ, m.to); err != nil {
			return err
		}
	}
	return nil
}

func printLists(ctx context.Context, client *crosscomm.Service) error {
	for _, onlyOnline := range []bool{false, true} {
		list, err := client.ListClients(ctx, onlyOnline)
		if err != nil {
			return err
		}
		fmt.Printf("%d clients (only those online: %v)\n", list.TotalCount, onlyOnline)
		for _, c := range list.Clients {
			fmt.Printf("  %s, online: %v\n", c.ClientID, c.Online)
		}
	}
	return nil
}

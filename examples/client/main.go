// Command client is the client of the original's documentation: a listener for
// each type of message, a message of each type, the files and folders that are
// named, both lists of clients, and then it stays until Ctrl-C.
//
//	go run ./examples/client -ip 192.168.1.10 -id desk photo.jpg
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
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: client [flags] [files and folders to send]")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *ip, *port, *id, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, ip string, port int, id string, files []string) error {
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
	if err := sendFiles(ctx, client, files); err != nil {
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

	// Files, images and folders are on this machine, and whole, when the
	// listener is called.
	for t, dir := range map[crosscomm.MsgType]string{
		crosscomm.TypeFile:   "downloads/files",
		crosscomm.TypeImage:  "downloads/images",
		crosscomm.TypeFolder: "downloads/folders",
	} {
		client.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
			if err := m.Err(); err != nil {
				// It stays in the store: client.DownloadFileManually can try
				// again.
				return fmt.Errorf("%s %s: %w", m.MsgType, m.Text(), err)
			}
			fmt.Printf("%s %s is now %s\n", m.MsgType, m.Text(), m.Path())
			return nil
		}, crosscomm.ListenerOptions{Type: t, DownloadDirectory: dir})
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

func sendFiles(ctx context.Context, client *crosscomm.Service, files []string) error {
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		typ := crosscomm.TypeFile
		if info.IsDir() {
			typ = crosscomm.TypeFolder
		}
		if err := client.SendMessage(ctx, path, typ, crosscomm.All); err != nil {
			return err
		}
		fmt.Println("sent", path)
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

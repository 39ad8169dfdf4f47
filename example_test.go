package crosscomm_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/crosscomm/crosscomm-go"
)

// A server in an HTTP service, and two clients of it.
func Example() {
	ctx := context.Background()
	server, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, NoStateFile: true})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", server)
	web := httptest.NewServer(mux)
	defer web.Close()
	defer server.Stop(ctx) // before the web server ends: that leaves WebSockets alone

	connect := func(id string) *crosscomm.Service {
		client, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, ClientID: id, URL: "ws" + strings.TrimPrefix(web.URL, "http") + "/ws"})
		if err != nil {
			log.Fatal(err)
		}
		if err := client.Login(ctx); err != nil {
			log.Fatal(err)
		}
		return client
	}
	camera, display := connect("camera"), connect("display")
	defer camera.Logout(ctx)
	defer display.Logout(ctx)

	arrived := make(chan string)
	display.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		var seen struct{ Cats, Dogs int }
		if err := m.Decode(&seen); err != nil {
			return err
		}
		arrived <- fmt.Sprintf("%s saw %d cats and %d dogs", m.FromClientID, seen.Cats, seen.Dogs)
		return nil
	}, crosscomm.ListenerOptions{Type: crosscomm.TypeDict, From: "camera"})

	if err := camera.SendMessage(ctx, map[string]int{"cats": 2, "dogs": 1}, crosscomm.TypeDict, "display"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-arrived)
	fmt.Println(server.GetOnlineClients())
	// Output:
	// camera saw 2 cats and 1 dogs
	// [camera display]
}

// A display that takes its time draws the latest reading of each sensor, while a
// recorder gets all of them.
func ExampleListenerOptions_overflow() {
	ctx := context.Background()
	server, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, NoStateFile: true})
	if err != nil {
		log.Fatal(err)
	}
	web := httptest.NewServer(server)
	defer web.Close()
	defer server.Stop(ctx)

	const readings = 1000
	drawing, drawn, recorded := make(chan string), make(chan bool), make(chan bool)
	var stats crosscomm.ListenerStats
	server.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		drawing <- m.Text()
		<-drawn // slow
		return nil
	}, crosscomm.ListenerOptions{Type: crosscomm.TypeText, Overflow: crosscomm.OverflowLatest, Stats: &stats})
	server.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		if m.Text() == fmt.Sprint("reading ", readings) {
			close(recorded)
		}
		return nil
	}, crosscomm.ListenerOptions{Type: crosscomm.TypeText})

	lidar, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, ClientID: "lidar", URL: "ws" + strings.TrimPrefix(web.URL, "http")})
	if err != nil {
		log.Fatal(err)
	}
	if err := lidar.Login(ctx); err != nil {
		log.Fatal(err)
	}
	defer lidar.Logout(ctx)
	send := func(n int) {
		if err := lidar.SendMessage(ctx, fmt.Sprint("reading ", n), crosscomm.TypeText, crosscomm.ServerID); err != nil {
			log.Fatal(err)
		}
	}
	send(1)
	fmt.Println("drawing", <-drawing)
	for n := 2; n <= readings; n++ {
		send(n)
	}
	<-recorded
	close(drawn)
	fmt.Println("drawing", <-drawing)
	fmt.Println(stats.Dropped.Load(), "dropped")
	// Output:
	// drawing reading 1
	// drawing reading 1000
	// 998 dropped
}

// A desk sees a robot go and come.
func ExampleService_WatchPresence() {
	ctx := context.Background()
	desk, robot, end := exampleClients(ctx)
	defer end()

	events := make(chan crosscomm.PresenceEvent)
	stop, err := desk.WatchPresence(func(e crosscomm.PresenceEvent) { events <- e }, crosscomm.PresenceOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
	tell := func() {
		e := <-events
		fmt.Println(e.ClientID, e.Kind, e.Kind.Online())
	}
	tell()
	if err := robot.Logout(ctx); err != nil {
		log.Fatal(err)
	}
	tell()
	if err := robot.Login(ctx); err != nil {
		log.Fatal(err)
	}
	tell()
	// Output:
	// robot present true
	// robot left false
	// robot joined true
}

// A server with a certificate of its own, and a client that knows it by its pin.
func ExampleTrustPin() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cert, err := crosscomm.SelfSigned(dir)
	if err != nil {
		log.Fatal(err)
	}
	server, err := crosscomm.New(crosscomm.Config{
		Role: crosscomm.Server, NoStateFile: true, TLS: &tls.Config{Certificates: []tls.Certificate{cert}},
	})
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // StartServer listens on Config.Port
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- server.Serve(ctx, l) }()

	trust, err := crosscomm.TrustPin(crosscomm.Pin(cert.Leaf)) // which was told beforehand
	if err != nil {
		log.Fatal(err)
	}
	client, err := crosscomm.New(crosscomm.Config{
		Role: crosscomm.Client, ClientID: "robot-7", URL: "wss://" + l.Addr().String(), TLS: trust,
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Login(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(server.GetOnlineClients())
	if err := client.Logout(ctx); err != nil {
		log.Fatal(err)
	}
	cancel()
	if err := <-served; err != nil {
		log.Fatal(err)
	}
	// Output: [robot-7]
}

func ExampleMessage_Decode() {
	m, err := crosscomm.FromDict(map[string]any{
		"msg_id": "1", "from_client_id": "lidar", "to_client_id": "all", "msg_type": crosscomm.TypeDict,
		"content": map[string]any{"ranges": []any{1.5, nil}, "max": 30}, "timestamp": 0,
	})
	if err != nil {
		log.Fatal(err)
	}
	var scan struct {
		Ranges []*float64
		Max    int
	}
	if err := m.Decode(&scan); err != nil {
		log.Fatal(err)
	}
	fmt.Println(*scan.Ranges[0], scan.Ranges[1] == nil, scan.Max)
	// Output: 1.5 true 30
}

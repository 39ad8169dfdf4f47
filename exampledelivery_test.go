package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"

	"github.com/crosscomm/crosscomm-go"
)

// exampleClients starts a server, and two clients of it.
func exampleClients(ctx context.Context) (desk, robot *crosscomm.Service, stop func()) {
	server, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, NoStateFile: true})
	if err != nil {
		log.Fatal(err)
	}
	web := httptest.NewServer(server)
	connect := func(id string) *crosscomm.Service {
		client, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, ClientID: id, URL: "ws" + strings.TrimPrefix(web.URL, "http")})
		if err == nil {
			err = client.Login(ctx)
		}
		if err != nil {
			log.Fatal(err)
		}
		return client
	}
	desk, robot = connect("desk"), connect("robot")
	return desk, robot, func() {
		desk.Logout(ctx)
		robot.Logout(ctx)
		server.Stop(ctx)
		web.Close()
	}
}

// A sender learns whether its message was handled, and why not.
func ExampleService_Deliver() {
	ctx := context.Background()
	desk, robot, stop := exampleClients(ctx)
	defer stop()
	robot.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		if m.Text() == "fly" {
			return errors.New("I have no wings")
		}
		return nil
	}, crosscomm.ListenerOptions{Type: crosscomm.TypeText})

	receipt, err := desk.Deliver(ctx, "go home", crosscomm.TypeText, "robot", crosscomm.Handled)
	fmt.Println(receipt.Reached, err)

	_, err = desk.Deliver(ctx, "fly", crosscomm.TypeText, "robot", crosscomm.Handled)
	var failed *crosscomm.DeliveryError
	if errors.As(err, &failed) {
		fmt.Println(failed.Reached, failed.Err)
	}

	_, err = desk.Deliver(ctx, "hello?", crosscomm.TypeText, "nobody", crosscomm.Accepted)
	fmt.Println(errors.Is(err, crosscomm.ErrUnknownClient))
	// Output:
	// handled <nil>
	// written the listener failed: I have no wings
	// true
}

// One program asks another.
func ExampleService_Request() {
	ctx := context.Background()
	desk, robot, stop := exampleClients(ctx)
	defer stop()
	robot.MessageListener(func(ctx context.Context, m *crosscomm.Message) error {
		return m.Reply(ctx, "12.5 V", crosscomm.TypeText)
	}, crosscomm.ListenerOptions{Type: crosscomm.TypeText})

	reply, err := desk.Request(ctx, "battery?", crosscomm.TypeText, "robot")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.FromClientID, "has", reply.Text())
	// Output:
	// robot has 12.5 V
}

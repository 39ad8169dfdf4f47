package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// dirConfig is that of a server that keeps queues.
func dirConfig(t testing.TB) crosscomm.Config { return crosscomm.Config{DataDir: t.TempDir()} }

func TestDeliverStages(t *testing.T) {
	for name, cfg := range map[string]crosscomm.Config{"in memory": {}, "with a disk": dirConfig(t)} {
		t.Run(name, func(t *testing.T) {
			server := startServer(t, cfg)
			sender, receiver := login(t, server.addr, "sender"), login(t, server.addr, "receiver")
			plain := loginRaw(t, server.addr, "plain")
			go plain.discard()
			got := collect(receiver, crosscomm.ListenerOptions{})
			for _, to := range []string{"receiver", "plain"} {
				for stage := crosscomm.Accepted; stage <= crosscomm.Handled; stage++ {
					r, err := sender.Deliver(testContext(t), stage.String(), crosscomm.TypeText, to, stage)
					if err != nil || r.Reached != stage || r.MsgID == "" {
						t.Errorf("to %s: %+v, %v", to, r, err)
					}
					if to == "receiver" {
						if m := <-got; m.Text() != stage.String() || m.MsgID != r.MsgID || strings.Contains(string(m.Frame()), "headers") {
							t.Errorf("it got %s", m.Frame())
						}
					}
				}
			}
		})
	}
}

func TestDeliverFailures(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	sender := login(t, server.addr, "sender")
	receiver := login(t, server.addr, "receiver")
	login(t, server.addr, "gone").Logout(context.Background())
	receiver.MessageListener(func(context.Context, *crosscomm.Message) error { return errors.New("the disk is full") }, crosscomm.ListenerOptions{Type: crosscomm.TypeDict})
	receiver.MessageListener(func(context.Context, *crosscomm.Message) error { panic("oh") }, crosscomm.ListenerOptions{Type: crosscomm.TypeBytes})
	for _, tc := range []struct {
		to   string
		t    crosscomm.MsgType
		kind error
		text string
	}{
		{"nobody", crosscomm.TypeText, crosscomm.ErrUnknownClient, ""},
		{"gone", crosscomm.TypeText, crosscomm.ErrOffline, ""},
		{"receiver", crosscomm.TypeText, crosscomm.ErrNoListener, ""},
		{"receiver", crosscomm.TypeDict, crosscomm.ErrListener, "the disk is full"},
		{"receiver", crosscomm.TypeBytes, crosscomm.ErrListener, "panicked"},
	} {
		_, err := sender.Deliver(testContext(t), "x", tc.t, tc.to, crosscomm.Handled)
		var de *crosscomm.DeliveryError
		if !errors.Is(err, tc.kind) || !errors.As(err, &de) || de.MsgID == "" || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s to %s: %v", tc.t, tc.to, err)
		}
	}
	// What is only to be accepted does not fail for what comes later.
	if err := sender.SendMessage(testContext(t), "x", crosscomm.TypeText, "receiver", crosscomm.Accepted); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	release := make(chan struct{})
	defer close(release)
	remove := receiver.MessageListener(func(context.Context, *crosscomm.Message) error { <-release; return nil }, crosscomm.ListenerOptions{Type: crosscomm.TypeJSON})
	defer remove()
	if _, err := sender.Deliver(ctx, "1", crosscomm.TypeJSON, "receiver", crosscomm.Handled); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a listener that hangs: %v", err)
	}
}

func TestDeliverToAll(t *testing.T) {
	server := startServer(t, dirConfig(t))
	sender := login(t, server.addr, "sender")
	for i := range 3 {
		c := login(t, server.addr, fmt.Sprint("c", i))
		c.MessageListener(func(context.Context, *crosscomm.Message) error {
			if i == 2 {
				return errors.New("no")
			}
			return nil
		}, crosscomm.ListenerOptions{})
	}
	plain := loginRaw(t, server.addr, "plain")
	go plain.discard()
	r, err := sender.Deliver(testContext(t), "x", crosscomm.TypeText, crosscomm.All, crosscomm.Handled)
	if err != nil || r.Receivers != 4 || r.Handled != 3 || r.Failed != 1 || r.Accepted != 4 || r.Written != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := server.Deliver(testContext(t), "x", crosscomm.TypeText, crosscomm.All, crosscomm.Written); err != nil || r.Receivers != 5 || r.Written != 5 {
		t.Errorf("of the server: %+v, %v", r, err)
	}
	// Who does not get it has not accepted it either.
	small := newClient(t, server.addr, "small", crosscomm.Config{MaxMessageSize: 512})
	if err := small.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for name, svc := range map[string]*crosscomm.Service{"sender": sender, "server": server.Service} {
		r, err := svc.Deliver(testContext(t), strings.Repeat("x", 1000), crosscomm.TypeText, crosscomm.All, crosscomm.Accepted)
		if err != nil || r.Failed != 1 || r.Accepted != r.Receivers-1 {
			t.Errorf("of the %s: %+v, %v", name, r, err)
		}
	}
}

func TestServerDelivers(t *testing.T) {
	server := startServer(t, dirConfig(t))
	c := login(t, server.addr, "c")
	got := collect(c, crosscomm.ListenerOptions{})
	if r, err := server.Deliver(testContext(t), "x", crosscomm.TypeText, "c", crosscomm.Handled); err != nil || (<-got).MsgID != r.MsgID {
		t.Errorf("%+v, %v", r, err)
	}
	// And its listeners are receivers.
	if err := c.SendMessage(testContext(t), "x", crosscomm.TypeText, crosscomm.ServerID, crosscomm.Handled); !errors.Is(err, crosscomm.ErrNoListener) {
		t.Error(err)
	}
	server.MessageListener(func(context.Context, *crosscomm.Message) error { return nil }, crosscomm.ListenerOptions{})
	if err := c.SendMessage(testContext(t), "x", crosscomm.TypeText, crosscomm.ServerID, crosscomm.Handled); err != nil {
		t.Error(err)
	}
}

// Who is away gets what was sent to it, in order and before anything newer, whatever
// it speaks.
func TestAbsentClients(t *testing.T) {
	server := startServer(t, dirConfig(t))
	sender := login(t, server.addr, "sender")
	login(t, server.addr, "go").Logout(context.Background())
	loginRaw(t, server.addr, "plain").Close()
	testkit.Eventually(t, "both are gone", func() bool { return len(server.GetOnlineClients()) == 1 })
	const messages = 3000
	for _, to := range []string{"go", "plain"} {
		for i := range messages {
			if i%100 == 0 {
				if err := sender.SendMessage(testContext(t), fmt.Sprint(i), crosscomm.TypeText, to, crosscomm.Accepted); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err := sender.SendMessage(testContext(t), fmt.Sprint(i), crosscomm.TypeText, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	receiver := newClient(t, server.addr, "go", crosscomm.Config{})
	got := collect(receiver, crosscomm.ListenerOptions{})
	if err := receiver.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	plain := loginRaw(t, server.addr, "plain")
	if err := sender.SendMessage(testContext(t), fmt.Sprint(messages), crosscomm.TypeText, "go", crosscomm.Handled); err != nil {
		t.Fatal(err)
	}
	if err := sender.SendMessage(testContext(t), fmt.Sprint(messages), crosscomm.TypeText, "plain"); err != nil {
		t.Fatal(err)
	}
	for i := range messages + 1 {
		if m := <-got; m.Text() != fmt.Sprint(i) {
			t.Fatalf("message %d is %s", i, m.Text())
		}
		if text := plain.read(); !strings.Contains(text, fmt.Sprintf(`"content":"%d"`, i)) || strings.Contains(text, "headers") {
			t.Fatalf("message %d is %s", i, text)
		}
	}
}

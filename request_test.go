package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

func TestRequest(t *testing.T) {
	server := startServer(t, dirConfig(t))
	caller, robot := login(t, server.addr, "caller"), login(t, server.addr, "robot")
	echo := func(ctx context.Context, m *crosscomm.Message) error {
		if !m.IsRequest() {
			return errors.New("it is no request")
		}
		return m.Reply(ctx, "you said "+m.Text(), crosscomm.TypeText)
	}
	for _, svc := range []*crosscomm.Service{robot, server.Service} {
		svc.MessageListener(echo, crosscomm.ListenerOptions{Type: crosscomm.TypeText})
		svc.MessageListener(func(context.Context, *crosscomm.Message) error { return nil }, crosscomm.ListenerOptions{Type: crosscomm.TypeDict})
		svc.MessageListener(func(context.Context, *crosscomm.Message) error { return errors.New("I cannot fly") }, crosscomm.ListenerOptions{Type: crosscomm.TypeBytes})
	}
	for _, pair := range []struct {
		from *crosscomm.Service
		to   string
	}{{caller, "robot"}, {caller, crosscomm.ServerID}, {server.Service, "robot"}} {
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				text := fmt.Sprint("hello ", i)
				if m, err := pair.from.Request(testContext(t), text, crosscomm.TypeText, pair.to); err != nil || m.Text() != "you said "+text || m.FromClientID != pair.to {
					t.Errorf("to %s: %v, %v", pair.to, m, err)
				}
			})
		}
		all.Wait()
		if _, err := pair.from.Request(testContext(t), 1, crosscomm.TypeDict, pair.to); !errors.Is(err, crosscomm.ErrNoReply) {
			t.Errorf("a listener without a reply: %v", err)
		}
		if _, err := pair.from.Request(testContext(t), "x", crosscomm.TypeBytes, pair.to); !errors.Is(err, crosscomm.ErrListener) || !strings.Contains(err.Error(), "I cannot fly") {
			t.Errorf("a listener that fails: %v", err)
		}
		if _, err := pair.from.Request(testContext(t), "1", crosscomm.TypeJSON, pair.to); !errors.Is(err, crosscomm.ErrNoListener) {
			t.Errorf("no listener: %v", err)
		}
	}
	plain := loginRaw(t, server.addr, "plain")
	go plain.discard()
	login(t, server.addr, "away").Logout(context.Background())
	for to, kind := range map[string]error{"plain": crosscomm.ErrNoReply, "away": crosscomm.ErrOffline, "nobody": crosscomm.ErrUnknownClient, crosscomm.All: crosscomm.ErrReceiver} {
		if _, err := caller.Request(testContext(t), "x", crosscomm.TypeText, to); !errors.Is(err, kind) {
			t.Errorf("to %s: %v", to, err)
		}
	}
}

// The listener's context ends when nobody waits for its reply any more.
func TestRequestIsCancelled(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	caller, robot := login(t, server.addr, "caller"), login(t, server.addr, "robot")
	began, ended := make(chan bool, 2), make(chan error, 2)
	wait := func(ctx context.Context, m *crosscomm.Message) error {
		began <- true
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return ctx.Err()
	}
	for _, svc := range []*crosscomm.Service{robot, server.Service} {
		svc.MessageListener(wait, crosscomm.ListenerOptions{})
	}
	for _, to := range []string{"robot", crosscomm.ServerID} {
		ctx, cancel := context.WithCancel(testContext(t))
		go func() {
			<-began
			cancel()
		}()
		if _, err := caller.Request(ctx, "x", crosscomm.TypeText, to); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := testkit.Receive(t, ended); err == nil {
			t.Error("no reason")
		}
		// With a deadline it ends by itself.
		ctx, cancel = context.WithTimeout(testContext(t), 100*time.Millisecond)
		defer cancel()
		if _, err := caller.Request(ctx, "x", crosscomm.TypeText, to); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		<-began
		if err := testkit.Receive(t, ended); err == nil {
			t.Error("no reason")
		}
	}
}

// A request that has expired long before its time tells so at once.
func TestRequestExpiresEarly(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	caller, robot := login(t, server.addr, "caller"), agreedPeer(t, server.addr, "robot")
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	told := make(chan error, 1)
	go func() {
		_, err := caller.Request(ctx, "x", crosscomm.TypeText, "robot")
		told <- err
	}()
	robot.readType("text")
	robot.write(frameOf("robot", "server", "report", `{"received": 1, "failed": [{"number": 1, "error": "expired"}]}`))
	select {
	case err := <-told:
		if !errors.Is(err, crosscomm.ErrExpired) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for the end of the hour")
	}
}

// Only the first reply counts, nobody replies for another, and a message is no request.
func TestReplyRules(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	caller, robot := login(t, server.addr, "caller"), login(t, server.addr, "robot")
	thief := agreedPeer(t, server.addr, "thief")
	again := make(chan error, 3)
	robot.MessageListener(func(ctx context.Context, m *crosscomm.Message) error {
		thief.write(strings.Replace(frameOf("thief", "caller", "text", `"stolen"`), `null}`, `null, "headers": {"delivery": "accepted", "reply_to": "`+m.MsgID+`"}}`, 1))
		for range 2 {
			again <- m.Reply(ctx, "mine", crosscomm.TypeText)
		}
		return nil
	}, crosscomm.ListenerOptions{Type: crosscomm.TypeText})
	robot.MessageListener(func(ctx context.Context, m *crosscomm.Message) error {
		again <- m.Reply(ctx, "x", crosscomm.TypeText)
		return nil
	}, crosscomm.ListenerOptions{Type: crosscomm.TypeDict})
	if m, err := caller.Request(testContext(t), "x", crosscomm.TypeText, "robot"); err != nil || m.Text() != "mine" {
		t.Errorf("%v, %v", m, err)
	}
	if err := <-again; err != nil {
		t.Error(err)
	}
	if err := <-again; !errors.Is(err, crosscomm.ErrNoRequest) {
		t.Error(err)
	}
	if err := caller.SendMessage(testContext(t), 1, crosscomm.TypeDict, "robot"); err != nil {
		t.Fatal(err)
	}
	if err := <-again; !errors.Is(err, crosscomm.ErrNoRequest) {
		t.Error(err)
	}
}

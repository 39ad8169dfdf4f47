package interop

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

var pythonKills = flag.Int("python-kills", 3, "how often TestPythonIsKilled kills Python, which takes a second or two each time")

// number returns what a text message from Go says.
func (e event) number(t *testing.T) int64 {
	t.Helper()
	var text string
	if err := json.Unmarshal([]byte(e.Content), &text); err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("got %+v, want a number", e)
	}
	return n
}

// The real Python client gets what was sent to it while it was away, in order and
// before anything newer, from Python and from Go.
func TestPythonBacklog(t *testing.T) {
	_, port, _ := startGoServer(t, crosscomm.Config{DataDir: t.TempDir()}, "127.0.0.1:0")
	p := startPython(t)
	p.client("away", port, nil)
	p.client("sender", port, nil)
	p.call("logout", map[string]any{"name": "away"})
	sender := goClient(t, "go", port, crosscomm.Config{})
	testkit.Eventually(t, "it is away", func() bool {
		list, err := sender.ListClients(testContext(t), true)
		return err == nil && list.TotalCount == 2
	})
	const each = 200
	if got := string(p.call("send_many", map[string]any{"name": "sender", "count": each, "to": "away", "prefix": ""})); got != fmt.Sprint(each) {
		t.Fatalf("Python sent %s", got)
	}
	// One of its own to Go has come after all those before.
	heard := collect(sender)
	p.send("sender", "text", "'done'", "go")
	testkit.Receive(t, heard)
	for i := range each {
		if err := sender.SendMessage(testContext(t), fmt.Sprint(each+i), crosscomm.TypeText, "away", crosscomm.Accepted); err != nil {
			t.Fatal(err)
		}
	}
	p.login("away")
	if err := sender.SendMessage(testContext(t), fmt.Sprint(2*each), crosscomm.TypeText, "away", crosscomm.Handled); err != nil {
		t.Fatal(err)
	}
	for want := range int64(2*each + 1) {
		if e := p.message("away"); e.number(t) != want {
			t.Fatalf("message %d is %+v", want, e)
		}
	}
}

// The real Python client is killed at random moments. It loses nothing, gets all in
// order, and again only what it got last.
func TestPythonIsKilled(t *testing.T) {
	logs := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	server, port, _ := startGoServer(t, crosscomm.Config{DataDir: t.TempDir(), Logger: logs}, "127.0.0.1:0")
	sender := goClient(t, "go", port, crosscomm.Config{})
	p := startPython(t)
	p.client("killed", port, nil)
	// Python's login does not wait for the answer.
	testkit.Eventually(t, "the server knows it", func() bool { return slices.Contains(server.GetOnlineClients(), "killed") })
	var accepted, seen atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sending sync.WaitGroup
	sending.Go(func() {
		for ctx.Err() == nil {
			if accepted.Load()-seen.Load() > 5_000 { // or the oldest would be dropped from the queue, as they are to be
				<-time.After(time.Millisecond)
				continue
			}
			if err := sender.SendMessage(t.Context(), fmt.Sprint(accepted.Load()), crosscomm.TypeText, "killed", crosscomm.Accepted); err != nil {
				t.Error(err)
				return
			}
			accepted.Add(1)
		}
	})
	next, again := int64(0), int64(0)
	first := true // of this life
	take := func(e event) {
		if e.Type == "login_response" {
			return
		}
		number := e.number(t)
		if number > next || !first && number != next {
			t.Fatalf("got %d, want %d; the server: %+v", number, next, server.Stats())
		}
		first = false
		again += next - number
		next = number + 1
		seen.Store(next)
	}
	for range *pythonKills {
		take(p.message("killed"))
		for end := time.After(time.Duration(rand.IntN(300)) * time.Millisecond); end != nil; {
			select {
			case e := <-p.events:
				take(e)
			case <-end:
				end = nil
			}
		}
		p.process.Stop()
		for len(p.events) > 0 {
			take(<-p.events)
		}
		first = true
		p = startPython(t)
		p.client("killed", port, nil)
	}
	cancel()
	sending.Wait()
	for next < accepted.Load() {
		take(p.message("killed"))
	}
	t.Logf("%d times killed: %d messages were accepted and came in order; %d of them came again", *pythonKills, next, again)
}

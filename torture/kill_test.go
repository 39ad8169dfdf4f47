package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/testkit/subprocess"
)

// readState parses a state file, and returns the ids in it.
func readState(path string) (ids map[string]struct {
	Status   string
	LastSeen float64 `yaml:"last_seen"`
}, err error) {
	data, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(data, &ids)
	}
	return ids, err
}

// startProgram starts crosscomm, which prints events, and returns them.
func startProgram(t *testing.T, stdin io.Reader, args ...string) (p *subprocess.Process, events <-chan map[string]any) {
	t.Helper()
	ch := make(chan map[string]any, 1<<16)
	cmd := exec.Command(program(t), args...)
	cmd.Dir, cmd.Stdin = t.TempDir(), stdin
	p, err := subprocess.Start(cmd, func(line []byte) {
		var event map[string]any
		if err := json.Unmarshal(line, &event); err != nil {
			t.Errorf("it says %q: %v", line, err)
		}
		ch <- event
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop() })
	return p, ch
}

// await returns the next event of the name.
func await(t *testing.T, events <-chan map[string]any, name string) map[string]any {
	t.Helper()
	for {
		if e := testkit.Receive(t, events); e["event"] == name {
			return e
		}
	}
}

// numbers are what a client sends to another as fast as it can.
type numbers struct {
	from, to  *crosscomm.Service
	ups       atomic.Int64 // of both
	sent, got atomic.Int64
	gaps      atomic.Int64
	last      int64 // number that has come; of the listener
}

func newNumbers(t *testing.T, addr string, i int) *numbers {
	t.Helper()
	n := &numbers{last: -1}
	cfg := crosscomm.Config{OnUp: func() { n.ups.Add(1) }}
	n.from, n.to = newClient(t, addr, fmt.Sprint("from-", i), cfg), newClient(t, addr, fmt.Sprint("to-", i), cfg)
	n.to.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		number, err := strconv.ParseInt(m.Text(), 10, 64)
		if err != nil || number <= n.last {
			t.Errorf("%s got %.20q after %d", n.to.ClientID(), m.Text(), n.last)
		}
		n.gaps.Add(number - n.last - 1)
		n.last = number
		n.got.Add(1)
		return nil
	}, crosscomm.ListenerOptions{})
	for _, c := range []*crosscomm.Service{n.to, n.from} {
		if err := c.Login(patience(t)); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// The server is killed at random moments while clients send. They all come back, each
// number comes once at most, in order, and the state file is whole each time.
func TestServerIsKilled(t *testing.T) {
	sideBySide(t)
	state := filepath.Join(t.TempDir(), "state.yaml")
	port := strconv.Itoa(testkit.FreePort(t))
	addr := "127.0.0.1:" + port
	start := func() *subprocess.Process {
		p, events := startProgram(t, nil, "server", "--ip", "127.0.0.1", "--port", port, "--data-dir=", "--state-file", state, "--json", "--log-level", "warn")
		await(t, events, "listening")
		return p
	}
	server := start()
	const links = 4
	var all []*numbers
	for i := range links {
		all = append(all, newNumbers(t, addr, i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sending sync.WaitGroup
	for _, n := range all {
		sending.Go(func() {
			for ctx.Err() == nil {
				if err := n.from.SendMessage(ctx, fmt.Sprint(n.sent.Load()), crosscomm.TypeText, n.to.ClientID()); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				n.sent.Add(1)
			}
		})
	}
	rounds := ofFull(4, 100)
	var back times
	for round := range rounds {
		// New ids give it something to write.
		login(t, addr, fmt.Sprint("round-", round))
		<-time.After(time.Duration(rand.IntN(ofFull(150, 1500))) * time.Millisecond)
		server.Stop()
		if _, err := readState(state); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("round %d: the state file is damaged: %v", round, err)
		}
		ups := make([]int64, links)
		got := make([]int64, links)
		for i, n := range all {
			ups[i], got[i] = n.ups.Load(), n.got.Load()
		}
		server = start()
		began := time.Now()
		for i, n := range all {
			testkit.Eventually(t, "both clients are back, and messages come", func() bool {
				return n.ups.Load() >= ups[i]+2 && n.got.Load() > got[i]+10
			})
		}
		back = append(back, time.Since(began))
	}
	cancel()
	sending.Wait()
	if aside, err := filepath.Glob(state + ".damaged-*"); err != nil || len(aside) != 0 {
		t.Errorf("a damaged file was set aside: %v, %v", aside, err)
	}
	sent, got, gaps := int64(0), int64(0), int64(0)
	for _, n := range all {
		sent, got, gaps = sent+n.sent.Load(), got+n.got.Load(), gaps+n.gaps.Load()
	}
	testkit.Eventually(t, "the state file has the clients", func() bool {
		ids, err := readState(state)
		return err == nil && len(ids) >= 2*links
	})
	t.Logf("%d times killed; all clients were back and heard more within %v (median), %v (at most) of the new start; of %d messages %d came, %d were lost with the links, none came twice or out of order; the state file was whole each time",
		rounds, back.at(50), back.at(100), sent, got, gaps)
}

// A client is killed at random moments while it hears, and one while it sends. The
// server notices, and when they come again they are what they were.
func TestClientIsKilled(t *testing.T) {
	sideBySide(t)
	logins := make(chan string, 1000)
	logouts := make(chan string, 1000)
	server := startServer(t, crosscomm.Config{
		OnLogin:  func(id string) { logins <- id },
		OnLogout: func(id string, _ error) { logouts <- id },
	}, nil)
	heard := make(chan *crosscomm.Message, 1<<20)
	var begun atomic.Uint64 // calls of the listener
	stats := new(crosscomm.ListenerStats)
	server.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		begun.Add(1)
		heard <- m
		return nil
	}, crosscomm.ListenerOptions{From: "killed-sender", Stats: stats})
	rounds := ofFull(4, 100)
	next, last, toClient, fromClient := 0, -1, 0, 0
	lastHeard := -1.0
	for range rounds {
		listener, events := startProgram(t, nil, "listen", "--server", server.addr, "--id", "killed-listener", "--json")
		r, w := io.Pipe()
		sender, _ := startProgram(t, r, "send", "--server", server.addr, "--id", "killed-sender", "--to", "server", "--lines")
		for n := 0; n < 2; n++ {
			testkit.Receive(t, logins)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var writing sync.WaitGroup
		writing.Go(func() {
			for lines := bufio.NewWriterSize(w, 64); ; next++ {
				if _, err := fmt.Fprintln(lines, next); err != nil {
					return
				}
			}
		})
		writing.Go(func() {
			for ctx.Err() == nil {
				if server.SendMessage(ctx, fmt.Sprint(toClient), crosscomm.TypeText, "killed-listener") == nil {
					toClient++
				}
			}
		})
		await(t, events, "message")
		testkit.Receive(t, heard)
		<-time.After(time.Duration(rand.IntN(100)) * time.Millisecond)
		sender.Stop()
		listener.Stop()
		for n := 0; n < 2; n++ {
			testkit.Receive(t, logouts)
		}
		testkit.Eventually(t, "the server has heard all that came", func() bool {
			return stats.Waiting.Load() == 0 && stats.Handled.Load() == begun.Load()
		})
		cancel()
		r.Close()
		writing.Wait()
		next++
		// What the sender has sent has come without a gap, and is not more than what it was
		// given; the listener has printed nothing twice.
		if err := server.SendMessage(t.Context(), "x", crosscomm.TypeText, "killed-listener"); !errors.Is(err, crosscomm.ErrOffline) {
			t.Errorf("to a client that was killed: %v", err)
		}
		first := true
		for len(heard) > 0 {
			n, err := strconv.Atoi((<-heard).Text())
			if err != nil || n <= last || !first && n != last+1 || n > next {
				t.Errorf("the server heard %d after %d, %v", n, last, err)
			}
			first, last = false, n
			fromClient++
		}
		for len(events) > 0 {
			e := <-events
			if e["event"] != "message" {
				continue
			}
			n, err := strconv.ParseFloat(strings.TrimSpace(fmt.Sprint(e["content"])), 64)
			if err != nil || n <= lastHeard {
				t.Errorf("the listener has printed %v after %v, %v", e["content"], lastHeard, err)
			}
			lastHeard = n
		}
	}
	t.Logf("%d times killed; the server noticed each time; it heard %d messages without a gap in any life, and sent %d, of which none was printed twice or out of order", rounds, fromClient, toClient)
}

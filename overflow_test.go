package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// slowListener handles one message at a time, when it is told to.
type slowListener struct {
	began   chan string // the text of each message, when it is called for it
	release chan struct{}
	remove  func()
}

func listenSlowly(svc *crosscomm.Service, opts crosscomm.ListenerOptions) *slowListener {
	l := &slowListener{began: make(chan string, 100_000), release: make(chan struct{})}
	l.remove = svc.MessageListener(func(ctx context.Context, m *crosscomm.Message) error {
		l.began <- m.Text()
		select {
		case <-l.release:
		case <-ctx.Done():
		}
		return nil
	}, opts)
	return l
}

// overflowRoles are where a listener may be: it makes the service, and returns it
// with the address of the server and the id by which it is sent to.
var overflowRoles = map[string]func(*testing.T) (svc *crosscomm.Service, addr, id string){
	"server": func(t *testing.T) (*crosscomm.Service, string, string) {
		server := startServer(t, crosscomm.Config{})
		return server.Service, server.addr, crosscomm.ServerID
	},
	"client": func(t *testing.T) (*crosscomm.Service, string, string) {
		server := startServer(t, crosscomm.Config{})
		return login(t, server.addr, "c"), server.addr, "c"
	},
}

// numbered returns the texts "prefix from" to "prefix to-1".
func numbered(prefix string, from, to int) (texts []string) {
	for i := from; i < to; i++ {
		texts = append(texts, fmt.Sprint(prefix, i))
	}
	return texts
}

func send(t *testing.T, from *crosscomm.Service, to string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err := from.SendMessage(testContext(t), text, crosscomm.TypeText, to); err != nil {
			t.Error(err)
			return
		}
	}
}

func receiveTexts(t *testing.T, from <-chan *crosscomm.Message, n int) {
	t.Helper()
	for range n {
		testkit.Receive(t, from)
	}
}

func checkStats(t *testing.T, s *crosscomm.ListenerStats, handled, failed, dropped uint64, waiting int64) {
	t.Helper()
	got := fmt.Sprint(s.Handled.Load(), s.Failed.Load(), s.Dropped.Load(), s.Waiting.Load())
	if want := fmt.Sprint(handled, failed, dropped, waiting); got != want {
		t.Errorf("handled, failed, dropped and waiting are %s, want %s", got, want)
	}
}

// While a listener that drops is blocked nobody waits for it: one sender's flood,
// another's few messages and answers of the server come through; and when it goes
// on it gets what its policy says, in its order.
func TestOverflowDrops(t *testing.T) {
	const flood = 3000
	for _, policy := range []struct {
		name string
		opts crosscomm.ListenerOptions
		want []string // after the first
	}{
		{"DropOldest", crosscomm.ListenerOptions{Overflow: crosscomm.OverflowDropOldest, MaxWaiting: 4},
			slices.Concat(numbered("b", 0, 3), numbered("a", flood-4, flood))},
		{"Latest", crosscomm.ListenerOptions{Overflow: crosscomm.OverflowLatest, MaxWaiting: 4}, // which does not count
			[]string{fmt.Sprint("a", flood-1), "b2"}},
	} {
		for role, start := range overflowRoles {
			t.Run(policy.name+"/"+role, func(t *testing.T) {
				svc, addr, id := start(t)
				stats := new(crosscomm.ListenerStats)
				policy.opts.Stats = stats
				slow := listenSlowly(svc, policy.opts)
				others := collect(svc, crosscomm.ListenerOptions{}) // gets each message after the slow one
				a, b := login(t, addr, "a"), login(t, addr, "b")
				send(t, a, id, "first")
				receiveTexts(t, others, 1)
				if got := testkit.Receive(t, slow.began); got != "first" {
					t.Fatalf("first came %q", got)
				}
				for _, part := range []struct {
					from  *crosscomm.Service
					texts []string
				}{{a, numbered("a", 0, flood/2)}, {b, numbered("b", 0, 3)}, {a, numbered("a", flood/2, flood)}} {
					send(t, part.from, id, part.texts...)
					receiveTexts(t, others, len(part.texts))
				}
				for _, client := range []*crosscomm.Service{svc, a} {
					if _, err := client.ListClients(testContext(t), true); err != nil && !errors.Is(err, crosscomm.ErrRole) {
						t.Errorf("a connection waits: %v", err)
					}
				}
				waiting := len(policy.want)
				checkStats(t, stats, 0, 0, uint64(flood+3-waiting), int64(waiting))
				close(slow.release)
				for i, want := range policy.want {
					if got := testkit.Receive(t, slow.began); got != want {
						t.Errorf("message %d is %q, want %q", i, got, want)
					}
				}
				testkit.Eventually(t, "all are handled", func() bool { return stats.Handled.Load() == uint64(1+waiting) })
				checkStats(t, stats, uint64(1+waiting), 0, uint64(flood+3-waiting), 0)
				if len(slow.began) > 0 {
					t.Errorf("then came %q", <-slow.began)
				}
			})
		}
	}
}

// With a bound of messages a listener that drops nothing holds up the sender that
// reaches it, at a server no other one, and gets everything.
func TestOverflowBlocks(t *testing.T) {
	const flood = 2000
	for role, start := range overflowRoles {
		t.Run(role, func(t *testing.T) {
			svc, addr, id := start(t)
			stats := new(crosscomm.ListenerStats)
			slow := listenSlowly(svc, crosscomm.ListenerOptions{MaxWaiting: 4, Stats: stats})
			others := collect(svc, crosscomm.ListenerOptions{})
			a, b := login(t, addr, "a"), login(t, addr, "b")
			send(t, a, id, "first")
			testkit.Receive(t, slow.began)
			receiveTexts(t, others, 1)
			var sending sync.WaitGroup
			defer sending.Wait()
			sending.Go(func() { send(t, a, id, numbered("a", 0, flood)...) })
			receiveTexts(t, others, 4) // the fifth waits for the slow one
			waiting := int64(4)
			if role == "server" {
				send(t, b, id, "b0")
				if m := testkit.Receive(t, others); m.Text() != "b0" {
					t.Errorf("%q was not held up", m.Text())
				}
				waiting++
			}
			checkStats(t, stats, 0, 0, 0, waiting)
			close(slow.release)
			send(t, b, id, "b1")
			next := map[string]int{}
			total := flood + 1
			if role == "server" {
				total++
			} else {
				next["b"] = 1
			}
			for range total {
				text := testkit.Receive(t, slow.began)
				if want := fmt.Sprint(text[:1], next[text[:1]]); text != want {
					t.Fatalf("got %q, want %q", text, want)
				}
				next[text[:1]]++
			}
			testkit.Eventually(t, "all are handled", func() bool { return stats.Handled.Load() == uint64(1+total) })
			checkStats(t, stats, uint64(1+total), 0, 0, 0)
		})
	}
}

// A listener is removed while floods go on: from then on it is not called, nothing
// waits for it, and the others go on.
func TestRemoveWhileOverflowing(t *testing.T) {
	const flood = 1500
	for _, overflow := range []crosscomm.Overflow{crosscomm.OverflowDropOldest, crosscomm.OverflowLatest} {
		for role, start := range overflowRoles {
			t.Run(fmt.Sprint(overflow, "/", role), func(t *testing.T) {
				svc, addr, id := start(t)
				stats := new(crosscomm.ListenerStats)
				slow := listenSlowly(svc, crosscomm.ListenerOptions{Overflow: overflow, MaxWaiting: 10, Stats: stats})
				others := collect(svc, crosscomm.ListenerOptions{})
				var sending sync.WaitGroup
				defer sending.Wait()
				for _, name := range []string{"a", "b"} {
					from := login(t, addr, name)
					sending.Go(func() { send(t, from, id, numbered(name, 0, flood)...) })
				}
				testkit.Receive(t, slow.began)
				testkit.Eventually(t, "it drops", func() bool { return stats.Dropped.Load() > 100 })
				slow.remove()
				if n := stats.Waiting.Load(); n != 0 {
					t.Errorf("%d wait for a listener that is removed", n)
				}
				receiveTexts(t, others, 2*flood)
				close(slow.release)
				testkit.Eventually(t, "the call that ran ends", func() bool { return stats.Handled.Load() == 1 })
				if dropped := stats.Dropped.Load(); dropped >= 2*flood || stats.Failed.Load() != 0 || stats.Waiting.Load() != 0 || len(slow.began) != 0 {
					t.Errorf("dropped %d, failed %d, waiting %d, %d called since", dropped, stats.Failed.Load(), stats.Waiting.Load(), len(slow.began))
				}
			})
		}
	}
}

// What fails is counted as such, what waits at the end is dropped, and several
// listeners may share the counters.
func TestListenerStats(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	a, c := login(t, server.addr, "a"), login(t, server.addr, "c")
	stats := new(crosscomm.ListenerStats)
	opts := crosscomm.ListenerOptions{From: "a", Stats: stats}
	c.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		switch m.Text() {
		case "bad":
			return errors.New("no use")
		case "worse":
			panic("oh dear")
		}
		return nil
	}, opts)
	slow := listenSlowly(c, opts)
	send(t, a, "c", "good", "bad", "worse")
	send(t, server.Service, "c", "not for them")
	testkit.Receive(t, slow.began)
	testkit.Eventually(t, "all came", func() bool { return stats.Handled.Load()+stats.Failed.Load() == 3 && stats.Waiting.Load() == 2 })
	checkStats(t, stats, 1, 2, 0, 2)
	if err := c.Logout(testContext(t)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "nothing waits", func() bool { return stats.Waiting.Load() == 0 && stats.Dropped.Load() == 2 })
	testkit.Eventually(t, "the call ends", func() bool { return stats.Handled.Load() == 2 })
	checkStats(t, stats, 2, 2, 2, 0)
}

// Without a MaxWaiting the bytes of one sender bound what waits for a listener that
// drops the oldest; what another sends is not dropped for it.
func TestOverflowBoundsBytes(t *testing.T) {
	svc, addr, id := overflowRoles["server"](t)
	stats := new(crosscomm.ListenerStats)
	slow := listenSlowly(svc, crosscomm.ListenerOptions{Overflow: crosscomm.OverflowDropOldest, Stats: stats})
	others := collect(svc, crosscomm.ListenerOptions{})
	a, b := login(t, addr, "a"), login(t, addr, "b")
	send(t, a, id, "first")
	testkit.Receive(t, slow.began)
	send(t, b, id, "small")
	receiveTexts(t, others, 2)
	big := strings.Repeat("x", 900_000)
	for i := range 24 {
		send(t, a, id, fmt.Sprint(i, " ", big))
		receiveTexts(t, others, 1)
	}
	// 18 of them are less than 16 MiB.
	checkStats(t, stats, 0, 0, 6, 19)
	close(slow.release)
	if got := testkit.Receive(t, slow.began); got != "small" {
		t.Errorf("got %.20q", got)
	}
	for i := 6; i < 24; i++ {
		if got := testkit.Receive(t, slow.began); !strings.HasPrefix(got, fmt.Sprint(i, " ")) {
			t.Errorf("got %.20q, want message %d", got, i)
		}
	}
}

// What waits for a download is not dropped; when that is over, it and what came
// after it get their places at once, and the policy applies.
func TestOverflowAfterADownload(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	for name, test := range map[string]struct {
		opts                  crosscomm.ListenerOptions
		waiting, droppedFirst int
		want                  []string
	}{
		"DropOldest": {crosscomm.ListenerOptions{Overflow: crosscomm.OverflowDropOldest, MaxWaiting: 2}, 6, 0, []string{"t3", "t4"}},
		"all":        {crosscomm.ListenerOptions{Overflow: crosscomm.OverflowDropOldest, MaxWaiting: 6}, 6, 0, []string{"file", "t0", "t1", "t2", "t3", "t4"}},
		"Latest":     {crosscomm.ListenerOptions{Overflow: crosscomm.OverflowLatest}, 2, 4, []string{"t4"}},
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			store := newMemStore(map[string]string{"k": "bytes"})
			store.beforeGet = untilReleased(release)
			svc := newClient(t, server.addr, "c", crosscomm.Config{ObjectStore: store})
			stats := new(crosscomm.ListenerStats)
			opts := test.opts
			opts.Stats, opts.DownloadDirectory = stats, t.TempDir()
			got := collect(svc, opts)
			texts := collect(svc, crosscomm.ListenerOptions{Type: crosscomm.TypeText})
			if err := svc.Login(testContext(t)); err != nil {
				t.Fatal(err)
			}
			sender := loginRaw(t, server.addr, "sender")
			sender.write(fileFrame("sender", "c", "file", "file", "k"))
			for _, text := range numbered("t", 0, 5) {
				sender.write(frameOf("sender", "c", "text", `"`+text+`"`))
			}
			receiveTexts(t, texts, 5)
			checkStats(t, stats, 0, 0, uint64(test.droppedFirst), int64(test.waiting))
			close(release)
			for _, want := range test.want {
				if m := testkit.Receive(t, got); m.Text() != want || m.Err() != nil {
					t.Errorf("got %q, %v, want %q", m.Text(), m.Err(), want)
				}
			}
			handled := uint64(len(test.want))
			testkit.Eventually(t, "all are handled", func() bool { return stats.Handled.Load() == handled })
			checkStats(t, stats, handled, 0, 6-handled, 0)
		})
	}
}

package torture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

const year = 365 * 24 * time.Hour

// online returns the ids that a client is told are online, with when they last gave a
// sign of life.
func online(t *testing.T, c *crosscomm.Service) (ids []string, last []time.Time) {
	t.Helper()
	list, err := c.ListClients(patience(t), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range list.Clients {
		ids, last = append(ids, info.ClientID), append(last, info.LastHeartbeat)
	}
	return ids, last
}

// output is what a program prints, into a file.
type output struct {
	t    *testing.T
	file *os.File
}

func newOutput(t *testing.T) output {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return output{t, file}
}

func (o output) has(text string) bool {
	data, err := os.ReadFile(o.file.Name())
	if err != nil {
		o.t.Fatal(err)
	}
	return strings.Contains(string(data), text)
}

// The wall clock of the real server jumps by years and back while it runs: nobody is
// taken for silent who is not, who is silent is taken for it in time, and messages
// pass. Files pass while the clocks of both ends agree to a quarter of an hour, as with
// OSS; if not, the error says so. The server is also suspended for longer than clients
// may be silent.
//
// What the step of a machine's clock does beyond that, to timers of the kernel, does
// not concern them: those that Go uses go by the monotonic clock.
func TestServersClockJumps(t *testing.T) {
	sideBySide(t)
	dir := t.TempDir()
	out := newOutput(t)
	const timeout = 3 * time.Second
	port := strconv.Itoa(testkit.FreePort(t))
	addr := "127.0.0.1:" + port
	cmd, clock, err := startWatched(t, out.file, program(t), "server", "--ip", "127.0.0.1", "--port", port, "--data-dir", filepath.Join(dir, "data"),
		"--heartbeat-interval", "200ms", "--heartbeat-timeout", timeout.String(), "--json", "--log-level", "error")
	if err != nil {
		t.Logf("no wall clock can jump here: %v", err)
		return
	}
	testkit.Eventually(t, "it listens", func() bool { return out.has("listening") })
	var clients []*crosscomm.Service
	for _, id := range []string{"a", "b"} {
		c := newClient(t, addr, id, crosscomm.Config{HeartbeatInterval: 300 * time.Millisecond, OnDown: func(err error) { t.Errorf("%s was down: %v", id, err) }})
		clients = append(clients, c)
	}
	a, b := clients[0], clients[1]
	onB := listen(b, crosscomm.ListenerOptions{DownloadDirectory: t.TempDir()})
	for _, c := range clients {
		if err := c.Login(patience(t)); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, make([]byte, 200_000), 0o600); err != nil {
		t.Fatal(err)
	}
	steps := []time.Duration{10 * year, -10 * year}
	if *full {
		steps = []time.Duration{10 * year, -20 * year, 10 * year, time.Hour, -2 * time.Hour, time.Hour, 10 * time.Minute, -20 * time.Minute}
	}
	for i, step := range steps {
		silent, err := loginRaw(addr, "silent")
		if err != nil {
			t.Fatal(err)
		}
		clock.jump(step)
		if ids, last := online(t, a); !slices.Equal(ids, []string{"a", "b", "silent"}) {
			t.Errorf("after a jump by %v only %v are online", step, ids)
		} else if d := clock.now().Sub(last[0]); d < 0 || d > timeout {
			t.Errorf("after a jump by %v the last heartbeat of %s was %v ago", step, ids[0], d)
		}
		text := fmt.Sprint("after jump ", i)
		if err := a.SendMessage(patience(t), text, crosscomm.TypeText, crosscomm.All); err != nil {
			t.Fatal(err)
		}
		if m := testkit.Receive(t, onB); m.Text() != text {
			t.Errorf("got %q", m.Text())
		}
		testkit.Eventually(t, "who is silent is offline", func() bool { ids, _ := online(t, a); return slices.Equal(ids, []string{"a", "b"}) })
		skew := time.Until(clock.now()).Round(time.Second)
		err = a.SendMessage(patience(t), file, crosscomm.TypeFile, "b")
		var transfer *crosscomm.TransferError
		switch {
		case skew.Abs() > 15*time.Minute && errors.As(err, &transfer) && strings.Contains(err.Error(), "RequestTimeTooSkewed"):
		case err != nil:
			t.Errorf("a file, the clocks being %v apart: %v", skew, err)
		default:
			if m := testkit.Receive(t, onB); m.Err() != nil {
				t.Errorf("a file, the clocks being %v apart: %v", skew, m.Err())
			}
		}
		t.Logf("after a jump by %v, to %v, all were online, and who was silent was offline after %v; a message passed; a file: %v", step, clock.now().Format(time.DateTime), timeout, err)
		silent.Close()
	}
	testkit.Eventually(t, "the state file goes by the new time", func() bool {
		ids, err := readState(filepath.Join(dir, "data", "cross_comm_clients.yaml"))
		seen := time.Unix(int64(ids["silent"].LastSeen), 0)
		return err == nil && clock.now().Sub(seen).Abs() < time.Minute
	})
	t.Logf("the server has asked for the time of day %d times", clock.asked.Load())
	if clock.asked.Load() < 10 {
		t.Error("the clock is not the server's")
	}

	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(timeout + 500*time.Millisecond)
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "all are there again", func() bool { ids, _ := online(t, a); return slices.Equal(ids, []string{"a", "b"}) })
	if err := a.SendMessage(patience(t), "after a suspension", crosscomm.TypeText, crosscomm.All); err != nil {
		t.Error(err)
	}
	if m := testkit.Receive(t, onB); m.Text() != "after a suspension" {
		t.Errorf("got %q", m.Text())
	}
	t.Logf("after a suspension of more than %v all were online, without a new login, and a message passed", timeout)
}

// The wall clock of a real client jumps: it stays, and hears what comes.
func TestClientsClockJumps(t *testing.T) {
	sideBySide(t)
	logouts := make(chan error, 10)
	server := startServer(t, crosscomm.Config{OnLogout: func(_ string, err error) { logouts <- err }}, nil)
	out := newOutput(t)
	_, clock, err := startWatched(t, out.file, program(t), "listen", "--server", server.addr, "--id", "program", "--json", "--log-level", "error")
	if err != nil {
		t.Logf("no wall clock can jump here: %v", err)
		return
	}
	testkit.Eventually(t, "it is there", func() bool { return slices.Contains(server.GetOnlineClients(), "program") })
	for i, step := range []time.Duration{10 * year, -20 * year, time.Hour, -2 * time.Hour} {
		clock.jump(step)
		text := fmt.Sprint("after jump ", i)
		if err := server.SendMessage(patience(t), text, crosscomm.TypeText, "program"); err != nil {
			t.Error(err)
		}
		testkit.Eventually(t, "it has heard it", func() bool { return out.has(text) })
		// Its next heartbeats and pings are due after 30 and 20 s.
		if *full {
			select {
			case err := <-logouts:
				t.Errorf("after a jump by %v it was gone: %v", step, err)
			case <-time.After(65 * time.Second):
			}
		}
	}
	if out.has(`"down"`) || len(logouts) > 0 {
		t.Error("it was down")
	}
	t.Logf("the client has asked for the time of day %d times; it was never down", clock.asked.Load())
}

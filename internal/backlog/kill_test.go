package backlog_test

import (
	"bufio"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/backlog"
)

// The test binary does what putUntilKilled says if these are set.
const (
	putForever = "CROSSCOMM_TEST_BACKLOG_PUT"
	putRun     = "CROSSCOMM_TEST_BACKLOG_RUN"
)

// each is how many messages of a run a client may get: seqs grow from run to run.
const each = 1_000_000

// numbered is the content of a message, which tells whether it is whole.
func numbered(seq uint64) string {
	return strings.Repeat(fmt.Sprintf("%010d", seq), 1+int(seq%50))
}

// putUntilKilled puts messages for three clients, and for one whose messages it
// deletes again, and reports what it has been told is done. Most are a queue's
// length ahead of what is committed, so that groups are large.
func putUntilKilled(path string, run int) {
	s, err := backlog.Open(path, backlog.Options{})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	report := func(what, client string, seq uint64, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(what, client, seq)
	}
	for _, client := range []string{"a", "b", "c", "gone"} {
		go func() {
			slots := make(chan bool, 50)
			for seq := uint64(run*each + 1); ; seq++ {
				slots <- true
				s.Put(client, backlog.Message{Seq: seq, Data: []byte(numbered(seq))}, func(err error) {
					report("put", client, seq, err)
					if client != "gone" {
						<-slots
						return
					}
					s.Delete(client, []uint64{seq}, func(err error) {
						report("deleted", client, seq, err)
						<-slots
					})
				})
			}
		}()
	}
	select {}
}

// kill -9 at any moment loses nothing that was reported as done, and tears nothing.
func TestKill(t *testing.T) {
	path := file(t)
	put, deleted := map[string][]uint64{}, map[uint64]bool{}
	for run := range 20 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), putForever+"="+path, putRun+"="+strconv.Itoa(run))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { // if the test ends early: before the directory is removed
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		lines := bufio.NewReader(out)
		next := func() bool {
			var what, client string
			var seq uint64
			if n, _ := fmt.Fscanf(lines, "%s %s %d\n", &what, &client, &seq); n < 3 {
				return false
			}
			switch what {
			case "put":
				put[client] = append(put[client], seq)
			case "deleted":
				deleted[seq] = true
			default:
				t.Fatalf("the child says %s %s", what, client)
			}
			return true
		}
		// After a random number of reports it is killed, at a random moment.
		for range 1 + rand.IntN(1000) {
			if !next() {
				t.Fatal("the child has ended")
			}
		}
		<-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond)
		_ = cmd.Process.Kill()
		for next() {
		}
		_ = cmd.Wait()
		checkKilled(t, path, put, deleted)
	}
}

// checkKilled opens what the killed process has left. Beside what was reported
// there may be what was committed and not reported any more.
func checkKilled(t *testing.T, path string, put map[string][]uint64, deleted map[uint64]bool) {
	t.Helper()
	s, err := backlog.Open(path, backlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var total int64
	for _, client := range []string{"a", "b", "c", "gone"} {
		messages, err := s.Load(client, 0, math.MaxInt, math.MaxInt)
		if err != nil {
			t.Fatal(err)
		}
		total += int64(len(messages))
		seqs := map[uint64]bool{}
		for _, m := range messages {
			seqs[m.Seq] = true
			if string(m.Data) != numbered(m.Seq) {
				t.Errorf("message %d of %s is torn: %d bytes", m.Seq, client, len(m.Data))
			}
			if client == "gone" && deleted[m.Seq] {
				t.Errorf("message %d was deleted, and is there", m.Seq)
			}
		}
		if !slices.IsSortedFunc(messages, func(a, b backlog.Message) int { return int(int64(a.Seq - b.Seq)) }) {
			t.Errorf("those of %s are out of order", client)
		}
		for _, seq := range put[client] {
			if client != "gone" && !seqs[seq] {
				t.Errorf("message %d of %s was put, and is not there", seq, client)
			}
		}
		if n, _ := s.Size(client); n != len(messages) {
			t.Errorf("%d messages of %s are counted, of %d", n, client, len(messages))
		}
	}
	if got := s.Totals(); got.Messages != total || got.Damaged > 0 || got.Dropped > 0 {
		t.Errorf("totals %+v with %d messages", got, total)
	}
}

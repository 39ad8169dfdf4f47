package backlog_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/crosscomm/crosscomm-go/internal/backlog"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(putForever); path != "" {
		run, _ := strconv.Atoi(os.Getenv(putRun))
		putUntilKilled(path, run)
	}
	goleak.VerifyTestMain(m)
}

func message(seq uint64, text string) backlog.Message {
	return backlog.Message{Seq: seq, Meta: fmt.Appendf(nil, "meta %d", seq), Data: []byte(text)}
}

// put puts messages, and returns the error of the last one.
func put(t *testing.T, s *backlog.Store, client string, messages ...backlog.Message) error {
	t.Helper()
	outcome := make(chan error, len(messages))
	for _, m := range messages {
		s.Put(client, m, func(err error) { outcome <- err })
	}
	var err error
	for range messages {
		err = testkit.Receive(t, outcome)
	}
	return err
}

func remove(t *testing.T, s *backlog.Store, client string, seqs ...uint64) error {
	t.Helper()
	outcome := make(chan error, 1)
	s.Delete(client, seqs, func(err error) { outcome <- err })
	return testkit.Receive(t, outcome)
}

// load returns the texts of all messages of a client.
func load(t *testing.T, s *backlog.Store, client string) (texts []string) {
	t.Helper()
	messages, err := s.Load(client, 0, math.MaxInt, math.MaxInt)
	if err != nil {
		t.Error(err)
	}
	for _, m := range messages {
		texts = append(texts, string(m.Data))
	}
	return texts
}

func file(t *testing.T) string { return filepath.Join(t.TempDir(), "backlog.db") }

// What comes while one group is committed is the next one, and nothing that is not
// wanted any more is written.
func TestGroups(t *testing.T) {
	s := open(t, file(t), backlog.Options{})
	commits := 0
	s.WrapUpdate(func(update func() error) error { commits++; return update() })
	var order []string
	note := func(what string) func(error) {
		return func(err error) { order = append(order, fmt.Sprint(what, " ", err)) }
	}
	release := s.Hold()
	for i := range uint64(3) {
		s.Put("a", message(i, "one"), note(fmt.Sprint("put ", i)))
	}
	s.Delete("a", []uint64{0, 1, 2, 3}, note("deleted"))
	s.Delete("b", []uint64{1}, note("nothing to delete"))
	release()
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"put 0 <nil>", "put 1 <nil>", "put 2 <nil>", "deleted <nil>", "nothing to delete <nil>"}
	if !slices.Equal(order, want) || commits != 0 {
		t.Errorf("%d commits, told %q", commits, order)
	}
	if _, ok := s.Last("a"); ok {
		t.Error("there is a last message")
	}

	// One that is stored, or is just being stored, must be deleted there.
	if err := put(t, s, "a", message(5, "stored")); err != nil {
		t.Fatal(err)
	}
	release = s.Hold()
	s.Put("a", message(5, "again"), nil)
	s.Put("a", message(4, "late"), nil)
	s.Put("b", message(1, "kept"), nil)
	s.Delete("a", []uint64{5, 4}, nil)
	release()
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := load(t, s, "a"); len(got) > 0 || commits != 2 {
		t.Errorf("%d commits, and there is %q", commits, got)
	}
	blocked, goOn := make(chan bool), make(chan bool)
	s.WrapUpdate(func(update func() error) error { blocked <- true; <-goOn; return update() })
	s.Put("a", message(1, "on its way"), nil)
	testkit.Receive(t, blocked)
	if last, ok := s.Last("a"); last != 1 || !ok {
		t.Errorf("the last message is %d, %v", last, ok)
	}
	s.Delete("a", []uint64{1}, nil)
	goOn <- true
	testkit.Receive(t, blocked)
	if got := load(t, s, "a"); !slices.Equal(got, []string{"on its way"}) {
		t.Errorf("after the first commit there is %q", got)
	}
	goOn <- true
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := load(t, s, "a"); len(got) > 0 {
		t.Errorf("after the second commit there is %q", got)
	}
	s.WrapUpdate(func(func() error) error { return nil }) // for Close, which has nobody to go on
}

// A queue of several pages of keys that is emptied leaves nothing behind, whichever
// end it is emptied from.
func TestLongQueues(t *testing.T) {
	s := open(t, file(t), backlog.Options{})
	const n = 5000
	var messages []backlog.Message
	var seqs []uint64
	for i := range uint64(n) {
		messages, seqs = append(messages, message(i+1, strings.Repeat("x", 200))), append(seqs, i+1)
	}
	half := seqs[n/2:]
	for name, parts := range map[string][][]uint64{"at once": {seqs}, "the end first": {half, seqs[:n/2]}, "the beginning first": {seqs[:n/2], half}} {
		if err := put(t, s, name, messages...); err != nil {
			t.Fatal(err)
		}
		for i, part := range parts {
			if err := remove(t, s, name, part...); err != nil {
				t.Fatal(err)
			}
			left := n - (i+1)*n/len(parts)
			if got := len(load(t, s, name)); got != left {
				t.Errorf("%s: %d are left, want %d", name, got, left)
			}
			if last, ok := s.Last(name); ok != (left > 0) || name == "the end first" && left > 0 && last != n/2 {
				t.Errorf("%s: the last one is %d, %v", name, last, ok)
			}
		}
	}
	if a, b := s.StoredClients(); len(a) > 0 || len(b) > 0 || s.Totals() != (backlog.Totals{}) {
		t.Errorf("left: %q, %q, %+v", a, b, s.Totals())
	}
}

// Expire drops more than one transaction may, and Load has nothing of it before.
func TestExpireMany(t *testing.T) {
	now := time.Now()
	dropped := 0
	s := open(t, file(t), backlog.Options{Now: func() time.Time { return now }, Dropped: func(string, uint64, []byte) { dropped++ }})
	const each, clients = 8000, 3
	for i := range uint64(each) {
		for c := range clients {
			s.Put(fmt.Sprint(c), message(i, "x"), nil)
		}
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = now.Add(7*24*time.Hour + 1)
	if err := put(t, s, "1", message(each, "new")); err != nil {
		t.Fatal(err)
	}
	if got := load(t, s, "1"); !slices.Equal(got, []string{"new"}) {
		t.Errorf("loaded %d messages", len(got))
	}
	commits := 0
	s.WrapUpdate(func(update func() error) error { commits++; return update() })
	s.Expire()
	if got := s.Totals(); dropped != each*clients || got.Dropped != each*clients || got.Messages != 1 || commits != 3 {
		t.Errorf("%d were told of, in %d transactions, totals %+v", dropped, commits, got)
	}
	s.Expire()
	if commits != 3 {
		t.Error("there was something to do for Expire once more")
	}
}

func TestRefused(t *testing.T) {
	s := open(t, file(t), backlog.Options{MaxBytes: 1000, MaxTotal: 1500})
	big := message(1, strings.Repeat("x", 800))
	for _, c := range []struct {
		client string
		m      backlog.Message
		want   error
	}{
		{"a", message(1, strings.Repeat("x", 1000)), backlog.ErrTooLarge},
		{"", message(1, "x"), backlog.ErrClient},
		{strings.Repeat("x", bbolt.MaxKeySize+1), message(1, "x"), backlog.ErrClient},
		{strings.Repeat("x", bbolt.MaxKeySize), message(1, "x"), nil},
		{"a", big, nil},
		{"b", big, backlog.ErrFull},
		{"b", message(1, "small"), nil},
	} {
		if err := put(t, s, c.client, c.m); !errors.Is(err, c.want) {
			t.Errorf("%.5q: %v, want %v", c.client, err, c.want)
		}
	}
	// What waits counts, too.
	release := s.Hold()
	outcomes := make(chan error, 2)
	for i := range uint64(2) {
		s.Put("c", message(i, strings.Repeat("x", 200)), func(err error) { outcomes <- err })
	}
	release()
	if first, second := testkit.Receive(t, outcomes), testkit.Receive(t, outcomes); first != nil || !errors.Is(second, backlog.ErrFull) {
		t.Errorf("%v, then %v", first, second)
	}
}

func TestRoom(t *testing.T) {
	s := open(t, file(t), backlog.Options{MaxPending: 1000})
	release := s.Hold()
	s.Put("a", message(1, strings.Repeat("x", 700)), nil)
	if err := s.Room(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Put("a", message(2, strings.Repeat("x", 700)), nil)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if err := s.Room(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("with its context canceled: %v", err)
		}
	})
	cancel()
	all.Wait()
	there := make(chan error, 1)
	go func() { there <- s.Room(t.Context()) }()
	for !s.HasWaiting() {
		runtime.Gosched()
	}
	release()
	if err := testkit.Receive(t, there); err != nil {
		t.Error(err)
	}
}

// A commit that fails fails for all that are in it, and for nobody else; what it
// has left in the file all the same is counted.
func TestFailedCommit(t *testing.T) {
	now := time.Now()
	s := open(t, file(t), backlog.Options{
		MaxMessages: 2, Now: func() time.Time { return now },
		Dropped: func(string, uint64, []byte) { t.Error("told of a drop that was not committed") },
	})
	if err := put(t, s, "a", message(1, "one"), message(2, "two")); err != nil {
		t.Fatal(err)
	}
	fail := func(update func() error) error { return &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC} }
	s.WrapUpdate(func(update func() error) error { return fail(update) })
	group := func() (outcomes []error) {
		release := s.Hold()
		note := func(err error) { outcomes = append(outcomes, err) }
		s.Put("a", message(3, "three"), note)
		s.Put("b", message(1, "one"), note)
		s.Put("c", message(1, "not wanted"), note)
		s.Delete("c", []uint64{1}, note)
		s.Delete("a", []uint64{1, 2}, note)
		release()
		if err := s.Sync(t.Context()); err != nil {
			t.Error(err)
		}
		return outcomes
	}
	for i, err := range group() {
		if settled := i == 2 || i == 3; settled != (err == nil) || !settled && (!errors.Is(err, backlog.ErrFull) || !errors.Is(err, syscall.ENOSPC)) {
			t.Errorf("change %d: %v", i, err)
		}
	}
	if n, _ := s.Size("a"); n != 2 || len(s.Clients()) != 1 {
		t.Errorf("%d messages of %q", n, s.Clients())
	}
	// For a while the disk is not tried again.
	commits := 0
	fail = func(update func() error) error { commits++; return update() }
	now = now.Add(time.Second - 1)
	if err := put(t, s, "a", message(3, "three")); !errors.Is(err, syscall.ENOSPC) || commits > 0 {
		t.Errorf("%d commits, %v", commits, err)
	}
	now = now.Add(1)
	fail = func(func() error) error { panic("at the disco") }
	if err := group()[0]; err == nil || errors.Is(err, backlog.ErrFull) || !strings.Contains(err.Error(), "disco") {
		t.Errorf("a panic is %v", err)
	}
	fail = func(update func() error) error { return errors.Join(update(), errors.New("the last sync failed")) }
	group()
	if n, _ := s.Size("a"); n != 1 || s.Totals().Messages != 2 || !slices.Equal(s.Clients(), []string{"a", "b"}) {
		t.Errorf("%d messages of %q, totals %+v", n, s.Clients(), s.Totals())
	}
	fail = func(update func() error) error { return update() }
	if err := put(t, s, "a", message(4, "four")); err != nil {
		t.Error(err)
	}
	if got := load(t, s, "a"); !slices.Equal(got, []string{"three", "four"}) {
		t.Errorf("there is %q", got)
	}
}

// A full disk is no reason not to delete.
func TestDeleteOnFullDisk(t *testing.T) {
	s := open(t, file(t), backlog.Options{})
	if err := put(t, s, "a", message(1, "one"), message(2, "two")); err != nil {
		t.Fatal(err)
	}
	commits := 0
	s.WrapUpdate(func(update func() error) error {
		if commits++; commits == 1 {
			return syscall.ENOSPC
		}
		return update()
	})
	release := s.Hold()
	var putErr, otherErr, deleteErr error
	s.Put("a", message(3, "three"), func(err error) { putErr = err })
	s.Put("b", message(1, "one"), func(err error) { otherErr = err })
	s.Delete("a", []uint64{1}, func(err error) { deleteErr = err })
	release()
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(putErr, backlog.ErrFull) || !errors.Is(otherErr, backlog.ErrFull) || deleteErr != nil || commits != 2 {
		t.Errorf("%d commits: put: %v, %v, deleted: %v", commits, putErr, otherErr, deleteErr)
	}
	if got := load(t, s, "a"); !slices.Equal(got, []string{"two"}) || len(s.Clients()) != 1 {
		t.Errorf("there is %q of %q", got, s.Clients())
	}
}

func TestClosed(t *testing.T) {
	path := file(t)
	s := open(t, path, backlog.Options{})
	release := s.Hold()
	outcome := make(chan error, 1)
	s.Put("a", message(1, "queued"), func(err error) { outcome <- err })
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	release()
	all.Wait()
	if err := testkit.Receive(t, outcome); err != nil {
		t.Errorf("what was queued before: %v", err)
	}
	if err := put(t, s, "a", message(2, "x")); !errors.Is(err, backlog.ErrClosed) {
		t.Errorf("Put: %v", err)
	}
	if err := remove(t, s, "a", 1); !errors.Is(err, backlog.ErrClosed) {
		t.Errorf("Delete: %v", err)
	}
	if _, err := s.Load("a", 0, 1, 1); !errors.Is(err, backlog.ErrClosed) {
		t.Errorf("Load: %v", err)
	}
	s.Expire()
	if err := errors.Join(s.Sync(t.Context()), s.Room(t.Context())); err != nil {
		t.Error(err)
	}
	s = open(t, path, backlog.Options{})
	if got := load(t, s, "a"); !slices.Equal(got, []string{"queued"}) {
		t.Errorf("there is %q", got)
	}
}

func TestInUse(t *testing.T) {
	path := file(t)
	open(t, path, backlog.Options{})
	if _, err := backlog.Open(path, backlog.Options{}); !errors.Is(err, backlog.ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
}

// Each of several goroutines finds its own messages as it left them, whatever the
// others do.
func TestConcurrent(t *testing.T) {
	s := open(t, file(t), backlog.Options{MaxPending: 1000})
	var workers, others sync.WaitGroup
	stop := make(chan bool)
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			s.Expire()
			for _, client := range s.Clients() {
				s.Size(client)
				s.Last(client)
			}
			if got := s.Totals(); got.Messages > 4*20 || got.Dropped > 0 {
				t.Errorf("totals %+v", got)
			}
		}
	})
	for i := range 4 {
		client := fmt.Sprint("client ", i)
		workers.Go(func() {
			want := []string{}
			for seq := uint64(1); seq <= 100; seq++ {
				text := fmt.Sprint(client, " ", seq)
				if err := s.Room(t.Context()); err != nil {
					t.Error(err)
				}
				s.Put(client, message(seq, text), nil)
				want = append(want, text)
				if seq%3 == 0 && len(want) > 1 { // the one before: stored, on its way or waiting
					s.Delete(client, []uint64{seq - 1}, nil)
					want = slices.Delete(want, len(want)-2, len(want)-1)
				}
				if seq%10 != 0 {
					continue
				}
				if err := s.Sync(t.Context()); err != nil {
					t.Error(err)
				}
				if got := load(t, s, client); !slices.Equal(got, want) {
					t.Errorf("there is %q, want %q", got, want)
				}
				if seq%20 == 0 {
					var all []uint64
					for gone := range seq {
						all = append(all, gone+1)
					}
					s.Delete(client, all, nil)
					want = want[:0]
				}
			}
		})
	}
	workers.Wait()
	close(stop)
	others.Wait()
}

// The memory that Load returns is the caller's, and that of Put is, too.
func TestOwnMemory(t *testing.T) {
	s := open(t, file(t), backlog.Options{})
	m := message(1, "data")
	release := s.Hold()
	s.Put("a", m, nil)
	copy(m.Data, "????")
	copy(m.Meta, "????")
	release()
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := s.Load("a", 0, 1, 1)
		if err != nil || len(got) != 1 || string(got[0].Data) != "data" || string(got[0].Meta) != "meta 1" {
			t.Fatalf("loaded %v, %v", got, err)
		}
		_ = append(got[0].Meta, "????"...)
		if string(got[0].Data) != "data" {
			t.Error("Meta reaches into Data")
		}
		copy(got[0].Data, "????")
	}
}

package objects

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
)

var unknownSize = PutOptions{Expect: Expect{Size: -1}}

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Changes that come while another is committed are one transaction, in which one
// that fails harms no other.
func TestGroupCommit(t *testing.T) {
	s := openStore(t)
	dirSyncs := 0
	s.commits.syncDir = func() error { dirSyncs++; return nil }
	const n = 10
	errFails := errors.New("it fails")
	var all sync.WaitGroup
	var ids [n]int // of the transactions, as they were committed at last
	var errs [n]error
	waiting := func() int {
		s.commits.mu.Lock()
		defer s.commits.mu.Unlock()
		return len(s.commits.waiting)
	}
	first := 0
	err := s.commits.update(false, func(tx *bbolt.Tx) error {
		first = tx.ID()
		for i := range n {
			all.Go(func() {
				errs[i] = s.commits.update(i < 5, func(tx *bbolt.Tx) error {
					ids[i] = tx.ID()
					switch i {
					case 3:
						return errFails
					case 7:
						panic("at the disco")
					}
					return tx.Bucket(objectsBucket).Put([]byte{'k', byte(i)}, []byte("{}"))
				})
			})
		}
		for waiting() < n {
			runtime.Gosched()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	all.Wait()
	for i := range n {
		switch {
		case i == 3 && !errors.Is(errs[i], errFails):
			t.Errorf("the one that fails: %v", errs[i])
		case i == 7 && (errs[i] == nil || !strings.Contains(errs[i].Error(), "disco")):
			t.Errorf("the one that panics: %v", errs[i])
		case i != 3 && i != 7 && (errs[i] != nil || ids[i] != first+1):
			t.Errorf("change %d is in transaction %d after %d: %v", i, ids[i], first, errs[i])
		}
		_ = s.db.View(func(tx *bbolt.Tx) error {
			if stored := tx.Bucket(objectsBucket).Get([]byte{'k', byte(i)}) != nil; stored != (errs[i] == nil) {
				t.Errorf("change %d is in the index: %v", i, stored)
			}
			return nil
		})
	}
	if dirSyncs != 1 {
		t.Errorf("the directory was synced %d times for one group with blobs", dirSyncs)
	}
	if err := s.commits.update(false, func(*bbolt.Tx) error { return nil }); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// A transaction that reports an error may be in the index all the same: then the
// blob that it points to stays, and so does the one before.
func TestCommitOfUnknownOutcome(t *testing.T) {
	s := openStore(t)
	if _, err := s.Put(t.Context(), "k", strings.NewReader("old"), unknownSize); err != nil {
		t.Fatal(err)
	}
	u, err := s.Initiate(context.Background(), "u", nil)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	waiting := func() int {
		s.commits.mu.Lock()
		defer s.commits.mu.Unlock()
		return len(s.commits.waiting)
	}
	err = s.commits.update(false, func(*bbolt.Tx) error {
		all.Go(func() {
			if _, err := s.Put(t.Context(), "k", strings.NewReader("new"), unknownSize); !mayHaveCommitted(err) {
				t.Errorf("the put: %v", err)
			}
		})
		all.Go(func() {
			if _, err := s.PutPart(t.Context(), "u", u.ID, 1, strings.NewReader("part"), Expect{Size: -1}); !mayHaveCommitted(err) {
				t.Errorf("the part: %v", err)
			}
		})
		all.Go(func() {
			_ = s.commits.update(false, func(tx *bbolt.Tx) error {
				tx.OnCommit(func() { panic("after the commit") })
				return nil
			})
		})
		for waiting() < 3 {
			runtime.Gosched()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	all.Wait()
	r, err := s.Open("k")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if data, err := io.ReadAll(r); err != nil || string(data) != "new" {
		t.Errorf("the object is %q, %v", data, err)
	}
	if used := s.Used(); used != int64(len("old"+"new"+"part")) {
		t.Errorf("%d bytes used: the one before counts, too", used)
	}
	parts, err := s.Parts("u", u.ID)
	if err != nil || len(parts) != 1 {
		t.Fatalf("parts: %+v, %v", parts, err)
	}
	if o, err := s.Complete(context.Background(), "u", u.ID, []CompletePart{{1, parts[0].ETag}}); err != nil || o.Size != 4 {
		t.Errorf("completed: %+v, %v", o, err)
	}
}

// failingWriter fails after some bytes, as a full disk does.
type failingWriter struct {
	io.Writer
	left int
}

func (w *failingWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		n, _ := w.Writer.Write(p[:w.left])
		w.left = 0
		return n, syscall.ENOSPC
	}
	w.left -= len(p)
	return w.Writer.Write(p)
}

// Whatever fails in the file system, the old object stays and nothing is left
// behind.
func TestFailingDisk(t *testing.T) {
	s := openStore(t)
	old := strings.Repeat("old ", 100_000)
	if _, err := s.Put(t.Context(), "k", strings.NewReader(old), unknownSize); err != nil {
		t.Fatal(err)
	}
	u, err := s.Initiate(context.Background(), "u", nil)
	if err != nil {
		t.Fatal(err)
	}
	writer, sync, syncDir := s.writer, s.sync, s.commits.syncDir
	for name, damage := range map[string]func(){
		"write at once":  func() { s.writer = func(f *os.File) io.Writer { return &failingWriter{f, 0} } },
		"write later":    func() { s.writer = func(f *os.File) io.Writer { return &failingWriter{f, 300_000} } },
		"sync":           func() { s.sync = func(*os.File) error { return syscall.ENOSPC } },
		"sync directory": func() { s.commits.syncDir = func() error { return syscall.ENOSPC } },
	} {
		damage()
		if _, err := s.Put(t.Context(), "k", strings.NewReader(strings.Repeat("new ", 100_000)), unknownSize); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: a put: %v", name, err)
		}
		if _, err := s.PutPart(t.Context(), "u", u.ID, 1, strings.NewReader(strings.Repeat("new ", 100_000)), Expect{Size: -1}); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: a part: %v", name, err)
		}
		s.writer, s.sync, s.commits.syncDir = writer, sync, syncDir
		dir, err := s.root.Open(blobDir)
		if err != nil {
			t.Fatal(err)
		}
		names, _ := dir.Readdirnames(-1)
		dir.Close()
		if len(names) != 1 || s.Used() != int64(len(old)) {
			t.Errorf("%s: %d blobs, %d bytes used", name, len(names), s.Used())
		}
		r, err := s.Open("k")
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(r); err != nil || string(data) != old {
			t.Errorf("%s: the old object has %d bytes, %v", name, len(data), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A store that is closed fails all that comes, and hangs for nobody.
func TestClosedStore(t *testing.T) {
	s := openStore(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := s.Put(context.Background(), "k", strings.NewReader("x"), unknownSize); err == nil {
			t.Error("a put succeeded")
		}
		if err := s.commits.update(false, func(*bbolt.Tx) error { return nil }); err == nil {
			t.Error("a commit succeeded")
		}
	}
}

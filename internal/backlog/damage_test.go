package backlog_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/crosscomm/crosscomm-go/internal/backlog"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// A damaged file is set aside, whatever is damaged, and what is no damage is left.
func TestDamagedFile(t *testing.T) {
	for name, damage := range map[string]func(path string, data []byte, root int64) error{
		"other bytes": func(path string, _ []byte, _ int64) error {
			return os.WriteFile(path, bytes.Repeat([]byte("what? "), 5000), 0o600)
		},
		"one byte": func(path string, _ []byte, _ int64) error { return os.WriteFile(path, []byte("x"), 0o600) },
		"cut off":  func(path string, data []byte, _ int64) error { return os.Truncate(path, int64(len(data))/20) },
		"a page of zeros": func(path string, data []byte, root int64) error {
			clear(data[root*int64(os.Getpagesize()):][:os.Getpagesize()])
			return os.WriteFile(path, data, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t)
			s := open(t, path, backlog.Options{})
			for i := range uint64(2000) {
				s.Put("a", message(i, strings.Repeat("x", 300)), nil)
			}
			if err := s.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			root := s.RootPage("a")
			if err := s.Abandon(); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err == nil {
				err = damage(path, data, root)
			}
			if err != nil {
				t.Fatal(err)
			}
			var log testkit.Buffer
			s = open(t, path, backlog.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err := put(t, s, "a", message(1, "new")); err != nil {
				t.Error(err)
			}
			if got := load(t, s, "a"); !slices.Equal(got, []string{"new"}) || !strings.Contains(log.String(), "is damaged; it was renamed") {
				t.Errorf("there is %.50q; it says %s", got, log.String())
			}
			if aside, _ := filepath.Glob(path + ".damaged-*"); len(aside) != 1 {
				t.Errorf("set aside: %q", aside)
			}
		})
	}
	if _, err := backlog.Open(t.TempDir(), backlog.Options{}); err == nil {
		t.Error("a directory was opened")
	}
	path := file(t)
	s := open(t, path, backlog.Options{})
	if err := errors.Join(s.Edit(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("format")).Put([]byte("version"), []byte("2")) }), s.Abandon()); err != nil {
		t.Fatal(err)
	}
	if _, err := backlog.Open(path, backlog.Options{}); err == nil || !strings.Contains(err.Error(), "another version") {
		t.Errorf("one of another version: %v", err)
	}
}

// A page that is damaged while the file is open harms nobody but its client, until
// the file is opened again.
func TestDamagedPage(t *testing.T) {
	path := file(t)
	s := open(t, path, backlog.Options{Logger: slog.New(slog.DiscardHandler)})
	for i := range uint64(2000) {
		s.Put("a", message(i, strings.Repeat("x", 300)), nil)
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	size := os.Getpagesize()
	_, err = f.WriteAt(make([]byte, size), s.RootPage("a")*int64(size))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load("a", 0, 10, 1000); err == nil {
		t.Error("it was loaded")
	}
	if put(t, s, "a", message(5000, "x")) == nil || remove(t, s, "a", 1) == nil {
		t.Error("it was changed")
	}
	if err := put(t, s, "b", message(1, "b")); err != nil {
		t.Error(err)
	}
	if got := load(t, s, "b"); !slices.Equal(got, []string{"b"}) {
		t.Errorf("there is %q", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, backlog.Options{Logger: slog.New(slog.DiscardHandler)})
	if aside, _ := filepath.Glob(path + ".damaged-*"); len(aside) != 1 || len(s.Clients()) > 0 {
		t.Errorf("set aside: %q, with clients %q", aside, s.Clients())
	}
}

// A damaged message is left out, told of and deleted, and harms no other.
func TestDamagedMessage(t *testing.T) {
	var log testkit.Buffer
	s := open(t, file(t), backlog.Options{
		MaxMessages: 4, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Dropped: func(_ string, seq uint64, _ []byte) { t.Errorf("told of message %d", seq) },
	})
	damage := func(client string, seqs ...byte) {
		t.Helper()
		err := s.Edit(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte("messages")).Bucket([]byte(client))
			for _, seq := range seqs {
				k := []byte{7: seq}
				record := bytes.Clone(b.Get(k))
				record[len(record)-1]++
				if err := b.Put(k, record); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := put(t, s, "a", message(1, "one"), message(2, "two"), message(3, "three")); err != nil {
		t.Fatal(err)
	}
	damage("a", 2)
	if got := load(t, s, "a"); !slices.Equal(got, []string{"one", "three"}) || !strings.Contains(log.String(), "damaged") {
		t.Errorf("there is %q; it says %s", got, log.String())
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, _ := s.Size("a"); n != 2 || s.Totals().Damaged != 1 {
		t.Errorf("%d messages, totals %+v", n, s.Totals())
	}
	damage("a", 1)
	if err := put(t, s, "a", message(4, "four"), message(5, "five"), message(6, "six")); err != nil {
		t.Fatal(err)
	}
	if got := load(t, s, "a"); len(got) != 4 || s.Totals().Damaged != 2 || s.Totals().Dropped != 0 {
		t.Errorf("there is %q, totals %+v", got, s.Totals())
	}
}

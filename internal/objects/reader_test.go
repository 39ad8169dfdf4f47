package objects_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/objects"
)

// What is being read stays, and counts, until the last reader has closed.
func TestReplacedWhileRead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, objects.Limits{})
	for name, end := range map[string]func(){
		"replaced": func() { put(t, s, "k", "new") },
		"deleted": func() {
			if err := s.Delete("k"); err != nil {
				t.Fatal(err)
			}
		},
		"expired": func() {
			if n, err := s.ExpireObjects(time.Now().Add(time.Hour)); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		},
	} {
		old := strings.Repeat("old ", 100)
		put(t, s, "k", old)
		var readers [2]*objects.Reader
		for i := range readers {
			var err error
			if readers[i], err = s.Open("k"); err != nil {
				t.Fatal(err)
			}
		}
		before := s.Used()
		end()
		if s.Used() < before {
			t.Errorf("%s: the quota was given back before the bytes", name)
		}
		for i, r := range readers {
			if data, err := io.ReadAll(r); err != nil || string(data) != old {
				t.Errorf("%s: reader %d got %d bytes, %v", name, i, len(data), err)
			}
			if n := blobs(t, dir); n == 0 {
				t.Errorf("%s: no blob while reader %d reads", name, i)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := s.Delete("k"); err != nil && !errors.Is(err, objects.ErrNotFound) {
			t.Fatal(err)
		}
		if n := blobs(t, dir); n != 0 || s.Used() != 0 {
			t.Errorf("%s: at the end %d blobs, %d bytes used", name, n, s.Used())
		}
	}
}

// openFiles returns how many files this process has open, or 0 where that cannot
// be told.
func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// countingWriter counts open files at each write.
type countingWriter struct {
	bytes.Buffer
	most int
}

func (w *countingWriter) Write(p []byte) (int, error) {
	w.most = max(w.most, openFiles())
	return w.Buffer.Write(p)
}

// ReadFrom would bypass Write.
func (w *countingWriter) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{w}, r)
}

// An object of thousands of parts is read with one file open at a time.
func TestManyParts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, objects.Limits{})
	u, err := s.Initiate(context.Background(), "k", nil)
	if err != nil {
		t.Fatal(err)
	}
	const n = 3000
	var whole strings.Builder
	parts := make([]objects.CompletePart, n)
	var all sync.WaitGroup
	for first := range 8 {
		all.Go(func() {
			for i := first; i < n; i += 8 {
				p, err := s.PutPart(t.Context(), "k", u.ID, i+1, strings.NewReader(fmt.Sprint("part ", i, " ")), objects.Expect{Size: -1})
				if err != nil {
					t.Error(err)
				}
				parts[i] = objects.CompletePart{Number: i + 1, ETag: p.ETag}
			}
		})
	}
	for i := range n {
		fmt.Fprint(&whole, "part ", i, " ")
	}
	all.Wait()
	o, err := s.Complete(context.Background(), "k", u.ID, parts)
	if err != nil {
		t.Fatal(err)
	}
	if o.CRC != crc64.Checksum([]byte(whole.String()), crc64.MakeTable(crc64.ECMA)) {
		t.Error("the CRC is another one")
	}
	before := openFiles()
	r, err := s.Open("k")
	if err != nil {
		t.Fatal(err)
	}
	var w countingWriter
	if n, err := r.WriteRange(&w, 0, r.Size); err != nil || n != r.Size || w.String() != whole.String() {
		t.Errorf("%d of %d bytes, %v", n, r.Size, err)
	}
	// One for the object, one for counting, and what others of this process have.
	if w.most > before+10 {
		t.Errorf("%d files were open, %d before", w.most, before)
	}
	if l, err := s.List(objects.ListOptions{Max: 10}); err != nil || len(l.Objects) != 1 || l.Objects[0].Size != r.Size {
		t.Errorf("listed: %v", err)
	}
	if err := s.Delete("k"); err != nil {
		t.Fatal(err)
	}
	if got := blobs(t, dir); got != n {
		t.Errorf("%d blobs while it is read", got)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if got := blobs(t, dir); got != 0 || s.Used() != 0 {
		t.Errorf("%d blobs at the end, %d bytes used", got, s.Used())
	}
}

// Parts, completes and aborts of one upload at the same time end in one object
// or none, and leave nothing else.
func TestConcurrentUpload(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, objects.Limits{})
	for range 30 {
		u, err := s.Initiate(context.Background(), "k", nil)
		if err != nil {
			t.Fatal(err)
		}
		first, err := s.PutPart(t.Context(), "k", u.ID, 1, strings.NewReader("one"), objects.Expect{Size: 3})
		if err != nil {
			t.Fatal(err)
		}
		complete := []objects.CompletePart{{Number: 1, ETag: first.ETag}}
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() {
				_, err := s.PutPart(t.Context(), "k", u.ID, 1+i, strings.NewReader("one"), objects.Expect{Size: 3})
				if err != nil && !errors.Is(err, objects.ErrNotFound) {
					t.Error(err)
				}
			})
			all.Go(func() {
				_, err := s.Complete(context.Background(), "k", u.ID, complete)
				if err != nil && !errors.Is(err, objects.ErrNotFound) && !errors.Is(err, objects.ErrPart) {
					t.Error(err)
				}
			})
		}
		all.Go(func() {
			if err := s.Abort("k", u.ID); err != nil && !errors.Is(err, objects.ErrNotFound) {
				t.Error(err)
			}
		})
		all.Wait()
		if err := s.Abort("k", u.ID); err != nil && !errors.Is(err, objects.ErrNotFound) {
			t.Error(err)
		}
		want := 0
		if _, err := s.Stat("k"); err == nil {
			want = 1
			if got := read(t, s, "k"); got != "one" {
				t.Errorf("the object is %q", got)
			}
		}
		if n := blobs(t, dir); n != want || s.Used() != int64(3*want) {
			t.Errorf("%d blobs for %d objects, %d bytes used", n, want, s.Used())
		}
	}
}

// Expiry goes on past what others end meanwhile, and over many steps.
func TestExpireMany(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, objects.Limits{})
	const n = 1200 // more than two steps
	var all sync.WaitGroup
	for first := range 8 {
		all.Go(func() {
			for i := first; i < n; i += 8 {
				if _, err := s.Put(t.Context(), fmt.Sprint("k", i), strings.NewReader(""), unknown); err != nil {
					t.Error(err)
				}
				if _, err := s.Initiate(context.Background(), fmt.Sprint("u", i), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	// Pages of uploads are all uploads.
	opts, seen := objects.UploadsOptions{Prefix: "u", Max: 100}, map[string]bool{}
	for more := true; more; {
		var uploads []objects.Upload
		var err error
		if uploads, more, err = s.Uploads(opts); err != nil {
			t.Fatal(err)
		}
		for _, u := range uploads {
			seen[u.ID] = true
			opts.AfterKey, opts.AfterID = u.Key, u.ID
		}
	}
	if len(seen) != n {
		t.Errorf("%d uploads on all pages", len(seen))
	}
	var counts [2]int
	for i := range counts {
		all.Go(func() {
			var err error
			if counts[i], err = s.ExpireUploads(time.Now().Add(time.Hour)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if counts[0]+counts[1] != n {
		t.Errorf("%d uploads expired", counts)
	}
	if n, err := s.ExpireObjects(time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("young objects: %d, %v", n, err)
	}
	if got, err := s.ExpireObjects(time.Now().Add(time.Hour)); got != n || err != nil || blobs(t, dir) != 0 {
		t.Errorf("%d objects expired, %d blobs, %v", got, blobs(t, dir), err)
	}
}

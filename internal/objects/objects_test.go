package objects_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"github.com/crosscomm/crosscomm-go/internal/objects"
)

// The test binary puts objects until it is killed, if these are set: to the
// directory, and to how many times it has been killed.
const (
	putForever = "CROSSCOMM_TEST_PUT_FOREVER"
	putRun     = "CROSSCOMM_TEST_PUT_RUN"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(putForever); dir != "" {
		run, _ := strconv.Atoi(os.Getenv(putRun))
		putUntilKilled(dir, run)
	}
	goleak.VerifyTestMain(m)
}

var unknown = objects.PutOptions{Expect: objects.Expect{Size: -1}}

func open(t *testing.T, dir string, limits objects.Limits) *objects.Store {
	t.Helper()
	s, err := objects.Open(dir, limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s *objects.Store, key, text string) objects.Object {
	t.Helper()
	o, err := s.Put(t.Context(), key, strings.NewReader(text), unknown)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func read(t *testing.T, s *objects.Store, key string) string {
	t.Helper()
	r, err := s.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b bytes.Buffer
	if _, err := r.WriteRange(&b, 0, r.Size); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func blobs(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestPutAndGet(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, objects.Limits{})
	for _, key := range []string{"a", "a/", "a/b", "A", "../../etc/passwd", "数/据", strings.Repeat("k", 1023), "con", "x\\y"} {
		put(t, s, key, "content of "+key)
	}
	o := put(t, s, "a", "hello")
	if o.ETag != "5D41402ABC4B2A76B9719D911017C592" || o.Size != 5 || o.CRC != crc64.Checksum([]byte("hello"), crc64.MakeTable(crc64.ECMA)) || time.Since(o.Modified).Abs() > time.Minute {
		t.Errorf("got %+v", o)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, objects.Limits{})
	if got := read(t, s, "a"); got != "hello" {
		t.Errorf("after a restart: %q", got)
	}
	if got := read(t, s, "a/b"); got != "content of a/b" {
		t.Errorf("a/b is %q", got)
	}
	if n := blobs(t, dir); n != 9 {
		t.Errorf("%d blobs for 9 objects", n)
	}
	if err := s.Delete("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open("a"); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("a deleted object: %v", err)
	}
	if err := s.Delete("a"); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("deleted again: %v", err)
	}
	if n := blobs(t, dir); n != 8 {
		t.Errorf("%d blobs for 8 objects", n)
	}
	r, err := s.Open("a/b")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b bytes.Buffer
	if _, err := r.WriteRange(&b, 8, 2); err != nil || b.String() != "of" {
		t.Errorf("a range: %q, %v", b.String(), err)
	}
	began := time.Now()
	if _, err := objects.Open(dir, objects.Limits{}); !errors.Is(err, objects.ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	// It is a second; a busy machine may be late.
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("that it is in use was told after %s", took)
	}
	if got := read(t, s, "a/b"); got != "content of a/b" {
		t.Errorf("a/b is %q after another one has tried to open the store", got)
	}
}

// What fails leaves the old object, no file, and the quota as it was.
func TestFailedPuts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, objects.Limits{MaxObject: 100, Quota: 150})
	put(t, s, "k", strings.Repeat("o", 60))
	sum := md5.Sum([]byte("other"))
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for name, tc := range map[string]struct {
		ctx  context.Context
		r    io.Reader
		opts objects.PutOptions
		want error
	}{
		"short":        {t.Context(), strings.NewReader("abc"), objects.PutOptions{Expect: objects.Expect{Size: 4}}, objects.ErrShort},
		"long":         {t.Context(), strings.NewReader("abc"), objects.PutOptions{Expect: objects.Expect{Size: 2}}, objects.ErrShort},
		"too large":    {t.Context(), strings.NewReader(strings.Repeat("x", 101)), unknown, objects.ErrTooLarge},
		"announced":    {t.Context(), strings.NewReader(""), objects.PutOptions{Expect: objects.Expect{Size: 101}}, objects.ErrTooLarge},
		"quota":        {t.Context(), strings.NewReader(strings.Repeat("x", 95)), unknown, objects.ErrQuota},
		"MD5":          {t.Context(), strings.NewReader("abc"), objects.PutOptions{Expect: objects.Expect{Size: 3, MD5: &sum}}, objects.ErrDigest},
		"reader fails": {t.Context(), iotest.ErrReader(io.ErrClosedPipe), unknown, io.ErrClosedPipe},
		"cancelled":    {ended, strings.NewReader("abc"), unknown, context.Canceled},
		"exists":       {t.Context(), strings.NewReader("abc"), objects.PutOptions{Expect: unknown.Expect, MustBeNew: true}, objects.ErrExists},
	} {
		if _, err := s.Put(tc.ctx, "k", tc.r, tc.opts); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
	if got := read(t, s, "k"); got != strings.Repeat("o", 60) {
		t.Errorf("the old object is %q", got)
	}
	if n := blobs(t, dir); n != 1 || s.Used() != 60 {
		t.Errorf("%d blobs, %d bytes used", n, s.Used())
	}
	put(t, s, "k", "")
	if s.Used() != 0 || read(t, s, "k") != "" {
		t.Errorf("after an empty object %d bytes are used", s.Used())
	}
}

func TestList(t *testing.T) {
	s := open(t, t.TempDir(), objects.Limits{})
	var keys []string
	for i := range 30 {
		keys = append(keys, fmt.Sprintf("p/%02d", i), fmt.Sprintf("p/sub%d/x", i%5), fmt.Sprintf("q%d", i))
	}
	keys = append(keys, "p", "p/", "p/sub0/", "数")
	slices.Sort(keys)
	keys = slices.Compact(keys)
	for _, key := range keys {
		put(t, s, key, key)
	}
	for _, prefix := range []string{"", "p", "p/", "p/sub", "q1", "nothing", "数"} {
		for _, delimiter := range []string{"", "/", "sub"} {
			for _, size := range []int{1, 2, 7, 1000} {
				// The plain way to the same.
				var want []string
				seen := map[string]bool{}
				for _, key := range keys {
					if !strings.HasPrefix(key, prefix) {
						continue
					}
					name := key
					if i := strings.Index(key[len(prefix):], delimiter); delimiter != "" && i >= 0 {
						name = "common " + key[:len(prefix)+i+len(delimiter)]
					}
					if !seen[name] {
						want = append(want, name)
					}
					seen[name] = true
				}
				var got []string
				after := ""
				for {
					l, err := s.List(objects.ListOptions{Prefix: prefix, Delimiter: delimiter, After: after, Max: size})
					if err != nil {
						t.Fatal(err)
					}
					var part []string
					for _, o := range l.Objects {
						part = append(part, o.Key)
					}
					for _, p := range l.Prefixes {
						part = append(part, "common "+p)
					}
					slices.SortFunc(part, func(a, b string) int {
						return strings.Compare(strings.TrimPrefix(a, "common "), strings.TrimPrefix(b, "common "))
					})
					got = append(got, part...)
					if !l.Truncated {
						break
					}
					if len(part) != size || l.Next <= after {
						t.Fatalf("a part has %d entries, and goes on at %q after %q", len(part), l.Next, after)
					}
					after = l.Next
				}
				if !slices.Equal(got, want) {
					t.Errorf("prefix %q, delimiter %q, %d at a time:\ngot  %q\nwant %q", prefix, delimiter, size, got, want)
				}
			}
		}
	}
}

func TestUpload(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, objects.Limits{})
	put(t, s, "k", "old")
	u, err := s.Initiate(context.Background(), "k", map[string]string{"content-type": "text/plain"})
	if err != nil {
		t.Fatal(err)
	}
	var whole string
	var complete []objects.CompletePart
	for _, n := range []int{3, 1, 2, 7, 2} { // in any order, one twice, one not used
		text := strings.Repeat(fmt.Sprint("part ", n, " "), 1000+n)
		p, err := s.PutPart(t.Context(), "k", u.ID, n, strings.NewReader(text), objects.Expect{Size: int64(len(text))})
		if err != nil {
			t.Fatal(err)
		}
		if n != 7 {
			complete = append(complete, objects.CompletePart{Number: n, ETag: strings.ToLower(p.ETag)})
		}
	}
	slices.SortFunc(complete, func(a, b objects.CompletePart) int { return a.Number - b.Number })
	complete = slices.CompactFunc(complete, func(a, b objects.CompletePart) bool { return a.Number == b.Number })
	for _, n := range []int{1, 2, 3} {
		whole += strings.Repeat(fmt.Sprint("part ", n, " "), 1000+n)
	}
	if parts, err := s.Parts("k", u.ID); err != nil || len(parts) != 4 || parts[3].Number != 7 {
		t.Errorf("parts: %+v, %v", parts, err)
	}
	for name, wrong := range map[string][]objects.CompletePart{
		"none":         nil,
		"missing":      {{Number: 5, ETag: complete[0].ETag}},
		"another":      {{Number: 1, ETag: complete[1].ETag}},
		"out of order": {complete[1], complete[0]},
	} {
		if _, err := s.Complete(context.Background(), "k", u.ID, wrong); !errors.Is(err, objects.ErrPart) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := read(t, s, "k"); got != "old" {
		t.Errorf("before the end it is %q", got)
	}
	o, err := s.Complete(context.Background(), "k", u.ID, complete)
	if err != nil {
		t.Fatal(err)
	}
	if o.CRC != crc64.Checksum([]byte(whole), crc64.MakeTable(crc64.ECMA)) || o.Size != int64(len(whole)) || !strings.HasSuffix(o.ETag, "-3") || o.Header["content-type"] != "text/plain" {
		t.Errorf("got %+v", o)
	}
	if read(t, s, "k") != whole {
		t.Error("the object is not its parts")
	}
	r, err := s.Open("k")
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		from := rand.IntN(len(whole))
		n := rand.IntN(len(whole) - from + 1)
		var b bytes.Buffer
		if _, err := r.WriteRange(&b, int64(from), int64(n)); err != nil || b.String() != whole[from:from+n] {
			t.Fatalf("%d bytes from %d: %v", n, from, err)
		}
	}
	if n := blobs(t, dir); n != 3 || s.Used() != o.Size {
		t.Errorf("%d blobs, %d of %d bytes used", n, s.Used(), o.Size)
	}
	// Its answer may have been lost.
	if again, err := s.Complete(context.Background(), "k", u.ID, complete); err != nil || again.ETag != o.ETag || again.CRC != o.CRC {
		t.Errorf("completed again: %+v, %v", again, err)
	}
	if _, err := s.Complete(context.Background(), "k", u.ID, complete[:2]); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("completed again with other parts: %v", err)
	}

	u, err = s.Initiate(context.Background(), "z", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutPart(t.Context(), "z", u.ID, 1, strings.NewReader("x"), objects.Expect{Size: 1}); err != nil {
		t.Fatal(err)
	}
	if list, more, err := s.Uploads(objects.UploadsOptions{Max: 2}); err != nil || more || len(list) != 1 || list[0].ID != u.ID {
		t.Errorf("uploads: %+v, %v", list, err)
	}
	if n, err := s.ExpireUploads(time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("a young upload: %d, %v", n, err)
	}
	if n, err := s.ExpireUploads(time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("an old upload: %d, %v", n, err)
	}
	if _, err := s.PutPart(t.Context(), "z", u.ID, 2, strings.NewReader("x"), objects.Expect{Size: 1}); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("a part of no upload: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if n, err := s.ExpireObjects(time.Now().Add(time.Hour)); n != 1 || err != nil || s.Used() != 0 || blobs(t, dir) != 0 {
		t.Errorf("old objects: %d, %v; %d bytes used", n, err, s.Used())
	}
}

// Many put one key, and many read it: every reader sees one of them, whole.
func TestConcurrentPuts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, objects.Limits{})
	put(t, s, "k", strings.Repeat("0", 50_000))
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for i := range 4 {
		writers.Go(func() {
			for range 10 {
				if _, err := s.Put(context.Background(), "k", strings.NewReader(strings.Repeat(fmt.Sprint(i), 50_000)), unknown); err != nil {
					t.Error(err)
				}
			}
		})
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				got := read(t, s, "k")
				if len(got) != 50_000 || strings.Count(got, got[:1]) != 50_000 {
					t.Errorf("a reader got %d bytes of more than one object", len(got))
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	if n := blobs(t, dir); n != 1 || s.Used() != 50_000 {
		t.Errorf("%d blobs, %d bytes used", n, s.Used())
	}
}

// cancelAtEnd ends a context when all has been read.
type cancelAtEnd struct {
	io.Reader
	cancel context.CancelCauseFunc
	cause  error
}

func (r cancelAtEnd) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		r.cancel(r.cause)
	}
	return n, err
}

// What was given up before it was in the index does not get there: who has given
// it up may have deleted it already.
func TestGivenUp(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, objects.Limits{})
	defer s.Close()
	cause := errors.New("given up")
	ctx, cancel := context.WithCancelCause(context.Background())
	if _, err := s.Put(ctx, "k", cancelAtEnd{strings.NewReader("text"), cancel, cause}, unknown); !errors.Is(err, cause) {
		t.Errorf("Put: %v", err)
	}
	if _, err := s.Initiate(ctx, "k", nil); !errors.Is(err, cause) {
		t.Errorf("Initiate: %v", err)
	}
	u, err := s.Initiate(context.Background(), "k", nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.PutPart(context.Background(), "k", u.ID, 1, strings.NewReader("text"), objects.Expect{Size: 4})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Complete(ctx, "k", u.ID, []objects.CompletePart{{Number: 1, ETag: p.ETag}}); !errors.Is(err, cause) {
		t.Errorf("Complete: %v", err)
	}
	if _, err := s.Stat("k"); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("it is there: %v", err)
	}
	if n := blobs(t, dir); n != 1 {
		t.Errorf("%d blobs; there is one part", n)
	}
}

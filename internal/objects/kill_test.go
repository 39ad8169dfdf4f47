package objects_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/objects"
)

// version is the content of an object, which tells whether it is whole.
func version(i int) string { return strings.Repeat(fmt.Sprintf("%08d", i), 1+i%4000) }

// putUntilKilled puts, completes and deletes objects of ever new versions, each
// key in a goroutine of its own, and reports what it has been told is done.
func putUntilKilled(dir string, run int) {
	s, err := objects.Open(dir, objects.Limits{})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	report := func(what, key string, i int, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(what, key, i)
	}
	ctx := context.Background()
	first := 1000 * run // versions grow from run to run
	put := func(key string, i int) error {
		_, err := s.Put(ctx, key, strings.NewReader(version(i)), unknown)
		return err
	}
	complete := func(key string, i int) error {
		u, err := s.Initiate(context.Background(), key, nil)
		if err != nil {
			return err
		}
		text := version(i)
		var parts []objects.CompletePart
		for n, part := range []string{text[:len(text)/2], text[len(text)/2:]} {
			p, err := s.PutPart(ctx, key, u.ID, n+1, strings.NewReader(part), objects.Expect{Size: int64(len(part))})
			if err != nil {
				return err
			}
			parts = append(parts, objects.CompletePart{Number: n + 1, ETag: p.ETag})
		}
		_, err = s.Complete(context.Background(), key, u.ID, parts)
		return err
	}
	for _, key := range []string{"a", "b", "c"} {
		go func() {
			for i := first; ; i++ {
				report("stored", key, i, put(key, i))
			}
		}()
	}
	go func() {
		for i := first; ; i++ {
			report("stored", "parts", i, complete("parts", i))
		}
	}()
	for i := first; ; i++ {
		report("stored", "gone", i, put("gone", i))
		report("deleted", "gone", i, s.Delete("gone"))
	}
}

// kill -9 at any moment loses nothing that was acknowledged, tears nothing, and
// leaves nothing behind.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	for run := range 100 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), putForever+"="+dir, putRun+"="+strconv.Itoa(run))
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
		stored, deleted := map[string]int{}, map[string]int{}
		lines := bufio.NewReader(out)
		next := func() error {
			var what, key string
			var i int
			if n, err := fmt.Fscanf(lines, "%s %s %d\n", &what, &key, &i); n < 3 {
				return errors.Join(io.EOF, err)
			}
			switch what {
			case "stored":
				stored[key] = i
			case "deleted":
				deleted[key] = i
			default:
				t.Fatalf("the child says %s %s", what, key)
			}
			return nil
		}
		// After a random number of reports it is killed, at a random moment.
		for range rand.IntN(40) {
			if err := next(); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond)
		_ = cmd.Process.Kill()
		for next() == nil {
		}
		_ = cmd.Wait()
		checkKilled(t, dir, stored, deleted)
	}
}

// checkKilled opens what the killed process has left.
func checkKilled(t *testing.T, dir string, stored, deleted map[string]int) {
	t.Helper()
	s := open(t, dir, objects.Limits{})
	for _, key := range []string{"a", "b", "c", "parts", "gone"} {
		o, err := s.Stat(key)
		if errors.Is(err, objects.ErrNotFound) {
			if _, ok := stored[key]; ok && key != "gone" {
				t.Errorf("%s was stored, and is not there", key)
			}
			continue
		}
		text := read(t, s, key)
		var i int
		if _, err := fmt.Sscanf(text[:8], "%d", &i); err != nil || text != version(i) || o.CRC != crc64.Checksum([]byte(text), crc64.MakeTable(crc64.ECMA)) {
			t.Errorf("%s is torn: %d bytes, %v", key, len(text), err)
		}
		if last, ok := stored[key]; ok && i < last {
			t.Errorf("version %d of %s was stored, but it is %d", last, key, i)
		}
		if last, ok := deleted[key]; ok && i <= last {
			t.Errorf("version %d of %s was deleted, but it is %d", last, key, i)
		}
	}
	if _, err := s.ExpireUploads(time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	l, err := s.List(objects.ListOptions{Max: 10})
	if err != nil {
		t.Fatal(err)
	}
	wantBlobs, wantUsed := 0, int64(0)
	for _, o := range l.Objects {
		o, err := s.Stat(o.Key)
		if err != nil {
			t.Fatal(err)
		}
		wantBlobs, wantUsed = wantBlobs+len(o.Blobs), wantUsed+o.Size
	}
	if n := blobs(t, dir); n != wantBlobs || s.Used() != wantUsed {
		t.Errorf("%d blobs, want %d; %d bytes used, want %d", n, wantBlobs, s.Used(), wantUsed)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// lateStore takes what was put only when it is asked to delete it, as a server
// may that was about to take what a client has given up.
type lateStore struct {
	*memStore
	cancel context.CancelFunc
	late   atomic.Bool // whether that is to come
}

func (s *lateStore) Put(ctx context.Context, _ string, _ io.ReaderAt, _ crosscomm.PutOptions) error {
	s.late.Store(true)
	s.cancel()
	return context.Cause(ctx)
}

func (s *lateStore) Delete(ctx context.Context, key string) error {
	err := s.memStore.Delete(ctx, key)
	if s.late.Swap(false) {
		err = s.memStore.Put(ctx, key, strings.NewReader("late"), crosscomm.PutOptions{Size: 4})
	}
	return err
}

// What a server takes although its sender has given up is deleted, too.
func TestPutThatComesLate(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	store := &lateStore{memStore: newMemStore(nil), cancel: cancel}
	a := newClient(t, server.addr, "a", crosscomm.Config{ObjectStore: store})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	dir := testkit.WriteTree(t, t.TempDir(), map[string]string{"f": "x"})
	if err := a.SendMessage(ctx, filepath.Join(dir, "f"), crosscomm.TypeFile, "server"); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if len(store.objects) != 0 {
		t.Errorf("%d objects stay", len(store.objects))
	}
}

// parts returns the paths of what is not whole below the directory.
func parts(t *testing.T, dir string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".part") {
			found = append(found, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

// wholeFiles returns how many files in a directory have got their names. It may be called
// while others come and go.
func wholeFiles(dir string) (n int) {
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && !strings.HasSuffix(path, ".part") {
			n++
		}
		return nil
	})
	return n
}

// When the disk is full no part stays and keeps it so, neither that of the file
// that has found out, nor those of the others in its folder.
func TestFullDiskLeavesNoParts(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	data := string(noise(1, 3<<20))
	store := &badStore{memStore: newMemStore(map[string]string{"f/1": data, "f/2": data, "f/3": data})}
	begun := make(chan struct{}, 3)
	store.get = func(ctx context.Context, key string, offset int64) (io.ReadCloser, crosscomm.ObjectInfo, error) {
		body, info, err := store.memStore.Get(ctx, key, offset)
		if key != "f/1" {
			begun <- struct{}{}
			return cutReader(body, 2<<20, waitReader{ctx}), info, err
		}
		for range 2 { // until the others are in the middle
			select {
			case <-begun:
			case <-ctx.Done():
			}
		}
		return cutReader(body, 2<<20, errReader{&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}}), info, err
	}
	svc, got, dir := receiver(t, server.addr, store)
	if err := svc.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := svc.DownloadFileManually(testContext(t), "f/", dir); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("by hand: %v", err)
	}
	sender := loginRaw(t, server.addr, "sender")
	sender.write(fileFrame("sender", "receiver", "folder", "x", "f/"))
	if m := testkit.Receive(t, got); !errors.Is(m.Err(), syscall.ENOSPC) {
		t.Errorf("for a listener: %v", m.Err())
	}
	if found := parts(t, dir); len(found) != 0 {
		t.Errorf("left behind: %v", found)
	}
}

// waitReader reads nothing until its context has ended.
type waitReader struct{ ctx context.Context }

func (r waitReader) Read([]byte) (int, error) {
	<-r.ctx.Done()
	return 0, context.Cause(r.ctx)
}

// Folders that are refused leave nothing in the inbox, and what is gone on with
// does not count as old, whatever its time says.
func TestInboxStaysClean(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	store := newMemStore(map[string]string{"f/a": "a", "f/b": "b", "g/x": "x"})
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	store.beforeGet = func(ctx context.Context, key string) error {
		if key != "f/b" {
			return nil
		}
		held <- struct{}{}
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	_, got, dir := receiver(t, server.addr, store)
	sender, other := loginRaw(t, server.addr, "sender"), loginRaw(t, server.addr, "other")
	for i := range 5 {
		for _, key := range []string{"../up/%d/", "cross_comm/%d/", "/abs/%d/"} {
			sender.write(fileFrame("sender", "receiver", "folder", "x", fmt.Sprintf(key, i)))
			if m := testkit.Receive(t, got); m.Err() == nil {
				t.Errorf("%s: got %s", m.OSSKey, m.Path())
			}
		}
	}
	if found := parts(t, dir); len(found) != 0 {
		t.Errorf("left behind: %v", found)
	}
	sender.write(fileFrame("sender", "receiver", "folder", "x", "f/"))
	testkit.Receive(t, held)
	found := parts(t, dir)
	if len(found) == 0 {
		t.Fatal("there is no part of the folder")
	}
	old := time.Now().Add(-8 * 24 * time.Hour)
	if err := os.Chtimes(found[0], old, old); err != nil {
		t.Fatal(err)
	}
	other.write(fileFrame("other", "receiver", "folder", "x", "g/"))
	if m := testkit.Receive(t, got); m.Err() != nil || m.OSSKey != "g/" {
		t.Errorf("%s: %v", m.OSSKey, m.Err())
	}
	close(hold)
	m := testkit.Receive(t, got)
	if m.Err() != nil {
		t.Fatal(m.Err())
	}
	testkit.SameTree(t, testkit.ReadTree(t, m.Path()), map[string]string{"f/a": "a", "f/b": "b"})
}

// A folder that was cut and has changed at the store meanwhile is received as it
// is now: without what was deleted, also where a directory has become a file, or
// a file a directory.
func TestCutFolderThatHasChanged(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	store := newMemStore(map[string]string{"f/gone/x": "x", "f/stays": "s", "f/file": "1", "f/dir/y": "y", "f/z": "never"})
	_, got, dir := receiver(t, server.addr, store)
	sender := loginRaw(t, server.addr, "sender")
	cut := errors.New("cut")
	store.beforeGet = func(_ context.Context, key string) error {
		if key == "f/z" {
			for wholeFiles(dir) < 4 { // the others are there
				runtime.Gosched()
			}
			return cut
		}
		return nil
	}
	sender.write(fileFrame("sender", "receiver", "folder", "x", "f/"))
	if m := testkit.Receive(t, got); !errors.Is(m.Err(), cut) {
		t.Fatal(m.Err())
	}
	if len(parts(t, dir)) == 0 {
		t.Fatal("nothing was left")
	}
	store.beforeGet = nil
	now := map[string]string{"f/stays": "s", "f/file/1": "1", "f/dir": "y"}
	store.objects = newMemStore(now).objects
	sender.write(fileFrame("sender", "receiver", "folder", "x", "f/"))
	m := testkit.Receive(t, got)
	if m.Err() != nil {
		t.Fatal(m.Err())
	}
	testkit.SameTree(t, testkit.ReadTree(t, m.Path()), now)
}

// A key below which nothing can be listed is not told to be missing.
func TestListFails(t *testing.T) {
	store := newMemStore(map[string]string{"f/a": "a"})
	store.listErr = errors.New("no list today")
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, ObjectStore: store})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.DownloadFileManually(testContext(t), "f", t.TempDir()); !errors.Is(err, store.listErr) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Of an object that changes while it comes only what it is in the end is on the
// disk.
func TestChangingObject(t *testing.T) {
	store := &badStore{memStore: newMemStore(nil)}
	version := byte(0)
	store.get = func(ctx context.Context, key string, offset int64) (io.ReadCloser, crosscomm.ObjectInfo, error) {
		if version < 4 {
			version++
			store.objects[key] = noise(uint64(version), 3<<20)
		}
		body, info, err := store.memStore.Get(ctx, key, offset)
		if version < 4 {
			body = cutReader(body, 1<<20, errReader{errors.New("cut")})
		}
		return body, info, err
	}
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, ObjectStore: store})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, err := svc.DownloadFileManually(testContext(t), "k", dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != string(noise(4, 3<<20)) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if found := parts(t, dir); len(found) != 0 {
		t.Errorf("left behind: %v", found)
	}
}

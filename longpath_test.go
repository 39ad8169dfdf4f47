package crosscomm_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go"
)

// A key's path may be longer than the system takes in one piece: with its
// directory, or alone.
func TestLongPaths(t *testing.T) {
	for _, size := range []int{1000, 4095} {
		key := strings.Repeat("a/", size/2) + "b"
		store := newMemStore(map[string]string{key: "text"})
		svc := newClient(t, "127.0.0.1:1", "receiver", crosscomm.Config{ObjectStore: store})
		dir := t.TempDir()
		for range 2 {
			path, err := svc.DownloadFileManually(testContext(t), key, dir)
			if err != nil || path != filepath.Join(dir, filepath.FromSlash(key)) {
				t.Fatalf("%d: got %d bytes, %v", size, len(path), err)
			}
		}
		if n := len(store.gets); n != 1 {
			t.Errorf("%d: it was got %d times", size, n)
		}
		if path, err := svc.DownloadFileManually(testContext(t), "a/", dir); err != nil || path != filepath.Join(dir, "a") {
			t.Errorf("%d: as a folder: %q, %v", size, path, err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := root.ReadFile(key); err != nil || string(data) != "text" {
			t.Errorf("%d: %q, %v", size, data, err)
		}
		root.Close()
	}
	// Longer than any, which would nest directories without end.
	svc := newClient(t, "127.0.0.1:1", "receiver", crosscomm.Config{ObjectStore: newMemStore(nil)})
	dir := t.TempDir()
	_, err := svc.DownloadFileManually(testContext(t), strings.Repeat("a/", 100_000)+"b", dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "4096") {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

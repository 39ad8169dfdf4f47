package filelock_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/filelock"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.lock")
	unlock, err := filelock.Lock(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := filelock.Lock(path, 30*time.Millisecond); !errors.Is(err, filelock.ErrHeld) {
		t.Errorf("while it is held: %v", err)
	}
	second := make(chan error, 1)
	go func() {
		unlock, err := filelock.Lock(path, time.Minute)
		if err == nil {
			unlock()
		}
		second <- err
	}()
	unlock()
	if err := <-second; err != nil {
		t.Errorf("after it was given up: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is gone: %v", err)
	}
	if _, err := filelock.Lock(filepath.Join(path, "below-a-file"), time.Minute); err == nil || errors.Is(err, filelock.ErrHeld) {
		t.Errorf("at an impossible path: %v", err)
	}
}

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
	first, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	other, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := filelock.TryFile(first); err != nil {
		t.Error(err)
	}
	if err := filelock.TryFile(other); !errors.Is(err, filelock.ErrHeld) {
		t.Errorf("while another has it: %v", err)
	}
	filelock.Unlock(first)
	if err := filelock.TryFile(other); err != nil {
		t.Errorf("after it was given up: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is gone: %v", err)
	}
	if _, err := filelock.Lock(filepath.Join(path, "below-a-file"), time.Minute); err == nil || errors.Is(err, filelock.ErrHeld) {
		t.Errorf("at an impossible path: %v", err)
	}
}

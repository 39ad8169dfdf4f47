// Package filelock locks a file as Python's filelock package does, which the
// original uses, so that both can work on the same files. It is here because
// that takes one system call, and the library's users shall not inherit a
// dependency for it.
package filelock

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrHeld is returned if another process or Lock has the file locked.
var ErrHeld = errors.New("locked by another process")

// TryFile locks a file that is open, until it is closed, or returns ErrHeld.
func TryFile(file *os.File) error { return tryLock(file) }

// Unlock gives up the lock of TryFile before the file is closed, which may take
// long if something is being done with it.
func Unlock(file *os.File) { unlock(file) }

// TryDirectory is TryFile for a directory. Systems that cannot lock one, such as
// Windows, always have it succeed.
func TryDirectory(dir *os.File) error { return tryLockDirectory(dir) }

const retryEvery = 20 * time.Millisecond

// Lock locks the file, which it makes if it is missing, and returns what
// unlocks it again. If the file is locked it is tried again for as long as
// timeout; the error is ErrHeld then. The file stays, as Python leaves it too: to
// delete it could part those who hold it from those who come.
func Lock(path string, timeout time.Duration) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(timeout)
	for {
		if err = tryLock(file); err == nil {
			// Closing gives up the lock.
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, ErrHeld) || time.Now().After(deadline) {
			file.Close()
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		<-time.After(retryEvery)
	}
}

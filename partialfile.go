package crosscomm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/filelock"
)

const (
	// resumeFrom is the size from which on it is worth to look for what an
	// earlier run has left.
	resumeFrom = 1 << 20
	// partsKept is how long what was left of a cut transfer is kept.
	partsKept = 7 * 24 * time.Hour

	partPrefix, partSuffix = ".crosscomm-", ".part"
)

// partName is the name of what a later run goes on with, or, without an id, of
// what no other may touch.
func partName(id string) string {
	if id == "" {
		return partPrefix + randomHex(8) + partSuffix
	}
	return partPrefix + shortHash(id) + partSuffix
}

func isPartName(name string) bool {
	return strings.HasPrefix(name, partPrefix) && strings.HasSuffix(name, partSuffix)
}

// removeOldParts deletes what was left in the directory of transfers that
// nobody has gone on with.
func removeOldParts(root *os.Root) {
	dir, err := root.Open(".")
	if err != nil {
		return
	}
	defer dir.Close()
	entries, _ := dir.ReadDir(-1)
	for _, e := range entries {
		if !isPartName(e.Name()) {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > partsKept {
			removeUnlocked(root, e.Name(), e.IsDir())
		}
	}
}

// removeUnlocked removes what nobody is working on.
func removeUnlocked(root *os.Root, name string, isDir bool) {
	file, err := root.Open(name)
	if err != nil {
		return
	}
	lock := filelock.TryFile
	if isDir {
		lock = filelock.TryDirectory
	}
	err = lock(file)
	if runtime.GOOS == "windows" {
		file.Close() // it removes nothing that is open
	} else {
		defer file.Close()
	}
	if !errors.Is(err, filelock.ErrHeld) {
		_ = root.RemoveAll(name)
	}
}

// partialFile is a file that is not whole yet, under a name of its own.
type partialFile struct {
	*os.File
	dir   *os.Root
	name  string
	keep  bool // whether a later run can go on with it
	flush flusher
}

// Write implements io.Writer.
func (p *partialFile) Write(b []byte) (n int, err error) {
	n, err = p.File.Write(b)
	p.flush.wrote(p.File, n)
	return n, err
}

// openPartialFile opens the file that an earlier run has left under the id, or
// a new one. Without an id, or if another program has that file open, nobody
// will find it again. Until it is whole nobody else may read it if not everybody
// may in the end.
func openPartialFile(dir *os.Root, id string, mode fs.FileMode) (*partialFile, error) {
	perm := fs.FileMode(0o666)
	if mode != 0 {
		perm = 0o600
	}
	if id != "" {
		p := &partialFile{dir: dir, name: partName(id), keep: true}
		file, err := openLocked(func() (*os.File, error) { return dir.OpenFile(p.name, os.O_RDWR|os.O_CREATE, perm) },
			func() (fs.FileInfo, error) { return dir.Lstat(p.name) }, filelock.TryFile)
		if err == nil {
			p.File = file
			return p, nil
		}
		if !errors.Is(err, filelock.ErrHeld) {
			return nil, err
		}
	}
	p := &partialFile{dir: dir, name: partName("")}
	file, err := dir.OpenFile(p.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	p.File = file
	return p, err
}

// openLocked opens something and locks it, or returns filelock.ErrHeld. Between
// the two another program may have given it another name, and then it is opened
// again: there is a new one.
func openLocked(open func() (*os.File, error), stat func() (fs.FileInfo, error), lock func(*os.File) error) (*os.File, error) {
	for range 10 {
		file, err := open()
		if err != nil {
			return nil, err
		}
		if err := lock(file); errors.Is(err, filelock.ErrHeld) { // not all file systems have locks
			file.Close()
			return nil, err
		}
		mine, err := file.Stat()
		if err != nil {
			file.Close()
			return nil, err
		}
		now, err := stat()
		if err == nil && os.SameFile(mine, now) {
			return file, nil
		}
		file.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, filelock.ErrHeld
}

// abandon closes the file, which stays if a later run can go on with it. A sync
// that is under way goes on, and the file is closed after it.
func (p *partialFile) abandon() {
	if p.keep {
		filelock.Unlock(p.File) // a later run need not wait for the sync
	}
	p.Close()
	if !p.keep {
		_ = p.dir.Remove(p.name)
	}
}

// complete gives the file, which is whole, its name and its mode. A durable one
// is on the disk then. If ctx ends before, the part stays as it is.
func (p *partialFile) complete(ctx context.Context, name string, info ObjectInfo, umask fs.FileMode, durable bool) error {
	err := p.Truncate(info.Size) // an earlier run can have left more than there is now
	if err == nil && info.Mode != 0 {
		// Not every file system has modes.
		_ = p.Chmod(info.Mode.Perm() &^ umask)
	}
	if err == nil && durable {
		// What is left of the bytes may take the disk long.
		err = waitFor(ctx, func() error { return p.flush.sync(p.File) })
		if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			p.abandon()
			return err
		}
	}
	// Before the name is given: Windows would not rename an open file.
	if closeErr := p.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = p.dir.Rename(p.name, name)
	}
	if err != nil {
		_ = p.dir.Remove(p.name)
		return &localError{err}
	}
	return nil
}

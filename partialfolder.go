package crosscomm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/filelock"
)

// partialFolder is a received folder that is not whole yet, under a name of its
// own.
type partialFolder struct {
	*os.Root
	parent *os.Root
	name   string
	keep   bool     // whether a later run can go on with it
	lock   *os.File // keeps other programs out
}

// openPartialFolder opens the folder that an earlier run has left under the id,
// or a new one. If another program is filling that one, nobody will find this
// one again.
func openPartialFolder(parent *os.Root, id string) (*partialFolder, error) {
	p := &partialFolder{parent: parent, name: partName(id), keep: true}
	open := func() (file *os.File, err error) {
		for range 10 {
			if err = parent.MkdirAll(p.name, 0o777); err != nil {
				break
			}
			// It may just have got its name from who has made it.
			if file, err = parent.Open(p.name); !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		return file, err
	}
	stat := func() (fs.FileInfo, error) { return parent.Lstat(p.name) }
	var err error
	p.lock, err = openLocked(open, stat, filelock.TryDirectory)
	if errors.Is(err, filelock.ErrHeld) {
		p.name, p.keep = partName(""), false
		p.lock, err = openLocked(open, stat, filelock.TryDirectory)
	}
	if err == nil {
		_ = parent.Chtimes(p.name, time.Now(), time.Now()) // it is not old
		p.Root, err = parent.OpenRoot(p.name)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *partialFolder) close() {
	if p.Root != nil {
		p.Root.Close()
	}
	if p.lock != nil {
		p.lock.Close()
	}
}

// abandon closes the folder, which stays if a later run can go on with it and
// there is something in it.
func (p *partialFolder) abandon() {
	if p.keep {
		_ = p.parent.Remove(p.name) // fails if it is not empty
	} else {
		_ = p.parent.RemoveAll(p.name)
	}
	p.close()
}

// complete gives the folder, which is whole, a name that is free, and returns
// that.
func (p *partialFolder) complete() (name string, err error) {
	defer p.close()
	closed := false
	for i := 1; ; i++ {
		name = fmt.Sprintf("folder_%d", time.Now().Unix())
		if i > 1 {
			name += fmt.Sprintf("_%d", i)
		}
		// Another program's folder of that name is not replaced, neither by os
		// nor, being full, by the system.
		err = p.parent.Rename(p.name, name)
		switch {
		case err == nil:
			return name, nil
		case errors.Is(err, fs.ErrExist):
		case runtime.GOOS == "windows" && !closed:
			p.close() // it may rename no directory that is open
			closed = true
		default:
			return "", err
		}
	}
}

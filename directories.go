package crosscomm

import (
	"os"
	"path"
	"slices"
	"sync"
)

// directories are those below a root that files are written to. Each is found
// once and not for each of its files. They may be used concurrently.
type directories struct {
	root *os.Root

	mu   sync.Mutex
	free []*directory // that nobody uses now, the last used last
}

type directory struct {
	*os.Root
	name    string
	cleaned bool // whether removeOldParts was called
}

func newDirectories(root *os.Root) *directories { return &directories{root: root} }

// enter opens the directory that the name is in, and makes it if it is missing.
// It must be given to leave.
func (d *directories) enter(name string) (*directory, error) {
	name = path.Dir(name)
	if dir := d.take(name); dir != nil {
		return dir, nil
	}
	if err := d.root.MkdirAll(name, 0o777); err != nil {
		return nil, err
	}
	root, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return &directory{Root: root, name: name}, nil
}

func (d *directories) take(name string) *directory {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.free, func(dir *directory) bool { return dir.name == name })
	if i < 0 {
		return nil
	}
	dir := d.free[i]
	d.free = slices.Delete(d.free, i, i+1)
	return dir
}

// leave keeps the directory for the next file, with some of those last used.
func (d *directories) leave(dir *directory) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = append(d.free, dir)
	if len(d.free) > folderWorkers {
		d.free[0].Close()
		d.free = slices.Delete(d.free, 0, 1)
	}
}

// close closes those that nobody uses, which must be all.
func (d *directories) close() {
	for _, dir := range d.free {
		dir.Close()
	}
	d.free = nil
}

// removeOldParts deletes, once, what was left in the directory of transfers that
// nobody has gone on with.
func (d *directory) removeOldParts() {
	if !d.cleaned {
		d.cleaned = true
		removeOldParts(d.Root)
	}
}

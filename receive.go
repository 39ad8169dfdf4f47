package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// receivedFile is the image, the file or the folder of a message, which is on
// its way into a directory. A nil one stands for a message without.
type receivedFile struct {
	done chan struct{} // closed when the others are set
	path string
	err  error
}

// ready returns what is closed when the listeners may be called; nil for now.
func (r *receivedFile) ready() <-chan struct{} {
	if r == nil {
		return nil
	}
	return r.done
}

// outcome may be called when ready is closed.
func (r *receivedFile) outcome() (path string, err error) {
	if r == nil {
		return "", nil
	}
	return r.path, r.err
}

// receiveFile begins the download of what comes with the message, if one of the
// listeners, which all match it, has a directory.
func (s *Service) receiveFile(how delivery, list []*registration, f frame.Frame) *receivedFile {
	t := MsgType(f.Type)
	if !t.file() {
		return nil
	}
	key, ok := frame.Unquote(f.OSSKey)
	if !ok || key == "" {
		return nil
	}
	name, ok := frame.Unquote(f.Content)
	if !ok || baseName(name) == "" {
		name = key
	}
	for _, reg := range list {
		dir := reg.opts.DownloadDirectory
		if dir == "" {
			continue
		}
		r := &receivedFile{done: make(chan struct{}), err: &TransferError{Op: Download, Key: key, Err: errPanicked}}
		how.work.Add(1)
		s.transfers.run(func() {
			defer how.work.Done()
			defer close(r.done)
			defer logPanic(s.log, "a download panicked")
			r.path, r.err = s.receive(how.ctx, key, baseName(name), t, dir)
			if r.err != nil {
				s.log.Warn("a file could not be downloaded", "key", key, "error", r.err)
			}
		})
		return r
	}
	return nil
}

// errPanicked is why a download failed in which an application's ObjectStore has
// panicked; the log has where.
var errPanicked = errors.New("it panicked")

// receive downloads a file, or a folder to a new directory.
func (s *Service) receive(ctx context.Context, key, name string, t MsgType, dir string) (string, error) {
	return s.transferToDir(ctx, key, name, dir, func(d *download) (string, error) {
		if t == TypeFolder {
			return d.newFolder(ctx, key)
		}
		return d.file(ctx, key)
	})
}

// newFolder downloads a folder into a directory of its own, whose name is that
// of the original. Until it is whole it has another one, by which a later run
// finds it.
func (d *download) newFolder(ctx context.Context, key string) (name string, err error) {
	prefix := key
	if prefix[len(prefix)-1] != '/' { // as from Java
		prefix += "/"
	}
	part := partPrefix + shortHash(prefix) + partSuffix
	removeOldParts(d.root)
	if err := d.root.MkdirAll(part, 0o777); err != nil {
		return "", err
	}
	root, err := d.root.OpenRoot(part)
	if err != nil {
		return "", err
	}
	inside := &download{s: d.s, store: d.store, root: root, dirs: &directories{root: root}, dir: d.dir, told: d.told, names: d.names}
	err = inside.folder(ctx, prefix)
	if err == nil && key != prefix && inside.told.files() == 0 {
		// A key that is an object's is taken for a folder with this file alone,
		// as in the original; one that is none, for an empty folder.
		inside.names = newNamer()
		if _, err = inside.file(ctx, key); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	inside.dirs.close()
	root.Close()
	if err != nil {
		return "", err
	}
	d.s.naming.Lock()
	defer d.s.naming.Unlock()
	name = fmt.Sprintf("folder_%d", time.Now().Unix())
	for i := 2; ; i++ {
		if _, err := d.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name, d.root.Rename(part, name)
		}
		name = fmt.Sprintf("folder_%d_%d", time.Now().Unix(), i)
	}
}

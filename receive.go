package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/crosscomm/crosscomm-go/internal/diskfull"
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
// listeners that match it has a directory.
func (s *Service) receiveFile(how delivery, list []*registration, t MsgType, f frame.Frame) *receivedFile {
	if !t.file() {
		return nil
	}
	dir := downloadDirectory(list, t, f)
	if dir == "" {
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
	r := &receivedFile{done: make(chan struct{})}
	fail := func(err error) *receivedFile {
		r.err = &TransferError{Op: OpDownload, Key: key, Path: dir, Err: err}
		close(r.done)
		return r
	}
	place, err := placeOf(dir, key)
	if err != nil {
		return fail(err)
	}
	if !how.work.begin() {
		return fail(context.Cause(how.ctx)) // it has ended, so no listener will see this
	}
	r.err = &TransferError{Op: OpDownload, Key: key, Path: dir, Err: errPanicked}
	queued := s.transfers.run(string(f.From), place, func() {
		defer how.work.end()
		defer close(r.done)
		defer logPanic(s.log, "a download panicked", nil)
		r.path, r.err = s.receive(how.ctx, key, baseName(name), t, dir)
		if r.err != nil && how.ctx.Err() == nil {
			s.log.Warn("a file could not be downloaded", "key", key, "error", r.err)
		}
	})
	if !queued {
		how.work.end()
		return fail(errManyWaiting)
	}
	return r
}

var (
	// errPanicked is why a download failed in which an application's ObjectStore
	// has panicked; the log has where.
	errPanicked = errors.New("it panicked")

	errManyWaiting = fmt.Errorf("%d files of this sender wait already; DownloadFileManually gets this one", maxWaitingTransfers)
)

// receive downloads a file, or a folder to a new directory.
func (s *Service) receive(ctx context.Context, key, name string, t MsgType, dir string) (string, error) {
	return s.downloadTo(ctx, key, name, dir, func(ctx context.Context, d *download) (string, error) {
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
	if _, err := splitKey(prefix); err != nil {
		return "", err
	}
	if isAreaOfClients(prefix) {
		return "", fmt.Errorf("the key %q is refused: it is no folder's, but all that a client has ever sent", key)
	}
	removeOldParts(d.root)
	part, err := openPartialFolder(d.root, prefix)
	if err != nil {
		return "", err
	}
	whole := false
	defer func() {
		if !whole { // also if the application's store has panicked
			part.keep = part.keep && !diskfull.Is(err)
			part.abandon()
		}
	}()
	inside := *d
	inside.root, inside.dirs, inside.own = part.Root, newDirectories(part.Root), true
	defer inside.dirs.close()
	err = inside.folder(ctx, prefix)
	if err == nil && key != prefix && inside.told.files() == 0 {
		// A key that is an object's is taken for a folder with this file alone,
		// as in the original; one that is none, for an empty folder.
		inside.names = newNamer(inside.traits)
		if _, err = inside.file(ctx, key); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return "", err
	}
	whole = true
	inside.dirs.close() // Windows renames no directory in which one is open
	return part.complete()
}

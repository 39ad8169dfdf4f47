package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"
)

// upload brings a file or a folder to the store.
type upload struct {
	s      *Service
	store  ObjectStore
	key    string // of the object, or the folder's prefix
	path   string
	told   *progress
	record *uploadRecord
	large  chan struct{} // holds a token for each large file of a folder that is under way
}

// largeFiles is how many files of a folder that go in parts, several at once,
// are under way at once.
const largeFiles = 2

// sendFile stores what content names, and then sends the message with its key.
// On an error before that there is nothing to send, and nothing of it stays at
// the store unless a later call can go on with it.
func (s *Service) sendFile(ctx context.Context, content any, t MsgType, to string, want Stage) (Receipt, error) {
	// Not after a gigabyte has been stored for nobody.
	if err := s.canReach(ctx, to); err != nil {
		return Receipt{}, err
	}
	ctx, end := s.beginTransfer(ctx)
	defer end()
	u, err := s.openUpload(ctx, content, t)
	if err != nil {
		return Receipt{}, err
	}
	defer u.record.release()
	// As little for a message that receivers would not take.
	if _, _, err := s.newMessageFrame(content, t, to, u.key); err != nil {
		return Receipt{}, err
	}
	err = u.run(ctx, t)
	if err != nil {
		// With the next key of the client's own it can go on.
		if !u.record.kept || isFinal(err) && !isVoidKey(err) {
			u.withdraw(ctx)
		}
		err = &TransferError{Op: OpUpload, Key: u.key, Path: u.path, Err: pathless(err)}
	}
	if err := u.told.done(err); err != nil {
		return Receipt{}, err
	}
	receipt, err := s.sendFrame(ctx, content, t, to, u.key, want)
	switch {
	case err == nil:
		u.record.forget()
	case errors.Is(err, errMayArrive), receipt.MsgID != "": // it was sent
	case !u.record.kept || ctx.Err() == nil && !errors.Is(err, ErrNotConnected):
		u.withdraw(ctx)
	}
	return receipt, err
}

// openUpload looks at what content names, and chooses its key: another one than
// ever before, or that of an upload that was cut. The record must be released.
func (s *Service) openUpload(ctx context.Context, content any, t MsgType) (*upload, error) {
	name, err := pathOf(content, t)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(name)
	if err == nil {
		err = checkKind(info, t)
	}
	if err != nil {
		return nil, &TransferError{Op: OpUpload, Path: name, Err: pathless(err)}
	}
	store, err := s.objectStore(ctx)
	if err != nil {
		return nil, err
	}
	u := &upload{s: s, store: store, path: name, record: s.openRecord(store, name, info), large: make(chan struct{}, largeFiles)}
	if u.key = u.record.Key; u.key == "" {
		u.key = s.newKey(name, t)
	}
	u.told = s.newProgress(Progress{Op: OpUpload, Key: u.key, Path: name, Name: givenName(name), Files: 1})
	return u, nil
}

func (u *upload) run(ctx context.Context, t MsgType) error {
	resumed := u.record.Key != ""
	u.record.save(u.key)
	if t == TypeFolder {
		return u.folder(ctx, resumed)
	}
	return u.file(ctx, resumed)
}

const (
	// cleanupTimeout bounds how long is tried to delete what was stored in vain,
	// and cancelledTimeout if nobody wants to wait for it.
	cleanupTimeout   = 5 * time.Second
	cancelledTimeout = 400 * time.Millisecond
	// secondLook is how long after that is looked for more to delete.
	secondLook = 150 * time.Millisecond
)

// cleanupContext is the context for deleting what was stored under ctx.
func cleanupContext(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := cleanupTimeout
	if ctx.Err() != nil {
		timeout = cancelledTimeout
	}
	return context.WithTimeout(context.WithoutCancel(ctx), timeout)
}

// withdraw deletes what was stored of something that will not be sent, as far
// as that is possible soon.
func (u *upload) withdraw(ctx context.Context) {
	u.record.forget()
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	u.deleteAll(ctx, u.store)
	// The store may just have been about to take what was cut. And if the key
	// has become void, the server is just sending another one.
	if sleep(ctx, secondLook) {
		store, err := u.s.objectStore(ctx)
		if err != nil {
			store = u.store
		}
		u.deleteAll(ctx, store)
	}
}

// abortUploads deletes parts that were stored of what is not whole, if it is our
// store that has them. The store expires what this leaves.
func (u *upload) abortUploads(ctx context.Context, store ObjectStore) {
	if store, ok := store.(*ossStore); ok {
		_ = store.abortUploads(ctx, u.key)
	}
}

func (u *upload) deleteAll(ctx context.Context, store ObjectStore) {
	u.abortUploads(ctx, store)
	keys := []string{u.key}
	if strings.HasSuffix(u.key, "/") {
		keys = nil
		for o, err := range store.List(ctx, u.key) {
			if err != nil {
				return
			}
			keys = append(keys, o.Key)
		}
	}
	_ = forEach(ctx, folderWorkers, keys, store.Delete)
}

// givenName is the base name of a path of this system, which may be ".".
func givenName(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		name = abs
	}
	return filepath.Base(name)
}

// pathOf returns the path that a file message is sent with.
func pathOf(content any, t MsgType) (string, error) {
	name, ok := content.(string)
	switch {
	case !ok:
		return "", fmt.Errorf("%w: %T; a message of type %s is sent with the path of the %s, a string", ErrContent, content, t, t)
	case name == "":
		return "", fmt.Errorf("%w: the path is empty", ErrContent)
	case !utf8.ValidString(name):
		return "", fmt.Errorf("%w: the path %q is not UTF-8, which the message that names it must be", ErrContent, name)
	}
	return name, nil
}

// checkKind says why what is there cannot be sent with the type.
func checkKind(info fs.FileInfo, t MsgType) error {
	switch {
	case t == TypeFolder && !info.IsDir():
		return fmt.Errorf("%w: it is no directory; send it as %s", ErrContent, TypeFile)
	case t != TypeFolder && info.IsDir():
		return fmt.Errorf("%w: it is a directory; send it as %s", ErrContent, TypeFolder)
	case t != TypeFolder && !info.Mode().IsRegular():
		return fmt.Errorf("%w: it is no regular file but a %s", ErrContent, info.Mode().Type())
	}
	return nil
}

// pathless takes the path out of an error that will be told with it.
func pathless(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) && err == error(pe) {
		return pe.Err
	}
	return err
}

func (u *upload) file(ctx context.Context, resumed bool) error {
	file, err := os.OpenFile(u.path, os.O_RDONLY|openNonblocking, 0)
	if err != nil {
		return &localError{pathless(err)}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return &localError{pathless(err)}
	}
	u.told.change(func(p *Progress) { p.Total = info.Size() })
	return u.put(ctx, file, u.key, resumed)
}

// put stores one file, unless it may be there already, and is. One that changes
// meanwhile is not sent: what had arrived would be neither the old nor the new.
func (u *upload) put(ctx context.Context, file *os.File, key string, mayBeThere bool) error {
	before, err := file.Stat()
	if err != nil {
		return &localError{pathless(err)}
	}
	if !before.Mode().IsRegular() {
		return &localError{errors.New("it is no regular file")}
	}
	if mayBeThere && sameAsObject(ctx, u.store, key, file, before.Size(), u.told) {
		u.told.add(before.Size())
		u.told.fileDone()
		return nil
	}
	if before.Size() >= multipartFrom {
		select {
		case u.large <- struct{}{}:
			defer func() { <-u.large }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	opts := PutOptions{
		Size: before.Size(), Mode: before.Mode().Perm(), Resumable: u.record.kept && before.Size() >= recordFrom,
		Progress: u.told.add, Checked: u.told.checked,
	}
	if err := u.store.Put(ctx, key, file, opts); err != nil {
		return err
	}
	after, err := file.Stat()
	if err != nil {
		return &localError{pathless(err)}
	}
	if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return &localError{errors.New("the file has changed while it was sent; send it again")}
	}
	u.told.fileDone()
	return nil
}

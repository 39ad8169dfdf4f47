package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/crosscomm/crosscomm-go/internal/checksum"
)

// upload brings a file or a folder to the store.
type upload struct {
	s     *Service
	store ObjectStore
	key   string // of the object, or the folder's prefix
	path  string
	told  *progress
	large chan struct{} // holds a token for each large file of a folder that is under way
}

// largeFiles is how many files of a folder that go in parts, several at once,
// are under way at once.
const largeFiles = 2

// upload checks what content names, brings it to the store, and then has it
// sent with its key. On an error before that there is nothing to send. If it
// cannot be sent the next one of the same path finds what is stored.
func (s *Service) upload(ctx context.Context, content any, t MsgType, send func(key string) error) error {
	name, err := pathOf(content, t)
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err == nil {
		err = checkKind(info, t)
	}
	if err != nil {
		return &TransferError{Op: Upload, Path: name, Err: pathless(err)}
	}
	store, err := s.objectStore(ctx)
	if err != nil {
		return err
	}
	record := s.openRecord(store, name, info)
	defer record.release()
	key := record.Key
	if key == "" {
		key = s.newKey(name, t)
	}
	u := &upload{s: s, store: store, key: key, path: name, large: make(chan struct{}, largeFiles)}
	u.told = s.newProgress(Progress{Op: Upload, Key: key, Path: name, Name: givenName(name), Files: 1})
	if err := u.told.done(u.run(ctx, t, record)); err != nil {
		if ctx.Err() == nil && (record.Key == "" || !passes(err)) {
			// No later send goes on with it, or it would fail in the same way.
			u.withdraw(ctx)
			record.remove()
		}
		return &TransferError{Op: Upload, Key: key, Path: name, Err: pathless(err)}
	}
	if err := send(key); err != nil {
		return err
	}
	record.remove()
	return nil
}

func (u *upload) run(ctx context.Context, t MsgType, record *uploadRecord) error {
	if t == TypeFolder {
		return u.folder(ctx, record)
	}
	return u.file(ctx, record)
}

// withdrawTimeout bounds how long is tried to delete what was stored in vain.
const withdrawTimeout = 2 * time.Second

// withdraw deletes what was stored of something that will not be sent, as far
// as that is possible soon.
func (u *upload) withdraw(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	keys := []string{u.key}
	if strings.HasSuffix(u.key, "/") {
		keys = nil
		for o, err := range u.store.List(ctx, u.key) {
			if err != nil {
				return
			}
			keys = append(keys, o.Key)
		}
	}
	_ = forEach(ctx, keys, u.store.Delete)
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
		return fmt.Errorf("it is no directory; send it as %s", TypeFile)
	case t != TypeFolder && info.IsDir():
		return fmt.Errorf("it is a directory; send it as %s", TypeFolder)
	case t != TypeFolder && !info.Mode().IsRegular():
		return fmt.Errorf("it is no regular file but a %s", info.Mode().Type())
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

func (u *upload) file(ctx context.Context, record *uploadRecord) error {
	file, err := os.Open(u.path)
	if err != nil {
		return &localError{pathless(err)}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return &localError{pathless(err)}
	}
	u.told.change(func(p *Progress) { p.Total = info.Size() })
	// With a record, only the message may have been missing.
	stored := record.Key != "" && u.isStored(ctx, file, info, u.key)
	if stored {
		u.told.add(info.Size())
	} else if err := u.put(ctx, file, u.key, record); err != nil {
		return err
	}
	u.told.fileDone()
	return nil
}

// put stores one file. One that changes meanwhile is not sent: what had arrived
// would be neither the old nor the new.
func (u *upload) put(ctx context.Context, file *os.File, key string, record *uploadRecord) error {
	before, err := file.Stat()
	if err != nil {
		return &localError{pathless(err)}
	}
	if !before.Mode().IsRegular() {
		return &localError{errors.New("it is no regular file")}
	}
	if before.Size() >= multipartFrom {
		select {
		case u.large <- struct{}{}:
			defer func() { <-u.large }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	resumable := record.save(u.key, before.Size())
	opts := PutOptions{Size: before.Size(), Mode: before.Mode().Perm(), Progress: u.told.add, Resumable: resumable}
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
	return nil
}

// isStored reports whether the object has the bytes of the file. It is false if
// that cannot be found out.
func (u *upload) isStored(ctx context.Context, file *os.File, local fs.FileInfo, key string) bool {
	info, err := u.store.Stat(ctx, key)
	if err != nil || !info.HasCRC64 || info.Size != local.Size() {
		return false
	}
	sum := checksum.New()
	n, err := copyContext(ctx, sum, io.NewSectionReader(file, 0, info.Size))
	return err == nil && n == info.Size && sum.Sum64() == info.CRC64
}

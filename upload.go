package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
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

// upload checks what content names, brings it to the store, and returns its
// key. On an error there is nothing to send.
func (s *Service) upload(ctx context.Context, content any, t MsgType) (key string, err error) {
	name, err := pathOf(content, t)
	if err != nil {
		return "", err
	}
	fail := func(err error) (string, error) {
		return "", &TransferError{Op: Upload, Key: key, Path: name, Err: pathless(err)}
	}
	info, err := os.Stat(name)
	if err == nil {
		err = checkKind(info, t)
	}
	if err != nil {
		return fail(err)
	}
	store, err := s.objectStore(ctx)
	if err != nil {
		return "", err
	}
	record := s.openRecord(store, name, info)
	defer record.release()
	if key = record.Key; key == "" {
		key = s.newKey(name, t)
	}
	u := &upload{s: s, store: store, key: key, path: name, large: make(chan struct{}, largeFiles)}
	u.told = s.newProgress(Progress{Op: Upload, Key: key, Path: name, Name: givenName(name), Files: 1, Total: info.Size()})
	if t == TypeFolder {
		u.told.now.Total = 0
		err = u.folder(ctx, record)
	} else {
		err = u.file(ctx, record)
	}
	if err := u.told.done(err); err != nil {
		if ctx.Err() == nil && (record.Key == "" || !passes(err)) {
			// No later send goes on with it, or it would fail in the same way.
			u.withdraw(ctx)
			record.remove()
		}
		return fail(err)
	}
	record.remove()
	return key, nil
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

// baseName is the last part of a path of any system, or of a key.
func baseName(name string) string {
	name = strings.TrimRight(name, `/\`)
	return name[strings.LastIndexAny(name, `/\`)+1:]
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

// keyPrefix is where a client's objects lie. An id that would make another
// path of it is escaped; the original has no rule for these.
func keyPrefix(clientID string) string {
	if strings.ContainsAny(clientID, `/\`) || clientID == "." || clientID == ".." {
		clientID = strings.ReplaceAll(url.PathEscape(clientID), ".", "%2E")
	}
	return "cross_comm/" + clientID + "/"
}

// newKey makes a key as the original does.
func (s *Service) newKey(name string, t MsgType) string {
	key := keyPrefix(s.cfg.ClientID) + strconv.FormatInt(time.Now().UnixMilli(), 10) + "_" + random8()
	if t == TypeFolder {
		return key + "_folder/"
	}
	return key + suffixOf(name)
}

// suffixOf is the suffix of Python's Path: not that of ".profile", nor that of
// "name.".
func suffixOf(name string) string {
	base := filepath.Base(name)
	ext := filepath.Ext(base)
	if ext == "." || ext == base || strings.Trim(base[:len(base)-len(ext)], ".") == "" {
		return ""
	}
	// What the key cannot hold; the file's own name is in the content.
	for _, r := range ext {
		if r < ' ' || r == 0x7F || r == '\\' {
			return ""
		}
	}
	return ext
}

func (u *upload) file(ctx context.Context, record *uploadRecord) error {
	file, err := os.Open(u.path)
	if err != nil {
		return &localError{pathless(err)}
	}
	defer file.Close()
	err = u.put(ctx, file, u.key, record)
	if err == nil {
		u.told.fileDone()
	}
	return err
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

// entry is what is sent of a folder: a file, or a directory, whose key ends in
// a slash.
type entry struct {
	name string // relative to the folder, with slashes
	size int64
	mode fs.FileMode
	dir  bool
}

// folder stores all that is in it. Directories that other peers would not know
// of without, being empty, or whose mode is unusual, are objects of their own;
// the other peers skip these.
func (u *upload) folder(ctx context.Context, record *uploadRecord) error {
	root, err := os.OpenRoot(u.path)
	if err != nil {
		return &localError{pathless(err)}
	}
	defer root.Close()
	entries, err := u.walk(ctx, root)
	if err != nil {
		return err
	}
	total, files := int64(0), 0
	for _, e := range entries {
		if !e.dir {
			files++
			total += e.size
		}
	}
	u.told.change(func(p *Progress) { p.Total, p.Files = total, files })
	resumed := record.Key != ""
	record.save(u.key, recordFrom)
	there := map[string]int64{}
	if resumed {
		for o, err := range u.store.List(ctx, u.key) {
			if err != nil {
				return err
			}
			there[o.Key] = o.Size
		}
	}
	err = forEach(ctx, entries, func(ctx context.Context, e entry) error {
		if err := u.entry(ctx, root, e, there, record); err != nil {
			return &TransferError{Op: Upload, Key: u.key + e.name, Path: filepath.Join(u.path, filepath.FromSlash(e.name)), Err: pathless(err)}
		}
		return nil
	})
	if err != nil || !resumed {
		return err
	}
	// What the folder had when it was begun, and has no more.
	for _, e := range entries {
		delete(there, u.key+e.key())
	}
	for key := range there {
		if err := u.store.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// key is what follows the folder's prefix.
func (e entry) key() string {
	switch {
	case e.name == ".":
		return ""
	case e.dir:
		return e.name + "/"
	}
	return e.name
}

// usualMode reports whether a directory is made with the mode anyway, but for
// who may write in it besides the owner, which depends on the receiver's umask.
func usualMode(mode fs.FileMode) bool { return mode.Perm()&^0o022 == 0o755 }

// walk finds what is to be sent. Symbolic links are not followed, and like
// pipes, sockets and devices left out. What cannot be read is an error.
func (u *upload) walk(ctx context.Context, root *os.Root) (entries []entry, err error) {
	log := u.s.log.With("folder", u.path)
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err == nil && !utf8.ValidString(name) {
			err = errors.New("the name is not UTF-8, which keys must be")
		}
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		if err != nil {
			return &TransferError{Op: Upload, Path: filepath.Join(u.path, filepath.FromSlash(name)), Err: &localError{pathless(err)}}
		}
		switch {
		case d.IsDir():
			children, err := fs.ReadDir(root.FS(), name)
			if err != nil {
				return &TransferError{Op: Upload, Path: filepath.Join(u.path, filepath.FromSlash(name)), Err: &localError{pathless(err)}}
			}
			if len(children) == 0 || name != "." && !usualMode(info.Mode()) {
				entries = append(entries, entry{name: name, mode: info.Mode(), dir: true})
			}
		case d.Type().IsRegular():
			entries = append(entries, entry{name: name, size: info.Size(), mode: info.Mode()})
		default:
			log.Warn("left out: only files and directories are sent", "name", name, "type", d.Type().String())
		}
		return nil
	})
	return entries, err
}

// entry stores one entry, unless it is there already.
func (u *upload) entry(ctx context.Context, root *os.Root, e entry, there map[string]int64, record *uploadRecord) error {
	key := u.key + e.key()
	if e.dir {
		return u.store.Put(ctx, key, strings.NewReader(""), PutOptions{Mode: e.mode.Perm()})
	}
	file, err := root.Open(e.name)
	if err != nil {
		return &localError{pathless(err)}
	}
	defer file.Close()
	if size, ok := there[key]; ok && size == e.size {
		same, err := u.same(ctx, file, key)
		if err != nil {
			return err
		}
		if same {
			u.told.add(size)
			u.told.fileDone()
			return nil
		}
	}
	err = u.put(ctx, file, key, record)
	if err == nil {
		u.told.fileDone()
	}
	return err
}

// same reports whether the object has the bytes of the file.
func (u *upload) same(ctx context.Context, file *os.File, key string) (bool, error) {
	info, err := u.store.Stat(ctx, key)
	if err != nil || !info.HasCRC64 {
		return false, nil
	}
	sum := checksum.New()
	n, err := copyContext(ctx, sum, file)
	return n == info.Size && sum.Sum64() == info.CRC64, err
}

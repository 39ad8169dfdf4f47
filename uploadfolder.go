package crosscomm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

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
func (u *upload) folder(ctx context.Context, resumed bool) error {
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
	there := map[string]bool{}
	if resumed {
		for o, err := range u.store.List(ctx, u.key) {
			if err != nil {
				return err
			}
			there[o.Key] = true
		}
	}
	err = forEach(ctx, folderWorkers, entries, func(ctx context.Context, e entry) error {
		if err := u.entry(ctx, root, e, there[u.key+e.key()]); err != nil {
			return u.entryError(u.key+e.key(), e.name, err)
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
	u.abortUploads(ctx, u.store)
	return nil
}

// entryError tells of which part of the folder the error is.
func (u *upload) entryError(key, name string, err error) error {
	return &TransferError{Op: OpUpload, Key: key, Path: filepath.Join(u.path, filepath.FromSlash(name)), Err: pathless(err)}
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
// pipes, sockets and devices left out; so are downloads that are not whole. What
// cannot be read is an error.
func (u *upload) walk(ctx context.Context, root *os.Root) (entries []entry, err error) {
	log := u.s.log.With("folder", u.path)
	var dirs []entry
	full := map[string]bool{} // directories of which something is sent
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
			return u.entryError("", name, &localError{pathless(err)})
		}
		switch {
		case isPartName(d.Name()):
			log.Warn("left out: it is a download that is not whole", "name", name)
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			dirs = append(dirs, entry{name: name, mode: info.Mode(), dir: true})
		case d.Type().IsRegular():
			entries = append(entries, entry{name: name, size: info.Size(), mode: info.Mode()})
		default:
			log.Warn("left out: only files and directories are sent", "name", name, "type", d.Type().String())
			return nil
		}
		full[path.Dir(name)] = full[path.Dir(name)] || name != "."
		return nil
	})
	for _, e := range dirs {
		if !full[e.name] || e.name != "." && !usualMode(e.mode) {
			entries = append(entries, e)
		}
	}
	return entries, err
}

// entry stores one entry, unless it may be there already, and is.
func (u *upload) entry(ctx context.Context, root *os.Root, e entry, mayBeThere bool) error {
	key := u.key + e.key()
	if e.dir {
		return u.store.Put(ctx, key, strings.NewReader(""), PutOptions{Mode: e.mode.Perm()})
	}
	file, err := root.OpenFile(e.name, os.O_RDONLY|openNonblocking, 0)
	if err != nil {
		return &localError{pathless(err)}
	}
	defer file.Close()
	// A link may have taken its place meanwhile, which is not followed.
	info, err := file.Stat()
	if err != nil {
		return &localError{pathless(err)}
	}
	if now, err := root.Lstat(e.name); err != nil || !os.SameFile(info, now) {
		return &localError{errors.New("it was replaced while the folder was sent; send it again")}
	}
	return u.put(ctx, file, key, mayBeThere)
}

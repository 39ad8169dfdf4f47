package crosscomm

import (
	"context"
	"errors"
	"io/fs"
	"os"
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
	there := map[string]bool{}
	if resumed {
		for o, err := range u.store.List(ctx, u.key) {
			if err != nil {
				return err
			}
			there[o.Key] = true
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
func (u *upload) entry(ctx context.Context, root *os.Root, e entry, there map[string]bool, record *uploadRecord) error {
	key := u.key + e.key()
	if e.dir {
		return u.store.Put(ctx, key, strings.NewReader(""), PutOptions{Mode: e.mode.Perm()})
	}
	file, err := root.Open(e.name)
	if err != nil {
		return &localError{pathless(err)}
	}
	defer file.Close()
	if there[key] {
		if info, err := file.Stat(); err == nil && u.isStored(ctx, file, info, key) {
			u.told.add(info.Size())
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

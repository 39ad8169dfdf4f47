package crosscomm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/checksum"
	"github.com/crosscomm/crosscomm-go/internal/filelock"
)

const (
	// resumeFrom is the size from which on it is worth to look for what an
	// earlier run has left.
	resumeFrom = 1 << 20
	// maxMismatches is how often a file may come with other bytes than the store
	// has.
	maxMismatches = 3
	// partsKept is how long what was left of a cut transfer is kept.
	partsKept = 7 * 24 * time.Hour

	partPrefix, partSuffix = ".crosscomm-", ".part"
)

var (
	errSumMismatch = errors.New("the bytes that came are not those that the store has: the link or a disk has changed them")
	errNoRange     = errors.New("the store has not answered with the range that was asked for")
)

// fetch is one object on its way to a file. The bytes go to a file of another
// name, which is the same for the same bytes, so that a later run finds it.
type fetch struct {
	*download
	dir       *directory
	key, name string // the name is one in dir
	size      func(int64)

	info ObjectInfo
	part string   // the name of file
	keep bool     // whether a later run can go on with it
	file *os.File // nil until it is known what comes
	sum  hash.Hash64
	have int64 // how many bytes the file has, of which sum is
}

// run downloads until the file is whole, as long as there is progress.
func (f *fetch) run(ctx context.Context) error {
	defer f.closePart()
	wait := backoff{min: retryMin, max: retryMax}
	for f.file == nil || f.have < f.info.Size {
		before := f.have
		err := f.attempt(ctx)
		if f.have > before {
			wait.reset() // it goes on, however bad the link is
		}
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case f.file == nil || !passes(err) || errors.Is(err, fs.ErrNotExist) || wait.attempts+1 >= maxAttempts:
			return err // the store has tried often enough to begin at all
		}
		if !sleep(ctx, wait.next()) {
			return context.Cause(ctx)
		}
	}
	return f.finish()
}

// attempt gets what is missing, as far as the link lasts.
func (f *fetch) attempt(ctx context.Context) error {
	offset := f.have
	body, info, err := f.store.Get(ctx, f.key, offset)
	if errors.Is(err, errNoRange) {
		// The object has been replaced by a shorter one.
		offset = 0
		body, info, err = f.store.Get(ctx, f.key, offset)
	}
	if err != nil {
		return err
	}
	defer func() { body.Close() }()
	if f.file == nil || !f.same(info) {
		if err := f.begin(ctx, info); err != nil {
			return &localError{err}
		}
	}
	if f.have == f.info.Size {
		return nil
	}
	if f.have != offset { // it was begun by an earlier run, or must be begun anew
		body.Close()
		if body, info, err = f.store.Get(ctx, f.key, f.have); err != nil {
			return err
		}
		if !f.same(info) {
			return errors.New("the object has changed while it was downloaded")
		}
	}
	n, err := copySummed(ctx, f.file, f.sum, io.LimitReader(body, f.info.Size-f.have), f.told.add)
	f.have += n
	if err == nil && f.have < f.info.Size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (f *fetch) same(info ObjectInfo) bool {
	return info.ETag == f.info.ETag && info.Size == f.info.Size && info.CRC64 == f.info.CRC64
}

// begin opens the file for the object, with what an earlier run has left.
func (f *fetch) begin(ctx context.Context, info ObjectInfo) error {
	f.told.add(-f.have)
	f.closePart()
	f.info, f.have, f.sum = info, 0, checksum.New()
	if f.size != nil {
		f.size(info.Size)
	}
	f.keep = false
	if info.Size >= resumeFrom && (info.ETag != "" || info.HasCRC64) {
		removeOldParts(f.dir.Root)
		if err := f.openKept(); err != nil {
			return err
		}
	}
	if !f.keep {
		var err error
		f.part = partPrefix + random8() + random8() + partSuffix
		f.file, err = f.dir.OpenFile(f.part, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		return err
	}
	n, err := copyContext(ctx, f.sum, io.LimitReader(f.file, info.Size))
	f.told.add(n)
	f.have = n
	return err
}

// openKept opens the file that a later run finds, unless another process is
// writing it now.
func (f *fetch) openKept() error {
	f.part = partPrefix + shortHash(fmt.Sprint(f.key, "\x00", f.info.ETag, f.info.CRC64, f.info.Size)) + partSuffix
	file, err := f.dir.OpenFile(f.part, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	if err := filelock.TryFile(file); errors.Is(err, filelock.ErrHeld) {
		return file.Close()
	}
	f.file, f.keep = file, true
	return nil
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
		if !strings.HasPrefix(e.Name(), partPrefix) || !strings.HasSuffix(e.Name(), partSuffix) {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > partsKept {
			_ = root.RemoveAll(e.Name())
		}
	}
}

// closePart closes the file of an object that is not whole. It stays if a later
// run can go on with it.
func (f *fetch) closePart() {
	if f.file == nil {
		return
	}
	f.file.Close()
	f.file = nil
	if !f.keep {
		_ = f.dir.Remove(f.part)
	}
}

// finish verifies the file and gives it its name.
func (f *fetch) finish() error {
	if f.info.HasCRC64 && f.sum.Sum64() != f.info.CRC64 {
		f.file.Close()
		f.file = nil
		_ = f.dir.Remove(f.part)
		f.told.add(-f.have)
		return errSumMismatch
	}
	// An earlier run can have left more than there is now.
	err := f.file.Truncate(f.info.Size)
	if err == nil && f.info.Mode != 0 {
		err = f.file.Chmod(receivedMode(f.info.Mode))
	}
	if err == nil && (!f.lazy || f.info.Size >= resumeFrom) {
		err = f.file.Sync()
	}
	if closeErr := f.file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = f.dir.Rename(f.part, f.name)
	}
	f.file = nil
	if f.keep && errors.Is(err, fs.ErrNotExist) {
		// Another process, which had the file before, has just given it its name.
		if info, statErr := f.dir.Lstat(f.name); statErr == nil && info.Mode().IsRegular() && info.Size() == f.info.Size {
			return nil
		}
	}
	if err != nil {
		_ = f.dir.Remove(f.part)
		return &localError{err}
	}
	return nil
}

// shortHash is a name for what may be long, or have characters that a file
// name cannot.
func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

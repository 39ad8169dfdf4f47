package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/crosscomm/crosscomm-go/internal/checksum"
	"github.com/crosscomm/crosscomm-go/internal/pipeline"
	"github.com/crosscomm/crosscomm-go/internal/syncfs"
)

// folderWorkers is how many files of a folder are under way at once. Small ones
// wait for the disk most of the time, here and at the server, where many puts
// share a commit.
const folderWorkers = 24

// maxFolder bounds the files of a folder that is received, for the memory that
// their names take.
const maxFolder = 1_000_000

// download brings objects of a store into a directory. Nothing is written
// outside of it, whatever the keys, and whatever symbolic links are in it.
type download struct {
	s     *Service
	store ObjectStore
	root  *os.Root
	dirs  *directories // of root
	dir   string       // the path of root
	told  *progress
	names *namer
	lazy  bool // small files are synced when all are there
	own   bool // what else is in the directory is of an earlier try
	traits
	size *atomic.Int64 // of all files that are taken
}

// DownloadFileManually downloads an image, a file, or, if the key ends in a
// slash, a folder, and returns where it is: in the directory, which is made if
// it is missing, under its whole key, as the original does it. A key that is no
// object's counts as a folder's if there is something below it: Java sends
// folders so.
//
// Files get their names when they are whole and verified (size, and CRC64 if
// the store has one). What is there already is not transferred again, and what
// was cut goes on where it stopped, also when another program calls this: of a
// file from 1 MiB on, within a week. It returns within a second after ctx has
// ended. Names that this machine could not hold are changed, and so are those of
// one call that differ only in case where that does not count.
//
// The error is a *[TransferError] with the reason in it, such as fs.ErrNotExist,
// [ErrTooLarge] or the context's, or [ErrNoObjectStore]. It needs no login if
// the store is given by the configuration; else it waits for the link like
// SendMessage, and returns [ErrNotConnected] as that does. A Logout or a Stop
// ends it with ErrNotConnected, too.
func (s *Service) DownloadFileManually(ctx context.Context, ossKey, directory string) (path string, err error) {
	path, err = s.transferToDir(ctx, ossKey, baseName(ossKey), directory, func(ctx context.Context, d *download) (string, error) {
		if strings.HasSuffix(ossKey, "/") {
			return d.manualFolder(ctx, ossKey)
		}
		name, err := d.file(ctx, ossKey)
		if !errors.Is(err, fs.ErrNotExist) {
			return name, err
		}
		below, listErr := d.hasBelow(ctx, ossKey+"/")
		if listErr != nil {
			return name, listErr
		}
		if !below {
			return name, err
		}
		d.names = newNamer(d.traits)
		return d.manualFolder(ctx, ossKey+"/")
	})
	if err != nil {
		return "", fmt.Errorf("crosscomm: DownloadFileManually: %w", err)
	}
	return path, nil
}

func (d *download) manualFolder(ctx context.Context, prefix string) (string, error) {
	name, err := d.names.dir(prefix)
	if err != nil {
		return "", err
	}
	if err := d.folder(ctx, prefix); err != nil {
		return name, err
	}
	return name, d.root.MkdirAll(name, 0o777) // there may be nothing in it
}

// transferToDir runs f for a directory when nothing else brings the key there,
// as part of the Service's run, and returns the path that f has made. People
// call it by the name.
func (s *Service) transferToDir(ctx context.Context, key, name, dir string, f func(context.Context, *download) (string, error)) (path string, err error) {
	ctx, end := s.beginTransfer(ctx)
	defer end()
	place, err := placeOf(dir, key)
	if err != nil {
		return "", &TransferError{Op: OpDownload, Key: key, Path: dir, Err: err}
	}
	leave, err := s.transfers.begin(ctx, place)
	if err != nil {
		return "", &TransferError{Op: OpDownload, Key: key, Path: dir, Err: err}
	}
	defer leave()
	return s.downloadTo(ctx, key, name, dir, f)
}

// placeOf is the same for all that would do the same. (Those that only share some
// files are kept apart by the locks of these.)
func placeOf(dir, key string) (string, error) {
	dir, err := filepath.Abs(dir)
	return dir + "\x00" + strings.TrimSuffix(key, "/"), err
}

// downloadTo runs f for a directory.
func (s *Service) downloadTo(ctx context.Context, key, name, dir string, f func(context.Context, *download) (string, error)) (path string, err error) {
	// Thousands may have waited for their turn when the run ended.
	if ctx.Err() != nil {
		return "", &TransferError{Op: OpDownload, Key: key, Path: dir, Err: context.Cause(ctx)}
	}
	store, err := s.objectStore(ctx)
	if err != nil {
		return "", err
	}
	if dir == "" {
		dir = "."
	}
	path = dir
	fail := func(err error) (string, error) {
		return "", &TransferError{Op: OpDownload, Key: key, Path: path, Err: pathless(err)}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fail(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fail(err)
	}
	defer root.Close()
	d := &download{s: s, store: store, root: root, dirs: newDirectories(root), dir: dir, size: new(atomic.Int64)}
	defer d.dirs.close()
	if d.traits, err = traitsOf(root); err != nil {
		return fail(err)
	}
	d.names = newNamer(d.traits)
	d.told = s.newProgress(Progress{Op: OpDownload, Key: key, Path: dir, Name: name, Files: 1})
	local, err := f(ctx, d)
	if local != "" {
		path = d.path(local)
		d.told.change(func(p *Progress) { p.Path = path })
	}
	if err != nil {
		_, err = fail(err)
		return "", d.told.done(err)
	}
	return path, d.told.done(nil)
}

// path returns the path of a name in the directory.
func (d *download) path(name string) string { return filepath.Join(d.dir, filepath.FromSlash(name)) }

// hasBelow reports whether there is any object below the prefix.
func (d *download) hasBelow(ctx context.Context, prefix string) (bool, error) {
	for _, err := range d.store.List(ctx, prefix) {
		return err == nil, err
	}
	return false, nil
}

// file downloads the object to its place, and returns that.
func (d *download) file(ctx context.Context, key string) (name string, err error) {
	if name, err = d.names.file(key); err != nil {
		return "", err
	}
	begun := func(size int64) {
		d.told.change(func(p *Progress) { p.Total, p.Path = size, d.path(name) })
	}
	if err := d.fetch(ctx, key, name, begun); err != nil {
		return name, err
	}
	d.told.fileDone()
	return name, nil
}

// folder downloads all objects below the prefix, which ends in a slash, to
// their places.
func (d *download) folder(ctx context.Context, prefix string) error {
	var files, dirs []string
	total := int64(0)
	for o, err := range d.store.List(ctx, prefix) {
		switch {
		case err != nil:
			return err
		case strings.HasSuffix(o.Key, "/"):
			dirs = append(dirs, o.Key)
		default:
			files = append(files, o.Key)
			total += o.Size
		}
		if len(files)+len(dirs) > maxFolder {
			return fmt.Errorf("the folder has more than %d files", maxFolder)
		}
	}
	slices.Sort(files) // so that each gets the same name again
	slices.Sort(dirs)
	if err := d.checkSize(total); err != nil {
		return err
	}
	d.told.change(func(p *Progress) { p.Total, p.Files = total, len(files) })
	if _, err := d.names.dir(prefix); err != nil {
		return err // also if it is empty
	}
	names := map[string]string{}
	for _, key := range files {
		name, err := d.names.file(key)
		if err != nil {
			return err
		}
		names[key] = name
	}
	for _, key := range dirs {
		name, err := d.names.dir(key)
		if err != nil {
			return err
		}
		names[key] = name
	}
	if d.own {
		if err := d.removeOthers(files, dirs, names); err != nil {
			return err
		}
	}
	for _, key := range dirs {
		if err := d.root.MkdirAll(names[key], 0o777); err != nil {
			return err
		}
	}
	d.lazy = true
	err := forEach(ctx, folderWorkers, files, func(ctx context.Context, key string) error {
		err := d.fetch(ctx, key, names[key], nil)
		if err != nil {
			return &TransferError{Op: OpDownload, Key: key, Path: d.path(names[key]), Err: err}
		}
		d.told.fileDone()
		return nil
	})
	if err != nil {
		return err
	}
	if err := d.sync(ctx, files, names); err != nil {
		return err
	}
	return forEach(ctx, folderWorkers, dirs, func(ctx context.Context, key string) error { return d.chmodDir(ctx, key, names[key]) })
}

// removeOthers removes what an earlier try has left that is no more in the
// store, or is a directory there and a file here, or the reverse.
func (d *download) removeOthers(files, dirs []string, names map[string]string) error {
	isFile, isDir := map[string]bool{}, map[string]bool{".": true}
	for _, key := range files {
		isFile[names[key]] = true
		addParents(isDir, names[key])
	}
	for _, key := range dirs {
		isDir[names[key]] = true
		addParents(isDir, names[key])
	}
	return fs.WalkDir(d.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && isDir[name], !e.IsDir() && (isFile[name] || isPartName(path.Base(name))):
			return nil
		}
		err = d.root.RemoveAll(name)
		if err == nil && e.IsDir() {
			err = fs.SkipDir
		}
		return err
	})
}

func addParents(dirs map[string]bool, name string) {
	for dir := path.Dir(name); !dirs[dir]; dir = path.Dir(dir) {
		dirs[dir] = true
	}
}

// sync makes the small files of a folder durable. One by one, as they came, it
// would take longer than all the rest.
func (d *download) sync(ctx context.Context, keys []string, names map[string]string) error {
	top, err := d.root.Open(".")
	if err != nil {
		return err
	}
	var done bool
	err = waitFor(ctx, func() (err error) {
		defer top.Close()
		done, err = syncfs.Sync(top)
		return err
	})
	if err != nil || done {
		return err
	}
	return forEach(ctx, folderWorkers, keys, func(ctx context.Context, key string) error {
		file, err := d.root.OpenFile(names[key], os.O_RDWR, 0)
		if errors.Is(err, fs.ErrPermission) {
			return nil // its sender has made it read-only; the system writes it in its time
		}
		if err != nil {
			return err
		}
		return waitFor(ctx, func() error { return errors.Join(file.Sync(), file.Close()) })
	})
}

// chmodDir gives a directory the mode that its sender's has. The owner may
// always use it: else it could not even be deleted.
func (d *download) chmodDir(ctx context.Context, key, name string) error {
	info, err := d.store.Stat(ctx, key)
	if err != nil || info.Mode == 0 {
		return err
	}
	_ = d.root.Chmod(name, info.Mode.Perm()&^d.umask|0o700) // not every file system has modes
	return nil
}

// take counts a file of the size, unless all that was taken would be more than
// is allowed: a list may lie, and objects grow after it.
func (d *download) take(size int64) error {
	err := d.checkSize(d.size.Add(size))
	if err != nil {
		d.size.Add(-size)
	}
	return err
}

// checkSize refuses what is larger than the configuration allows.
func (d *download) checkSize(size int64) error {
	if most := d.s.cfg.MaxDownloadSize; most > 0 && size > most {
		return fmt.Errorf("%w: it has %d bytes, and Config.MaxDownloadSize is %d", ErrTooLarge, size, most)
	}
	return nil
}

// fetch brings one object to the name, unless it is there already. The function
// begun, if not nil, is told how large it is.
func (d *download) fetch(ctx context.Context, key, name string, begun func(size int64)) error {
	dir, err := d.dirs.enter(name)
	if err != nil {
		return err
	}
	defer d.dirs.leave(dir)
	name = path.Base(name)
	if there, n := d.isThere(ctx, dir, key, name); there {
		if err := d.take(n); err != nil {
			return err
		}
		if begun != nil {
			begun(n)
		}
		d.told.add(n)
		return nil
	}
	// What an earlier run has left may not be what it seems, and a link may
	// change bytes.
	for range maxMismatches {
		f := &fetch{download: d, dir: dir, key: key, name: name, begun: begun}
		if err = f.run(ctx); !errors.Is(err, errSumMismatch) {
			break
		}
	}
	return err
}

// isThere reports whether the file is there already, byte for byte, and its
// size.
func (d *download) isThere(ctx context.Context, dir *directory, key, name string) (bool, int64) {
	local, err := dir.Lstat(name)
	if err != nil || !local.Mode().IsRegular() {
		return false, 0
	}
	file, err := dir.Open(name)
	if err != nil {
		return false, 0
	}
	defer file.Close()
	return sameAsObject(ctx, d.store, key, file, local.Size(), d.told), local.Size()
}

// sameAsObject reports whether the object has the bytes of the file, which has so
// many. It is false if that cannot be found out.
func sameAsObject(ctx context.Context, store ObjectStore, key string, file io.ReaderAt, size int64, told *progress) bool {
	info, err := store.Stat(ctx, key)
	if err != nil || !info.HasCRC64 || info.Size != size {
		return false
	}
	sum := checksum.New()
	n, err := pipeline.Copy(ctx, sum, io.NewSectionReader(file, 0, size), told.checked)
	return err == nil && n == size && sum.Sum64() == info.CRC64
}

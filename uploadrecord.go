package crosscomm

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/filelock"
)

// recordFrom is the size from which on an upload is remembered until it is
// complete: a smaller one is soon made anew.
const recordFrom = multipartFrom

// uploadRecord remembers the key of an upload that was begun, so that the next
// one of the same path, perhaps by the next run of the program, goes on with
// it. It is a file in the user's cache directory, locked as long as it is open;
// where there is none, or another upload of the same path is under way, nothing
// is remembered. The bytes that are stored are compared with the file's; the
// record need not be right.
type uploadRecord struct {
	file *os.File // nil if nothing can be remembered
	kept bool     // whether it is remembered

	Key     string    `json:"key"`
	Size    int64     `json:"size"`
	Changed time.Time `json:"changed"`
	Begun   time.Time `json:"begun"`
}

// openRecord returns the record for what is at the path. It must be released.
func (s *Service) openRecord(store ObjectStore, name string, info fs.FileInfo) *uploadRecord {
	if !info.IsDir() && info.Size() < recordFrom {
		return &uploadRecord{}
	}
	file, err := s.openRecordFile(store, name)
	if err != nil {
		s.log.Debug("an upload cannot be remembered; if it is cut, it must begin anew", "path", name, "error", err)
		return &uploadRecord{}
	}
	r := &uploadRecord{}
	data, err := io.ReadAll(io.LimitReader(file, 64<<10))
	if err != nil || json.Unmarshal(data, r) != nil || !r.fits(info) {
		r.Key = ""
	}
	r.file, r.Size, r.Changed = file, info.Size(), info.ModTime()
	return r
}

func (s *Service) openRecordFile(store ObjectStore, name string) (*os.File, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	if name, err = filepath.Abs(name); err != nil {
		return nil, err
	}
	where := ""
	if s, ok := store.(fmt.Stringer); ok {
		where = s.String()
	}
	dir := filepath.Join(cache, "crosscomm", "uploads")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	removeOldRecords(dir)
	file := filepath.Join(dir, shortHash(where+"\x00"+s.cfg.ClientID+"\x00"+name)+".json")
	return openLocked(func() (*os.File, error) { return os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600) },
		func() (fs.FileInfo, error) { return os.Lstat(file) }, filelock.TryFile)
}

// fits reports whether the record is of what is there now, and not of something
// else that had the name. Of a directory its own time says little.
func (r *uploadRecord) fits(info fs.FileInfo) bool {
	switch {
	case time.Since(r.Begun) > partsKept, strings.HasSuffix(r.Key, "/") != info.IsDir():
		return false
	case info.IsDir():
		return true
	}
	return r.Size == info.Size() && r.Changed.Equal(info.ModTime())
}

func removeOldRecords(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > partsKept {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// save remembers the key, if that is possible.
func (r *uploadRecord) save(key string) {
	if r.file == nil {
		return
	}
	if r.Key != key {
		r.Key, r.Begun = key, time.Now()
	}
	data, err := json.Marshal(r)
	if err == nil {
		err = r.file.Truncate(0)
	}
	if err == nil {
		_, err = r.file.WriteAt(data, 0)
	}
	r.kept = err == nil
}

// forget has the record removed: the upload is complete, or of no use.
func (r *uploadRecord) forget() { r.kept = false }

// release gives up the record, which stays for a later upload if it is kept.
func (r *uploadRecord) release() {
	if r.file == nil {
		return
	}
	removed := r.kept || os.Remove(r.file.Name()) == nil
	r.file.Close()
	if !removed {
		_ = os.Remove(r.file.Name()) // Windows removes no open file
	}
}

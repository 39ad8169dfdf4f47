package crosscomm

import (
	"encoding/json"
	"fmt"
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
// it. It lies in the user's cache directory; where there is none, or another
// upload of the same path is under way, nothing is remembered. The bytes that
// are stored are compared with the file's; the record need not be right.
type uploadRecord struct {
	file   string // "" if nothing can be remembered
	unlock func()

	Key     string    `json:"key"`
	Size    int64     `json:"size"`
	Changed time.Time `json:"changed"`
	Begun   time.Time `json:"begun"`
}

// openRecord returns the record for what is at the path. It must be released.
func (s *Service) openRecord(store ObjectStore, name string, info fs.FileInfo) *uploadRecord {
	none := &uploadRecord{unlock: func() {}}
	if !info.IsDir() && info.Size() < recordFrom {
		return none
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return none
	}
	if name, err = filepath.Abs(name); err != nil {
		return none
	}
	where := ""
	if s, ok := store.(fmt.Stringer); ok {
		where = s.String()
	}
	dir := filepath.Join(cache, "crosscomm", "uploads")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return none
	}
	removeOldRecords(dir)
	r := &uploadRecord{file: filepath.Join(dir, shortHash(where+"\x00"+s.cfg.ClientID+"\x00"+name)+".json")}
	if r.unlock, err = filelock.Lock(r.file+".lock", 0); err != nil {
		return none
	}
	data, err := os.ReadFile(r.file)
	if err != nil || json.Unmarshal(data, r) != nil {
		r.Key = ""
	}
	if !r.fits(info) {
		r.Key = ""
	}
	r.Size, r.Changed = info.Size(), info.ModTime()
	return r
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

// save remembers the key, if an upload of that size is worth it, and reports
// whether it is remembered. The first call must have returned before others are
// made concurrently.
func (r *uploadRecord) save(key string, size int64) bool {
	if r.file == "" || size < recordFrom {
		return false
	}
	if r.Key == key {
		return true
	}
	saved := *r
	saved.Key, saved.Begun = key, time.Now()
	data, err := json.Marshal(saved)
	if err != nil {
		return false
	}
	if os.WriteFile(r.file, data, 0o600) != nil {
		return false
	}
	r.Key = key
	return true
}

// remove forgets the upload: it is complete.
func (r *uploadRecord) remove() {
	if r.file != "" {
		_ = os.Remove(r.file)
	}
}

func (r *uploadRecord) release() { r.unlock() }

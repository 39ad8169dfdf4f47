// Package cached makes what tests need and takes long to fetch, once for all runs
// to come.
package cached

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/filelock"
)

// patience is how long another process may be at it.
const patience = 10 * time.Minute

// Dir returns a directory in the user's cache directory that fill has filled, now
// or in an earlier run, of this source: another source has another directory. If
// fill fails, the next call has it try again, with what it left behind.
// Processes that call Dir at once wait for each other, up to 10 minutes.
func Dir(prefix string, source []byte, fill func(dir string) error) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(source)
	dir := filepath.Join(cache, "crosscomm-interop", prefix+hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := filelock.Lock(filepath.Join(dir, "lock"), patience)
	if err != nil {
		return "", err
	}
	defer unlock()
	complete := filepath.Join(dir, "complete")
	if _, err := os.Stat(complete); err == nil {
		return dir, nil
	}
	if err := fill(dir); err != nil {
		return "", err
	}
	return dir, os.WriteFile(complete, nil, 0o644)
}

package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/crosscomm/crosscomm-go/internal/filelock"
)

// stateInterval is the shortest time between two writes of the state file.
const stateInterval = time.Second

// lockPatience is how long a write of the state file waits for another process
// that has it locked; after that it is tried again later.
const lockPatience = 5 * time.Second

const (
	statusOnline  = "online"
	statusOffline = "offline"
)

// clientState is what the file keeps of a client, in the original's format: a
// mapping of ids to these.
type clientState struct {
	Status   string  `yaml:"status"`
	LastSeen float64 `yaml:"last_seen"` // seconds since 1970
}

// stateFile keeps the states of a server's clients. Only one goroutine at a
// time uses it.
type stateFile struct {
	path string
	log  *slog.Logger
	// unsafe tells that what lies at path could neither be read nor set aside, so
	// that it must not be overwritten.
	unsafe  bool
	written fs.FileInfo // of the file as we last wrote or read it
}

func newStateFile(path string, log *slog.Logger) *stateFile {
	return &stateFile{path: path, log: log.With("state_file", path)}
}

// load returns the states in the file. Nothing that it finds is fatal, and
// nothing is lost: a damaged file is renamed, one that cannot be read is left
// alone.
func (f *stateFile) load() map[string]clientState {
	f.unsafe = false
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		f.log.Error("cannot make the directory of the state file; the clients' states will not be kept", "error", err)
		return nil
	}
	unlock, err := filelock.Lock(context.Background(), f.lockPath(), lockPatience)
	if err != nil {
		f.log.Warn("reading the state file without its lock", "error", err)
	} else {
		defer unlock()
	}
	states, err := f.read()
	if err != nil {
		f.setAside(err)
	}
	return states
}

func (f *stateFile) lockPath() string { return f.path + ".lock" }

// errDamaged wraps what yaml says of a file that is no state file.
var errDamaged = errors.New("damaged")

func (f *stateFile) read() (map[string]clientState, error) {
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f.written, _ = os.Stat(f.path)
	var states map[string]clientState
	if err := yaml.Unmarshal(data, &states); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return states, nil
}

// setAside renames a damaged file, so that a person can look at it.
func (f *stateFile) setAside(reason error) {
	if !errors.Is(reason, errDamaged) {
		f.unsafe = true
		f.log.Error("the state file cannot be read; it is left as it is, and the clients' states will not be kept", "error", reason)
		return
	}
	aside := f.path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000000")
	if err := os.Rename(f.path, aside); err != nil {
		f.unsafe = true
		f.log.Error("the state file is damaged and cannot be renamed; it is left as it is, and the clients' states will not be kept", "error", reason, "rename_error", err)
		return
	}
	f.written = nil
	f.log.Error("the state file is damaged; it was renamed, and a new one is begun", "error", reason, "renamed_to", aside)
}

// keep writes the states each time that there is a token in changed, but at
// most about once a second, and less often if writing is slow. When ctx ends it
// writes them a last time.
func (f *stateFile) keep(ctx context.Context, changed <-chan struct{}, states func() map[string]clientState) {
	var last map[string]clientState // what a write that failed should have written
	for {
		select {
		case <-ctx.Done():
			select {
			case <-changed:
				last = states()
			default:
			}
			if last != nil {
				f.trySave(last)
			}
			return
		case <-changed:
		}
		start := time.Now()
		last = states()
		if f.trySave(last) {
			last = nil
		}
		pause := max(stateInterval, 10*time.Since(start))
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (f *stateFile) trySave(states map[string]clientState) bool {
	if f.unsafe {
		return false
	}
	if err := f.save(states); err != nil {
		f.log.Error("cannot write the state file", "error", err)
		return false
	}
	return true
}

// save writes the file, so that after a crash there is either the old one or
// the new one. Clients that another server has added to it meanwhile stay.
func (f *stateFile) save(states map[string]clientState) (err error) {
	unlock, err := filelock.Lock(context.Background(), f.lockPath(), lockPatience)
	if err != nil {
		return err
	}
	defer unlock()
	if err := f.merge(states); err != nil {
		return err
	}
	data, err := yaml.Marshal(states)
	if err != nil {
		return err
	}
	// The lock is held, so there is one temporary file at most, and a crash
	// leaves no more than that.
	temp := f.path + ".tmp"
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
		}
	}()
	if err := writeSynced(temp, data); err != nil {
		return err
	}
	if err := os.Rename(temp, f.path); err != nil {
		return err
	}
	f.written, _ = os.Stat(f.path)
	return syncDir(filepath.Dir(f.path))
}

// merge adds to states what the file has beyond them, if anybody else wrote it.
func (f *stateFile) merge(states map[string]clientState) error {
	info, err := os.Stat(f.path)
	if err != nil || f.written != nil && os.SameFile(info, f.written) && info.ModTime().Equal(f.written.ModTime()) {
		return nil // not there, or ours
	}
	others, err := f.read()
	if err != nil {
		f.setAside(err)
		if f.unsafe {
			return err
		}
	}
	for id, state := range others {
		if _, ok := states[id]; !ok {
			states[id] = state
		}
	}
	return nil
}

func writeSynced(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Sync(), file.Close())
}

// syncDir makes a rename durable. Not every file system can; the file is then
// written all the same.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer dir.Close()
	_ = dir.Sync()
	return nil
}

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

func fromSeconds(s float64) time.Time {
	if math.IsNaN(s) || math.Abs(s) > math.MaxInt64/1e9 {
		return time.Unix(0, 0)
	}
	return time.UnixMicro(int64(s * 1e6))
}

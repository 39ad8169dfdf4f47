package crosscomm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/crosscomm/crosscomm-go/internal/filelock"
	"github.com/crosscomm/crosscomm-go/internal/syncfs"
)

// stateInterval is the shortest time between two writes of the state file.
const stateInterval = time.Second

// lockTimeout is how long a write of the state file waits for another process
// that has it locked; after that it is tried again, or, when the server stops,
// given up.
const lockTimeout = time.Second

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
	lock string // beside the name that was given, as Python has it, also if that is a link
	log  *slog.Logger
	// readOnly tells that what lies at path could neither be read nor set
	// aside, so that it must not be overwritten.
	readOnly bool
	written  fs.FileInfo // of the file as we last wrote or read it
	failing  bool        // whether the last write failed
}

func newStateFile(path string, log *slog.Logger) *stateFile {
	lock := path + ".lock"
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a rename would replace the link
	}
	return &stateFile{path: path, lock: lock, log: log.With("state_file", path)}
}

// load returns the states in the file. Nothing that it finds is fatal, and
// nothing is lost: a damaged file is renamed, one that cannot be read is left
// alone.
func (f *stateFile) load() map[string]clientState {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		f.readOnly = true
		f.log.Error("cannot make the directory of the state file; the clients' states will not be kept", "error", err)
		return nil
	}
	unlock, err := filelock.Lock(f.lock, lockTimeout)
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

// errDamaged wraps what yaml says of a file that is no state file.
var errDamaged = errors.New("damaged")

func (f *stateFile) read() (map[string]clientState, error) {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.path)
	}
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	f.written = info
	states, err := parseStates(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return states, nil
}

// parseStates parses a state file. It takes a mapping apart by itself: yaml compares
// each key with all others, which for 100,000 clients takes most of a minute.
func parseStates(data []byte) (map[string]clientState, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, err
	}
	if len(document.Content) == 0 || document.Content[0].Tag == "!!null" {
		return nil, nil
	}
	mapping := document.Content[0]
	if mapping.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: it is no mapping", mapping.Line)
	}
	states := make(map[string]clientState, len(mapping.Content)/2)
	for pair := range slices.Chunk(mapping.Content, 2) {
		var id string
		var state clientState
		if err := errors.Join(pair[0].Decode(&id), pair[1].Decode(&state)); err != nil {
			return nil, err
		}
		if _, twice := states[id]; twice {
			return nil, fmt.Errorf("line %d: %q is there twice", pair[0].Line, id)
		}
		states[id] = state
	}
	return states, nil
}

// setAside renames a damaged file, so that a person can look at it.
func (f *stateFile) setAside(reason error) {
	if !errors.Is(reason, errDamaged) {
		f.readOnly = true
		f.log.Error("the state file cannot be read; it is left as it is, and the clients' states will not be kept", "error", reason)
		return
	}
	aside := f.path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000000")
	if err := os.Rename(f.path, aside); err != nil {
		f.readOnly = true
		f.log.Error("the state file is damaged and cannot be renamed; it is left as it is, and the clients' states will not be kept", "error", reason, "rename_error", err)
		return
	}
	f.written = nil
	f.log.Error("the state file is damaged; it was renamed, and a new one is begun", "error", reason, "renamed_to", aside)
}

// keep writes the states of the hub each time that they have changed, but at
// most about once a second, or sooner after clients have come that were not known, and less
// often if writing is slow. A write that
// fails is tried again. When ctx ends it writes a last time.
func (f *stateFile) keep(ctx context.Context, h *hub) {
	unsaved := false
	var pause <-chan time.Time // not nil after a write, until the next may begin
	var soonest time.Time      // when that may be for who is new
	for {
		changed := h.changed
		if pause != nil {
			changed = nil
		}
		select {
		case <-ctx.Done():
			select {
			case <-h.changed:
				unsaved = true
			default:
			}
			if unsaved {
				f.save(h)
			}
			return
		case <-changed:
			unsaved = true
		case <-h.strangers:
			// Who is new should be known also after a kill: messages wait for it then.
			unsaved = true
			if pause != nil {
				pause = time.After(time.Until(soonest))
			}
		case <-pause:
			pause = nil
		}
		if unsaved && pause == nil {
			start := time.Now()
			unsaved = !f.save(h)
			wait := 10 * time.Since(start)
			if unsaved {
				wait = stateInterval
			}
			soonest = time.Now().Add(wait)
			pause = time.After(max(wait, stateInterval))
		}
	}
}

// save writes the states of the hub, and tells the hub of clients that another
// process has added to the file meanwhile. It reports whether that went well.
func (f *stateFile) save(h *hub) bool {
	if f.readOnly {
		return true // there is nothing to try again
	}
	err := f.update(h)
	switch {
	case err != nil && !f.failing: // not a line a second while a disk is full
		f.log.Error("cannot write the state file; trying again every second", "error", err)
	case err == nil && f.failing:
		f.log.Info("the state file is written again")
	}
	f.failing = err != nil
	return err == nil
}

func (f *stateFile) update(h *hub) (err error) {
	unlock, err := filelock.Lock(f.lock, lockTimeout)
	if err != nil {
		return err
	}
	defer unlock()
	others, err := f.readOthers()
	if err != nil {
		return err
	}
	h.restore(others)
	data, err := marshalStates(h.states())
	if err != nil {
		return err
	}
	return f.replace(data)
}

// readOthers reads the file if anybody else wrote it since we last did.
func (f *stateFile) readOthers() (map[string]clientState, error) {
	info, err := os.Stat(f.path)
	if err != nil || sameVersion(info, f.written) {
		return nil, nil // not there, or ours
	}
	states, err := f.read()
	if err != nil {
		f.setAside(err)
		if f.readOnly {
			return nil, err
		}
	}
	return states, nil
}

// replace writes the file.
func (f *stateFile) replace(data []byte) error {
	mode := fs.FileMode(0o644)
	if f.written != nil {
		mode = f.written.Mode().Perm()
	}
	if err := replaceFile(f.path, data, mode); err != nil {
		return err
	}
	f.written, _ = os.Stat(f.path)
	return nil
}

// plainKey matches the ids that need no quotes whatever reads them. Neither
// this package's nor Python's YAML quotes all that the other takes for a date,
// a number or "<<"; what they quote of these, such as yes and null, stays
// quoted.
var plainKey = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

// isPlain reports whether an id is written as it is, whatever the YAML library
// thinks of it: no word that stands for something else is so long, and from 128
// bytes on a key has another form.
func isPlain(id string) bool {
	return len(id) > len("false") && len(id) < 128 && plainKey.MatchString(id)
}

// marshalStates writes the mapping in the order of the states, indented as
// Python does it. Only ids that are not plain go by the YAML library, and that
// once: with thousands of clients it would cost the server more than their
// messages.
func marshalStates(states []memberState) ([]byte, error) {
	if len(states) == 0 {
		return []byte("{}\n"), nil
	}
	var data []byte
	for _, state := range states {
		m := state.member
		if isPlain(m.id) {
			data = append(append(data, m.id...), ":\n  "...)
		} else {
			if m.stateKey == "" {
				var err error
				if m.stateKey, err = stateKey(m.id); err != nil {
					return nil, err
				}
			}
			data = append(data, m.stateKey...)
		}
		data = append(data, "status: "...)
		data = append(append(data, state.Status...), "\n  last_seen: "...)
		data = strconv.AppendFloat(data, state.LastSeen, 'f', -1, 64)
		if state.LastSeen == math.Trunc(state.LastSeen) {
			data = append(data, ".0"...)
		}
		data = append(data, '\n')
	}
	return data, nil
}

// stateKey returns the text with which the state of a client begins, up to the
// first key of that.
func stateKey(id string) (string, error) {
	var key, value yaml.Node
	if err := errors.Join(key.Encode(id), value.Encode(clientState{Status: statusOnline})); err != nil {
		return "", err
	}
	if !plainKey.MatchString(id) {
		// Encode loses line breaks at the beginning.
		key.Value, key.Tag, key.Style = id, "!!str", yaml.DoubleQuotedStyle
	}
	var buf bytes.Buffer
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{&key, &value}}), enc.Close()); err != nil {
		return "", err
	}
	begin, ok := strings.CutSuffix(buf.String(), "status: online\n  last_seen: 0\n")
	if !ok {
		return "", fmt.Errorf("the state of a client is written as %q", buf.String())
	}
	return begin, nil
}

// replaceFile writes a file, so that after a crash there is either the old one or
// the new one. The caller must hold a lock: so there is one temporary file at most,
// and a crash leaves no more than that.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	temp := path + ".tmp"
	err := writeSynced(temp, data, mode)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp)
		return err
	}
	syncfs.Dir(filepath.Dir(path))
	return nil
}

func writeSynced(path string, data []byte, mode fs.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Sync(), file.Close())
}

package backlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/crosscomm/crosscomm-go/internal/syncfs"
)

// lockTimeout is how long Open waits for another that has the file open.
const lockTimeout = time.Second

// format is what the file says under formatKey. A program that changes what is in
// the file counts it up.
const format = "1"

var (
	formatKey = []byte("version")
	// closedKey is there while no store has the file open, if it was closed in
	// order.
	closedKey = []byte("closed")
)

// Open opens the file, which it makes if it is missing, with readable and writable
// for the user alone. It returns ErrInUse if another Store has it open, after a
// second. A file that is damaged is logged and renamed, and a new one is begun.
//
// If the last process with the file was killed, it is read once, which is not
// needed after Close.
func Open(path string, o Options) (*Store, error) {
	o.setDefaults()
	s, err := open(path, o)
	if errors.Is(err, errDamaged) {
		if err = setAside(path, &o, err); err == nil {
			s, err = open(path, o)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the backlog %s: %w", path, err)
	}
	return s, nil
}

// setAside renames a damaged file, so that a person can look at it.
func setAside(path string, o *Options, reason error) error {
	aside := path + ".damaged-" + o.Now().UTC().Format("20060102T150405.000000000")
	if err := os.Rename(path, aside); err != nil {
		return errors.Join(reason, err)
	}
	o.Logger.Error("the file of messages for absent clients is damaged; it was renamed, and a new one is begun", "error", reason, "file", path, "renamed_to", aside)
	return nil
}

func open(path string, o Options) (*Store, error) {
	if err := checkFile(path); err != nil {
		return nil, err
	}
	s := &Store{o: o, waiting: newGroup(), flight: newGroup(), clients: map[string]queue{}}
	err := guard(func() (err error) {
		s.db, err = openDB(path, false)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.update = s.db.Update
	if err := guard(s.begin); err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	syncfs.Dir(filepath.Dir(path)) // of what use is a file that is durable under no name
	return s, nil
}

// openDB opens the file with bbolt.
func openDB(path string, readOnly bool) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		ReadOnly: readOnly,
		Timeout:  lockTimeout,
		// The list of free pages is not written at each commit: after a long queue
		// was emptied, it is longer than what is committed. Close writes it. Hash
		// maps are for finding room fast in such a file.
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
		NoStatistics:   true,
	})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, ErrInUse
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrVersionMismatch), errors.Is(err, bbolterrors.ErrChecksum):
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return db, err
}

// checkFile looks for what would make bbolt panic on a goroutine where nobody can
// prevent it from ending the process: that reads a file that was not closed in
// order to find its free pages.
func checkFile(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		return err
	}
	return guard(func() error {
		db, err := openDB(path, true)
		if err != nil {
			return err
		}
		defer db.Close()
		if info, err = os.Stat(path); err != nil { // nobody changes it any more
			return err
		}
		return db.View(func(tx *bbolt.Tx) error {
			if tx.Size() > info.Size() {
				return fmt.Errorf("%w: it has %d bytes, of %d", errDamaged, info.Size(), tx.Size())
			}
			b := tx.Bucket(formatBucket)
			if b == nil {
				return nil // it was killed when it had just made the file
			}
			if v := b.Get(formatKey); string(v) != format {
				return fmt.Errorf("it has the format %q of another version of the program", v)
			}
			if b.Get(closedKey) != nil {
				return nil
			}
			return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return readKeys(b) })
		})
	})
}

// readKeys reads each page with keys.
func readKeys(b *bbolt.Bucket) error {
	return b.ForEach(func(k, v []byte) error {
		if v != nil {
			return nil
		}
		if b := b.Bucket(k); b != nil {
			return readKeys(b)
		}
		return nil
	})
}

// begin prepares the file, and reads how much is in it.
func (s *Store) begin() error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{messagesBucket, countsBucket, formatBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		b := tx.Bucket(formatBucket)
		return errors.Join(b.Put(formatKey, []byte(format)), b.Delete(closedKey))
	})
	if err != nil {
		return err
	}
	return s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(countsBucket).ForEach(func(k, v []byte) error {
			q, err := decodeQueue(v)
			if err != nil {
				return err
			}
			s.clients[string(k)] = q
			s.totals.Messages += q.messages
			s.totals.Bytes += q.bytes
			return nil
		})
	})
}

// Close commits what is queued and closes the file. What is called afterwards
// fails with ErrClosed, or tells how it was.
func (s *Store) Close() error {
	s.close.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		_ = s.Sync(context.Background()) // its only error is that of the context
		if !s.damaged.Load() {
			s.markClosed()
		}
		s.closeErr = s.db.Close()
	})
	return s.closeErr
}

// markClosed writes what saves the next Open from reading the file.
func (s *Store) markClosed() {
	s.db.NoFreelistSync = false // for this transaction
	err := guard(func() error {
		return s.update(func(tx *bbolt.Tx) error { return tx.Bucket(formatBucket).Put(closedKey, []byte("1")) })
	})
	if err != nil {
		s.o.Logger.Warn("the file of messages for absent clients was not closed in order; nothing is lost, but it will be read when it is opened", "error", err)
	}
}

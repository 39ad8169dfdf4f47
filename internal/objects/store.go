// Package objects keeps the objects of one bucket: the bytes in files under
// names of their own, and an index of keys in a bbolt database. A key is no
// path: "a", "a/" and "a/b" stand side by side, and none can reach outside of
// the directory.
//
// A put is atomic and durable. Its bytes are written and synced under a new
// name first, and then one transaction of the index makes the key point to
// them; so a reader or a crash finds the old object or the new one. What a crash
// leaves without a key is removed at the next start.
//
// All methods of a Store may be called concurrently.
package objects

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrInUse: another process has the directory open.
	ErrInUse = errors.New("in use by another process")
	// ErrNotFound: there is no such object or upload.
	ErrNotFound = errors.New("not found")
	// ErrExists: there is an object already, and it was not to be replaced.
	ErrExists = errors.New("exists already")
	// ErrTooLarge: the object exceeds Limits.MaxObject.
	ErrTooLarge = errors.New("object too large")
	// ErrQuota: the store would exceed Limits.Quota.
	ErrQuota = errors.New("no room left within the quota")
	// ErrShort: the bytes are fewer or more than were announced.
	ErrShort = errors.New("not as many bytes as announced")
	// ErrDigest: the bytes have another MD5 than announced.
	ErrDigest = errors.New("the bytes have another MD5 than announced")
	// ErrPart: a part to complete an upload with is missing, or another one.
	ErrPart = errors.New("no such part")
)

// Limits bound a Store. Zero stands for no limit.
type Limits struct {
	MaxObject int64 // bytes of one object
	Quota     int64 // bytes of all objects and parts
}

// Store is a directory with objects. Only one process can have it open.
type Store struct {
	root    *os.Root
	db      *bbolt.DB
	commits committer
	limits  Limits

	// What tests of failures replace.
	now    func() time.Time
	writer func(*os.File) io.Writer
	sync   func(*os.File) error

	// gate is held for reading from when an object is looked up until it is
	// pinned.
	gate sync.RWMutex

	mu   sync.Mutex // may be taken with gate held
	used int64      // bytes of all blobs that count for the quota, those being written included
	pins map[string]*pin
}

// the buckets of the index
var (
	objectsBucket = []byte("objects") // key → Object
	uploadsBucket = []byte("uploads") // key, 0, upload id → Upload
	partsBucket   = []byte("parts")   // upload id, 0, number → Part
)

// The directories.
const (
	blobDir   = "blobs"
	indexFile = "index.db"
)

// Open opens the store in the directory, which it makes if it is missing, and
// removes what a crash has left behind. It returns ErrInUse if another process
// has it open, after a second.
func Open(dir string, limits Limits) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		root: root, limits: limits, pins: map[string]*pin{}, now: time.Now, sync: (*os.File).Sync,
		writer: func(file *os.File) io.Writer { return file },
	}
	if err := s.open(); err != nil {
		root.Close()
		return nil, fmt.Errorf("opening the store in %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) open() error {
	if err := s.root.Mkdir(blobDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	db, err := bbolt.Open(indexFile, 0o600, &bbolt.Options{
		Timeout: time.Second,
		// The list of free pages is not written at each commit, but found again
		// when the index is opened: that reads it anyhow, for the orphans. No
		// crash can harm what is not on the disk. Hash maps are for finding room
		// fast in an index that has become large and empty again. etcd has run
		// with both for years.
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			return s.root.OpenFile(name, flag, mode)
		},
	})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return ErrInUse
	}
	if err != nil {
		return err
	}
	s.db = db
	s.commits.db, s.commits.syncDir = db, s.syncBlobDir
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{objectsBucket, uploadsBucket, partsBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = s.syncDir(".") // of what use is an index that is durable under no name
	}
	if err == nil {
		err = s.removeOrphans()
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	return nil
}

// Close closes the store. Objects that are being read can be read to the end of
// the file that is open, which is the end but for objects of several parts.
func (s *Store) Close() error { return errors.Join(s.db.Close(), s.root.Close()) }

// Used returns how many bytes count for the quota.
func (s *Store) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// reserve counts n more bytes, which may be negative, or returns ErrQuota.
func (s *Store) reserve(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > 0 && s.limits.Quota > 0 && s.used+n > s.limits.Quota {
		return ErrQuota
	}
	s.used += n
	return nil
}

// removeOrphans deletes the blobs that nothing in the index points to, and
// counts the others.
func (s *Store) removeOrphans() error {
	known := map[string]int64{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		err := tx.Bucket(objectsBucket).ForEach(func(_, v []byte) error {
			var o Object
			if err := json.Unmarshal(v, &o); err != nil {
				return err
			}
			for _, b := range o.Blobs {
				known[b.Name] = b.Size
			}
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Bucket(partsBucket).ForEach(func(_, v []byte) error {
			var p Part
			if err := json.Unmarshal(v, &p); err != nil {
				return err
			}
			known[p.Blob.Name] = p.Blob.Size
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("the index is damaged: %w", err)
	}
	dir, err := s.root.Open(blobDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := known[name]; !ok {
			if err := s.root.Remove(blobDir + "/" + name); err != nil {
				return err
			}
		}
	}
	for _, size := range known {
		s.used += size
	}
	return nil
}

func get(b *bbolt.Bucket, key []byte, v any) error {
	data := b.Get(key)
	if data == nil {
		return ErrNotFound
	}
	return json.Unmarshal(data, v)
}

func put(b *bbolt.Bucket, key []byte, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put(key, data)
}

package objects

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// Object is what is known of an object.
type Object struct {
	Key      string
	Size     int64
	ETag     string // upper-case MD5, or HEX-N after N parts; without quotes
	CRC      uint64 // CRC64 with the ECMA polynomial
	Modified time.Time
	Header   map[string]string // what the sender wants to be given with it, by names in lower case
	Blobs    []Blob
}

// PutOptions are about a new object.
type PutOptions struct {
	Expect
	Header    map[string]string
	MustBeNew bool // ErrExists if there is one
}

// Put stores the bytes of r under the key. If it returns an error, the object
// that was there before is untouched: ErrExists, ErrTooLarge, ErrQuota, ErrShort,
// ErrDigest, the error of r, of the context, or of the file system.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, opts PutOptions) (Object, error) {
	if opts.MustBeNew {
		if _, err := s.Stat(key); err == nil {
			return Object{}, ErrExists // before taking all the bytes
		}
	}
	blob, d, err := s.writeBlob(ctx, r, opts.Expect)
	if err != nil {
		return Object{}, err
	}
	o := Object{
		Key: key, Size: d.Size, ETag: strings.ToUpper(hex.EncodeToString(d.MD5[:])), CRC: d.CRC,
		Header: opts.Header, Blobs: []Blob{blob},
	}
	if err := s.replace(&o, opts.MustBeNew, nil); err != nil {
		s.removeBlobs(o.Blobs)
		return Object{}, err
	}
	return o, nil
}

// replace makes the key point to the object, and then deletes what it pointed
// to before. The function also, if not nil, runs in the same transaction.
func (s *Store) replace(o *Object, mustBeNew bool, also func(*bbolt.Tx) error) error {
	o.Modified = s.now().UTC().Truncate(time.Second)
	var old Object
	// Batch joins the transactions of concurrent puts, each of which costs a
	// sync.
	err := s.db.Batch(func(tx *bbolt.Tx) error {
		old = Object{}
		b := tx.Bucket(objectsBucket)
		err := get(b, []byte(o.Key), &old)
		switch {
		case err == nil && mustBeNew:
			return ErrExists
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		}
		if also != nil {
			if err := also(tx); err != nil {
				return err
			}
		}
		return put(b, []byte(o.Key), o)
	})
	if err == nil {
		s.removeBlobs(old.Blobs)
	}
	return err
}

// Stat returns what is known of the object, or ErrNotFound.
func (s *Store) Stat(key string) (o Object, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error { return get(tx.Bucket(objectsBucket), []byte(key), &o) })
	return o, err
}

// Open opens the object for reading, or returns ErrNotFound. The bytes stay
// those of this object, whatever happens to the key meanwhile.
func (s *Store) Open(key string) (*Reader, error) {
	for {
		o, err := s.Stat(key)
		if err != nil {
			return nil, err
		}
		files, err := s.openBlobs(o.Blobs)
		if errors.Is(err, errReplaced) {
			if now, statErr := s.Stat(key); statErr == nil && now.Blobs[0] == o.Blobs[0] {
				return nil, errors.New("a file of the object is missing")
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		return &Reader{Object: o, files: files}, nil
	}
}

// Reader reads an object. It must be closed.
type Reader struct {
	Object
	files []*os.File
}

// WriteRange writes length bytes from offset on to w. The files are given to w
// as they are, so that a socket can take them by sendfile.
func (r *Reader) WriteRange(w io.Writer, offset, length int64) error {
	for i, file := range r.files {
		size := r.Blobs[i].Size
		if offset >= size {
			offset -= size
			continue
		}
		n := min(length, size-offset)
		if _, err := file.Seek(offset, io.SeekStart); err != nil {
			return err
		}
		copied, err := io.Copy(w, io.LimitReader(file, n))
		if err != nil {
			return err
		}
		if copied < n {
			return io.ErrUnexpectedEOF
		}
		if length -= n; length == 0 {
			return nil
		}
		offset = 0
	}
	if length > 0 {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// Close closes the files.
func (r *Reader) Close() error {
	var errs []error
	for _, file := range r.files {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// Delete deletes the object, and returns ErrNotFound if there is none.
func (s *Store) Delete(key string) error {
	var old Object
	err := s.db.Batch(func(tx *bbolt.Tx) error {
		old = Object{}
		b := tx.Bucket(objectsBucket)
		if err := get(b, []byte(key), &old); err != nil {
			return err
		}
		return b.Delete([]byte(key))
	})
	if err == nil {
		s.removeBlobs(old.Blobs)
	}
	return err
}

// ExpireObjects deletes the objects that were put before the time, and returns
// how many.
func (s *Store) ExpireObjects(before time.Time) (int, error) {
	var blobs []Blob
	n := 0
	err := s.db.Update(func(tx *bbolt.Tx) error {
		blobs, n = nil, 0
		c := tx.Bucket(objectsBucket).Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			var o Object
			if err := json.Unmarshal(v, &o); err != nil {
				return err
			}
			if !o.Modified.Before(before) {
				continue
			}
			blobs = append(blobs, o.Blobs...)
			n++
			if err := c.Delete(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	s.removeBlobs(blobs)
	return n, nil
}

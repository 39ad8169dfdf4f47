package objects

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"slices"
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
	Upload   string            `json:",omitempty"` // id of the upload that it was
	Blobs    []Blob
}

// PutOptions are about a new object.
type PutOptions struct {
	Expect
	Header    map[string]string
	MustBeNew bool // ErrExists if there is one
}

// Put stores the bytes of r under the key. When it returns no error they are
// durable, as far as the file system can make them so. If it returns ErrExists,
// ErrTooLarge, ErrQuota, ErrShort, ErrDigest, or the error of r or of the
// context, which is asked only while bytes come, the object that was there
// before is untouched. After another error, which is the file system's or the
// index's, that one or the new one is there, whole, but the new one may be gone
// after a crash; the one that it has replaced then takes up room, also of the
// quota, until the store is opened again.
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
	if err := s.replace(ctx, &o, opts.MustBeNew, nil); err != nil {
		if !mayHaveCommitted(err) || !s.hasObject(o) {
			s.removeBlobs(o.Blobs)
		}
		return Object{}, err
	}
	return o, nil
}

// hasObject reports whether the index points to the very object.
func (s *Store) hasObject(o Object) bool {
	now, err := s.Stat(o.Key)
	return err == nil && now.Blobs[0] == o.Blobs[0]
}

// replace makes the key point to the object, and then deletes what it pointed
// to before. The function also, if not nil, runs in the same transaction.
func (s *Store) replace(ctx context.Context, o *Object, mustBeNew bool, also func(*bbolt.Tx) error) error {
	o.Modified = s.now().UTC().Truncate(time.Second)
	value, err := json.Marshal(o)
	if err != nil {
		return err
	}
	var old []Blob
	err = s.commits.update(true, func(tx *bbolt.Tx) error {
		// Who has given up may have deleted the object already.
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := tx.Bucket(objectsBucket)
		var before Object
		err := get(b, []byte(o.Key), &before)
		switch {
		case err == nil && mustBeNew:
			return ErrExists
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		}
		old = before.Blobs
		if also != nil {
			if err := also(tx); err != nil {
				return err
			}
		}
		return b.Put([]byte(o.Key), value)
	})
	if err == nil {
		s.removeBlobs(old)
	}
	return err
}

// Stat returns what is known of the object, or ErrNotFound.
func (s *Store) Stat(key string) (o Object, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error { return get(tx.Bucket(objectsBucket), []byte(key), &o) })
	return o, err
}

// Delete deletes the objects of the keys, or returns ErrNotFound if there is none
// of them.
func (s *Store) Delete(keys ...string) error {
	_, err := s.deleteIf(keys, func(Object) bool { return true })
	return err
}

// deleteIf deletes those objects of the keys for which doomed says so, and
// returns how many, or ErrNotFound.
func (s *Store) deleteIf(keys []string, doomed func(Object) bool) (int, error) {
	// In a transaction it would undo what others do in the same one.
	if !s.hasAny(keys) {
		return 0, ErrNotFound
	}
	var old [][]Blob
	err := s.commits.update(false, func(tx *bbolt.Tx) error {
		old = nil
		b := tx.Bucket(objectsBucket)
		for _, key := range keys {
			var o Object
			err := get(b, []byte(key), &o)
			if errors.Is(err, ErrNotFound) || err == nil && !doomed(o) {
				continue
			}
			if err == nil {
				err = b.Delete([]byte(key))
			}
			if err != nil {
				return err
			}
			old = append(old, o.Blobs)
		}
		if len(old) == 0 {
			return ErrNotFound // and no commit for nothing
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, blobs := range old {
		s.removeBlobs(blobs)
	}
	return len(old), nil
}

func (s *Store) hasAny(keys []string) (found bool) {
	_ = s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(objectsBucket)
		found = slices.ContainsFunc(keys, func(key string) bool { return b.Get([]byte(key)) != nil })
		return nil
	})
	return found
}

// expireStep is how many objects are expired by one transaction, for puts not to
// wait long.
const expireStep = 500

// ExpireObjects deletes the objects that were put before the time, and returns
// how many.
func (s *Store) ExpireObjects(before time.Time) (int, error) {
	expired := 0
	for after := ""; ; {
		keys, next, err := s.olderThan(before, after)
		if err != nil || len(keys) == 0 {
			return expired, err
		}
		// They may have been put again meanwhile.
		n, err := s.deleteIf(keys, func(o Object) bool { return o.Modified.Before(before) })
		expired += n
		if err != nil && !errors.Is(err, ErrNotFound) {
			return expired, err
		}
		after = next
	}
}

// olderThan returns some of the keys of objects that were put before the time,
// and the last key that was looked at.
func (s *Store) olderThan(before time.Time, after string) (keys []string, last string, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(objectsBucket).Cursor()
		k, v := c.Seek([]byte(after))
		for ; k != nil && len(keys) < expireStep; k, v = c.Next() {
			if after != "" && string(k) == after {
				continue
			}
			o, err := withoutBlobs(v)
			if err != nil {
				return err
			}
			if o.Modified.Before(before) {
				keys = append(keys, o.Key)
			}
			last = string(k)
		}
		return nil
	})
	return keys, last, err
}

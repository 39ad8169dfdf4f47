package objects

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// MaxPart is the highest number of a part.
const MaxPart = 10_000

// Upload is an object that comes in parts.
type Upload struct {
	Key       string
	ID        string
	Initiated time.Time
	Header    map[string]string
}

// Part is a part of an upload.
type Part struct {
	Number   int
	ETag     string // upper-case MD5, without quotes
	CRC      uint64
	Modified time.Time
	Blob     Blob
}

func uploadKey(key, id string) []byte { return []byte(key + "\x00" + id) }

func partKey(id string, number int) []byte {
	return binary.BigEndian.AppendUint16([]byte(id+"\x00"), uint16(number))
}

// Initiate begins an upload.
func (s *Store) Initiate(key string, header map[string]string) (Upload, error) {
	u := Upload{Key: key, ID: strings.ToUpper(newName()), Initiated: s.now().UTC().Truncate(time.Second), Header: header}
	return u, s.db.Update(func(tx *bbolt.Tx) error { return put(tx.Bucket(uploadsBucket), uploadKey(key, u.ID), u) })
}

// PutPart stores a part, in the place of an earlier one of the number. The errors
// are those of Put, and ErrNotFound for an upload that is none, and ErrPart for
// an impossible number.
func (s *Store) PutPart(ctx context.Context, key, id string, number int, r io.Reader, want Expect) (Part, error) {
	if number < 1 || number > MaxPart {
		return Part{}, ErrPart
	}
	if _, err := s.upload(key, id); err != nil {
		return Part{}, err
	}
	blob, d, err := s.writeBlob(ctx, r, want)
	if err != nil {
		return Part{}, err
	}
	p := Part{Number: number, ETag: strings.ToUpper(hex.EncodeToString(d.MD5[:])), CRC: d.CRC, Modified: s.now().UTC().Truncate(time.Second), Blob: blob}
	var old Part
	err = s.db.Batch(func(tx *bbolt.Tx) error {
		old = Part{}
		// It may have been completed or aborted meanwhile.
		if err := get(tx.Bucket(uploadsBucket), uploadKey(key, id), new(Upload)); err != nil {
			return err
		}
		b := tx.Bucket(partsBucket)
		_ = get(b, partKey(id, number), &old)
		return put(b, partKey(id, number), p)
	})
	if err != nil {
		s.removeBlobs([]Blob{blob})
		return Part{}, err
	}
	if old.Blob.Name != "" {
		s.removeBlobs([]Blob{old.Blob})
	}
	return p, nil
}

func (s *Store) upload(key, id string) (u Upload, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error { return get(tx.Bucket(uploadsBucket), uploadKey(key, id), &u) })
	return u, err
}

// Parts returns the parts of an upload so far, by number, or ErrNotFound.
func (s *Store) Parts(key, id string) (parts []Part, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if err := get(tx.Bucket(uploadsBucket), uploadKey(key, id), new(Upload)); err != nil {
			return err
		}
		parts, err = partsOf(tx, id)
		return err
	})
	return parts, err
}

func partsOf(tx *bbolt.Tx, id string) (parts []Part, err error) {
	c := tx.Bucket(partsBucket).Cursor()
	prefix := []byte(id + "\x00")
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		var p Part
		if err := json.Unmarshal(v, &p); err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// CompletePart names a part by its number and ETag.
type CompletePart struct {
	Number int
	ETag   string // as in Part; letters of either case
}

// Complete makes an object of the parts of an upload, in the order given, which
// must be that of their numbers; parts that are not given are deleted. No byte
// is copied. The errors are ErrNotFound, and ErrPart for a part that is not
// there, has another ETag, or is out of order, and for none at all.
func (s *Store) Complete(key, id string, wanted []CompletePart) (Object, error) {
	u, err := s.upload(key, id)
	if err != nil {
		return Object{}, err
	}
	parts, err := s.Parts(key, id)
	if err != nil {
		return Object{}, err
	}
	o := Object{Key: key, Header: u.Header}
	unused := map[string]Blob{}
	byNumber := map[int]Part{}
	for _, p := range parts {
		byNumber[p.Number] = p
		unused[p.Blob.Name] = p.Blob
	}
	digests := md5.New()
	last := 0
	for _, w := range wanted {
		p, ok := byNumber[w.Number]
		if !ok || !strings.EqualFold(p.ETag, w.ETag) || w.Number <= last {
			return Object{}, fmt.Errorf("%w: %d", ErrPart, w.Number)
		}
		last = w.Number
		sum, err := hex.DecodeString(p.ETag)
		if err != nil {
			return Object{}, err
		}
		digests.Write(sum)
		o.CRC = combineCRC(o.CRC, p.CRC, p.Blob.Size)
		o.Size += p.Blob.Size
		o.Blobs = append(o.Blobs, p.Blob)
		delete(unused, p.Blob.Name)
	}
	if len(wanted) == 0 {
		return Object{}, fmt.Errorf("%w: none is given", ErrPart)
	}
	if s.limits.MaxObject > 0 && o.Size > s.limits.MaxObject {
		return Object{}, ErrTooLarge
	}
	o.ETag = fmt.Sprintf("%X-%d", digests.Sum(nil), len(wanted))
	err = s.replace(&o, false, func(tx *bbolt.Tx) error {
		now, err := partsOf(tx, id)
		if err != nil {
			return err
		}
		// A part that was put meanwhile has taken the place of one that is used.
		if len(now) != len(parts) {
			return ErrPart
		}
		for i := range now {
			if now[i].Blob != parts[i].Blob {
				return ErrPart
			}
		}
		return removeUpload(tx, key, id)
	})
	if err != nil {
		return Object{}, err
	}
	for _, b := range unused {
		s.removeBlobs([]Blob{b})
	}
	return o, nil
}

func removeUpload(tx *bbolt.Tx, key, id string) error {
	uploads := tx.Bucket(uploadsBucket)
	if uploads.Get(uploadKey(key, id)) == nil {
		return ErrNotFound
	}
	parts, err := partsOf(tx, id)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := tx.Bucket(partsBucket).Delete(partKey(id, p.Number)); err != nil {
			return err
		}
	}
	return uploads.Delete(uploadKey(key, id))
}

// Abort ends an upload and deletes its parts, or returns ErrNotFound.
func (s *Store) Abort(key, id string) error {
	var parts []Part
	err := s.db.Batch(func(tx *bbolt.Tx) (err error) {
		if parts, err = partsOf(tx, id); err != nil {
			return err
		}
		return removeUpload(tx, key, id)
	})
	if err != nil {
		return err
	}
	for _, p := range parts {
		s.removeBlobs([]Blob{p.Blob})
	}
	return nil
}

// Uploads returns the uploads under way whose keys begin with the prefix, by
// key and id.
func (s *Store) Uploads(prefix string) (uploads []Upload, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(uploadsBucket).Cursor()
		for k, v := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			var u Upload
			if err := json.Unmarshal(v, &u); err != nil {
				return err
			}
			uploads = append(uploads, u)
		}
		return nil
	})
	return uploads, err
}

// ExpireUploads aborts the uploads that were begun before the time, and returns
// how many.
func (s *Store) ExpireUploads(before time.Time) (int, error) {
	uploads, err := s.Uploads("")
	n := 0
	for _, u := range uploads {
		if err == nil && u.Initiated.Before(before) {
			if err = s.Abort(u.Key, u.ID); err == nil {
				n++
			}
		}
	}
	return n, err
}

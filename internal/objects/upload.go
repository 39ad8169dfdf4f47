package objects

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/crosscomm/crosscomm-go/internal/partetag"

	"github.com/crosscomm/crosscomm-go/internal/checksum"
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
	ETag     string // upper-case MD5, or by partetag.Of; without quotes
	CRC      uint64
	Modified time.Time
	Blob     Blob
}

func uploadKey(key, id string) []byte { return []byte(key + "\x00" + id) }

func partKey(id string, number int) []byte {
	return binary.BigEndian.AppendUint16([]byte(id+"\x00"), uint16(number))
}

// Initiate begins an upload, unless ctx has ended.
func (s *Store) Initiate(ctx context.Context, key string, header map[string]string) (Upload, error) {
	u := Upload{Key: key, ID: strings.ToUpper(newName()), Initiated: s.now().UTC().Truncate(time.Second), Header: header}
	return u, s.commits.update(false, func(tx *bbolt.Tx) error {
		if ctx.Err() != nil {
			return context.Cause(ctx) // nobody would know the upload's id
		}
		return put(tx.Bucket(uploadsBucket), uploadKey(key, u.ID), u)
	})
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
	etag := strings.ToUpper(hex.EncodeToString(d.MD5[:]))
	if want.NoMD5 {
		etag = partetag.Of(d.CRC, d.Size)
	}
	p := Part{Number: number, ETag: etag, CRC: d.CRC, Modified: s.now().UTC().Truncate(time.Second), Blob: blob}
	var old Part
	err = s.commits.update(true, func(tx *bbolt.Tx) error {
		old = Part{}
		// It may have been completed or aborted meanwhile.
		if tx.Bucket(uploadsBucket).Get(uploadKey(key, id)) == nil {
			return ErrNotFound
		}
		b := tx.Bucket(partsBucket)
		if err := get(b, partKey(id, number), &old); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return put(b, partKey(id, number), p)
	})
	if err != nil {
		if !mayHaveCommitted(err) || !s.hasPart(id, p) {
			s.removeBlobs([]Blob{blob})
		}
		return Part{}, err
	}
	if old.Blob.Name != "" {
		s.removeBlobs([]Blob{old.Blob})
	}
	return p, nil
}

// hasPart reports whether the index points to the very part.
func (s *Store) hasPart(id string, p Part) bool {
	var now Part
	err := s.db.View(func(tx *bbolt.Tx) error { return get(tx.Bucket(partsBucket), partKey(id, p.Number), &now) })
	return err == nil && now.Blob == p.Blob
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
// is copied. To complete an upload again, as a client does that has not got the
// answer, gives the same object while the key points to it. The errors are
// ErrNotFound, that of ctx, and ErrPart for a part that is not there, has another
// ETag, or is out of order, for none at all, and if a part is put meanwhile.
func (s *Store) Complete(ctx context.Context, key, id string, wanted []CompletePart) (Object, error) {
	u, err := s.upload(key, id)
	if errors.Is(err, ErrNotFound) {
		return s.completed(key, id, wanted)
	}
	if err != nil {
		return Object{}, err
	}
	parts, err := s.Parts(key, id)
	if err != nil {
		return Object{}, err
	}
	o := Object{Key: key, Header: u.Header, Upload: id}
	unused, err := o.assemble(parts, wanted)
	if err != nil {
		return Object{}, err
	}
	if s.limits.MaxObject > 0 && o.Size > s.limits.MaxObject {
		return Object{}, ErrTooLarge
	}
	err = s.replace(ctx, &o, false, func(tx *bbolt.Tx) error {
		if tx.Bucket(uploadsBucket).Get(uploadKey(key, id)) == nil {
			return ErrNotFound
		}
		now, err := partsOf(tx, id)
		if err != nil {
			return err
		}
		// A part that was put meanwhile has taken the place of one that is used.
		if !slices.EqualFunc(now, parts, func(a, b Part) bool { return a.Blob == b.Blob }) {
			return ErrPart
		}
		return removeUpload(tx, key, id)
	})
	if errors.Is(err, ErrNotFound) {
		return s.completed(key, id, wanted) // by another one, meanwhile
	}
	if err != nil {
		return Object{}, err
	}
	for _, b := range unused {
		s.removeBlobs([]Blob{b})
	}
	return o, nil
}

// assemble gives the object the wanted parts, and returns the blobs of the
// others.
func (o *Object) assemble(parts []Part, wanted []CompletePart) (unused []Blob, err error) {
	byNumber := map[int]Part{}
	for _, p := range parts {
		byNumber[p.Number] = p
	}
	last := 0
	for _, w := range wanted {
		p, ok := byNumber[w.Number]
		if !ok || !strings.EqualFold(p.ETag, w.ETag) || w.Number <= last {
			return nil, fmt.Errorf("%w: %d", ErrPart, w.Number)
		}
		last = w.Number
		o.CRC = checksum.Combine(o.CRC, p.CRC, p.Blob.Size)
		o.Size += p.Blob.Size
		o.Blobs = append(o.Blobs, p.Blob)
		delete(byNumber, w.Number)
	}
	for _, p := range byNumber {
		unused = append(unused, p.Blob)
	}
	o.ETag, err = uploadETag(wanted)
	return unused, err
}

// uploadETag is the ETag of an object of the parts.
func uploadETag(parts []CompletePart) (string, error) {
	if len(parts) == 0 {
		return "", fmt.Errorf("%w: none is given", ErrPart)
	}
	digests := md5.New()
	for _, p := range parts {
		sum, err := hex.DecodeString(p.ETag)
		if err != nil {
			return "", fmt.Errorf("%w: %d", ErrPart, p.Number)
		}
		digests.Write(sum)
	}
	return fmt.Sprintf("%X-%d", digests.Sum(nil), len(parts)), nil
}

// completed returns the object that the upload has become with these very
// parts, or ErrNotFound.
func (s *Store) completed(key, id string, parts []CompletePart) (Object, error) {
	o, err := s.Stat(key)
	if err != nil {
		return Object{}, err
	}
	if etag, err := uploadETag(parts); err != nil || o.Upload != id || o.ETag != etag {
		return Object{}, ErrNotFound
	}
	return o, nil
}

func removeUpload(tx *bbolt.Tx, key, id string) error {
	var keys [][]byte
	b := tx.Bucket(partsBucket)
	c := b.Cursor()
	prefix := []byte(id + "\x00")
	for k, _ := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		keys = append(keys, k)
	}
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return tx.Bucket(uploadsBucket).Delete(uploadKey(key, id))
}

// Abort ends an upload and deletes its parts, or returns ErrNotFound.
func (s *Store) Abort(key, id string) error {
	var parts []Part
	err := s.commits.update(false, func(tx *bbolt.Tx) (err error) {
		if tx.Bucket(uploadsBucket).Get(uploadKey(key, id)) == nil {
			return ErrNotFound
		}
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

// UploadsOptions say which uploads to list: those whose keys begin with Prefix,
// after that with the key and id, if AfterKey is not "". Max bounds them.
type UploadsOptions struct {
	Prefix            string
	AfterKey, AfterID string
	Max               int
}

// Uploads returns uploads under way, by key and id, and whether there are more.
func (s *Store) Uploads(opts UploadsOptions) (uploads []Upload, truncated bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(uploadsBucket).Cursor()
		prefix, after := []byte(opts.Prefix), uploadKey(opts.AfterKey, opts.AfterID)
		if opts.AfterKey == "" {
			after = nil
		}
		start := prefix
		if bytes.Compare(after, prefix) > 0 {
			start = after
		}
		for k, v := c.Seek(start); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			if after != nil && bytes.Compare(k, after) <= 0 {
				continue
			}
			if len(uploads) >= opts.Max {
				truncated = true
				return nil
			}
			var u Upload
			if err := json.Unmarshal(v, &u); err != nil {
				return err
			}
			uploads = append(uploads, u)
		}
		return nil
	})
	return uploads, truncated, err
}

// ExpireUploads aborts the uploads that were begun before the time, and returns
// how many.
func (s *Store) ExpireUploads(before time.Time) (int, error) {
	opts := UploadsOptions{Max: expireStep}
	n := 0
	for {
		uploads, truncated, err := s.Uploads(opts)
		if err != nil {
			return n, err
		}
		for _, u := range uploads {
			opts.AfterKey, opts.AfterID = u.Key, u.ID
			if !u.Initiated.Before(before) {
				continue
			}
			err := s.Abort(u.Key, u.ID)
			if errors.Is(err, ErrNotFound) {
				continue // it was completed or aborted meanwhile
			}
			if err != nil {
				return n, err
			}
			n++
		}
		if !truncated {
			return n, nil
		}
	}
}

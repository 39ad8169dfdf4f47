package objects

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"hash/crc64"
	"io"
	"io/fs"
	"os"
)

// Blob is a file with bytes of an object.
type Blob struct {
	Name string
	Size int64
}

// Digest is what is known of bytes that were written.
type Digest struct {
	Size int64
	MD5  [md5.Size]byte
	CRC  uint64 // CRC64 with the ECMA polynomial
}

// Expect is what a sender has announced of the bytes.
type Expect struct {
	Size int64 // -1 if it is not known
	MD5  *[md5.Size]byte
}

var ecma = crc64.MakeTable(crc64.ECMA)

// writeBlob writes the bytes of r to a new file and makes them durable. The
// bytes are counted for the quota while they are written; if it fails they are
// not, and there is no file.
func (s *Store) writeBlob(ctx context.Context, r io.Reader, want Expect) (_ Blob, d Digest, err error) {
	if want.Size > 0 && s.limits.MaxObject > 0 && want.Size > s.limits.MaxObject {
		return Blob{}, d, ErrTooLarge
	}
	blob := Blob{Name: newName()}
	file, err := s.root.OpenFile(blobDir+"/"+blob.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Blob{}, d, err
	}
	defer func() {
		err = errors.Join(err, file.Close())
		if err != nil {
			s.removeBlobs([]Blob{blob})
			blob = Blob{}
		}
	}()
	digest, check := md5.New(), crc64.New(ecma)
	w := io.MultiWriter(file, digest, check)
	buf := make([]byte, 128<<10)
	for {
		if err := ctx.Err(); err != nil {
			return blob, d, context.Cause(ctx)
		}
		n, readErr := r.Read(buf)
		if n > 0 {
			if s.limits.MaxObject > 0 && blob.Size+int64(n) > s.limits.MaxObject {
				return blob, d, ErrTooLarge
			}
			if want.Size >= 0 && blob.Size+int64(n) > want.Size {
				return blob, d, ErrShort
			}
			if err := s.reserve(int64(n)); err != nil {
				return blob, d, err
			}
			blob.Size += int64(n)
			if _, err := w.Write(buf[:n]); err != nil {
				return blob, d, err
			}
		}
		if errors.Is(readErr, io.EOF) {
			break
		}
		if readErr != nil {
			return blob, d, readErr
		}
	}
	d.Size, d.CRC = blob.Size, check.Sum64()
	digest.Sum(d.MD5[:0])
	switch {
	case want.Size >= 0 && d.Size != want.Size:
		return blob, d, ErrShort
	case want.MD5 != nil && *want.MD5 != d.MD5:
		return blob, d, ErrDigest
	}
	if err := file.Sync(); err != nil {
		return blob, d, err
	}
	return blob, d, s.syncBlobDir()
}

// syncBlobDir makes new names durable. Not every system can.
func (s *Store) syncBlobDir() error {
	dir, err := s.root.Open(blobDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	_ = dir.Sync()
	return nil
}

// removeBlobs deletes files that nothing points to any more, and gives back
// their part of the quota. A file that cannot be deleted now, since Windows
// does not delete what is being read, is an orphan at the next start.
func (s *Store) removeBlobs(blobs []Blob) {
	for _, b := range blobs {
		_ = s.root.Remove(blobDir + "/" + b.Name)
		_ = s.reserve(-b.Size)
	}
}

func (s *Store) openBlobs(blobs []Blob) (files []*os.File, err error) {
	for _, b := range blobs {
		file, err := s.root.Open(blobDir + "/" + b.Name)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			if errors.Is(err, fs.ErrNotExist) {
				err = errReplaced
			}
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// errReplaced tells that an object was replaced between looking it up and
// opening it.
var errReplaced = errors.New("replaced meanwhile")

func newName() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

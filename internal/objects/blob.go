package objects

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"

	"github.com/crosscomm/crosscomm-go/internal/checksum"
	"github.com/crosscomm/crosscomm-go/internal/pipeline"
)

// Blob is a file with bytes of an object.
type Blob struct {
	Name string
	Size int64
}

// Digest is what is known of bytes that were written.
type Digest struct {
	Size int64
	MD5  [md5.Size]byte // zero with Expect.NoMD5
	CRC  uint64         // CRC64 with the ECMA polynomial
}

// Expect is what a sender has announced of the bytes.
type Expect struct {
	Size int64 // -1 if it is not known
	MD5  *[md5.Size]byte
	// NoMD5 has the MD5 not computed, which takes longer than all the rest. It
	// is not for bytes with an MD5 to compare.
	NoMD5 bool
}

// verify compares what has come with what was announced.
func (want Expect) verify(d Digest) error {
	switch {
	case want.Size >= 0 && d.Size != want.Size:
		return ErrShort
	case want.MD5 != nil && *want.MD5 != d.MD5:
		return ErrDigest
	}
	return nil
}

// writeBlob writes the bytes of r to a new file and makes them durable, but not
// the file's name: that is the committer's part. The bytes are counted for the
// quota while they are written; if it fails they are not, and there is no file.
func (s *Store) writeBlob(ctx context.Context, r io.Reader, want Expect) (_ Blob, d Digest, err error) {
	if err := s.checkSize(want.Size); err != nil {
		return Blob{}, d, err // before taking all the bytes
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
	if d, err = s.receive(ctx, r, s.writer(file), want, &blob); err != nil {
		return blob, d, err
	}
	if err := want.verify(d); err != nil {
		return blob, d, err
	}
	return blob, d, s.sync(file)
}

// checkSize refuses what cannot be stored for its announced size.
func (s *Store) checkSize(size int64) error {
	if s.limits.MaxObject > 0 && size > s.limits.MaxObject {
		return ErrTooLarge
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if size > 0 && s.limits.Quota > 0 && size > s.limits.Quota-s.used {
		return ErrQuota
	}
	return nil
}

// receive copies r to the file, and keeps count in blob. The MD5, which is
// slower than all else that is done to the bytes, is computed beside.
func (s *Store) receive(ctx context.Context, r io.Reader, file io.Writer, want Expect, blob *Blob) (d Digest, err error) {
	digest := md5.New()
	p := pipeline.New(func(b []byte) error {
		_, err := digest.Write(b)
		return err
	})
	defer p.Close()
	for end := false; !end; {
		buf := p.Buffer()
		var n int
		if n, end, err = pipeline.Fill(ctx, r, buf[:], func(int64) {}); err != nil {
			return d, err
		}
		size := blob.Size + int64(n)
		switch {
		case s.limits.MaxObject > 0 && size > s.limits.MaxObject:
			return d, ErrTooLarge
		case want.Size >= 0 && size > want.Size:
			return d, ErrShort
		}
		if err := s.reserve(int64(n)); err != nil {
			return d, err
		}
		blob.Size = size
		if !want.NoMD5 {
			p.Add(buf, n, end)
		}
		d.CRC = checksum.Update(d.CRC, buf[:n])
		if _, err := file.Write(buf[:n]); err != nil {
			return d, err
		}
		if want.NoMD5 {
			p.Return(buf)
		}
	}
	if err := p.Close(); err != nil {
		return d, err
	}
	d.Size = blob.Size
	if !want.NoMD5 {
		digest.Sum(d.MD5[:0])
	}
	return d, nil
}

// syncBlobDir makes the names of new blobs durable.
func (s *Store) syncBlobDir() error { return s.syncDir(blobDir) }

// syncDir makes the names in a directory durable. Windows has nothing for that,
// and some file systems neither.
func (s *Store) syncDir(name string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := s.root.Open(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

func newName() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

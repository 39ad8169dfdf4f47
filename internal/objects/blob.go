package objects

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"

	"github.com/crosscomm/crosscomm-go/internal/checksum"
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

const (
	// chunkSize is how much is read before it is written, and chunksPerPut how
	// many chunks a put may have in memory.
	chunkSize    = 256 << 10
	chunksPerPut = 3
)

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

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

// receive copies r to the file, and keeps count in blob.
func (s *Store) receive(ctx context.Context, r io.Reader, file io.Writer, want Expect, blob *Blob) (d Digest, err error) {
	sum := newMD5Sum(want.NoMD5)
	defer sum.close()
	for end := false; !end; {
		chunk := sum.buffer()
		var n int
		if n, end, err = fill(ctx, r, chunk[:]); err != nil {
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
		sum.add(chunk, n, end)
		d.CRC = checksum.Update(d.CRC, chunk[:n])
		if _, err := file.Write(chunk[:n]); err != nil {
			return d, err
		}
	}
	d.Size = blob.Size
	d.MD5 = sum.close()
	return d, nil
}

// fill reads until the chunk is full or r ends.
func fill(ctx context.Context, r io.Reader, chunk []byte) (n int, end bool, err error) {
	for n < len(chunk) {
		if ctx.Err() != nil {
			return n, false, context.Cause(ctx)
		}
		m, err := r.Read(chunk[n:])
		n += m
		if errors.Is(err, io.EOF) {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// md5Sum computes an MD5, which is slower than all else that is done to the
// bytes, in a goroutine beside it. What fits into one chunk has no goroutine.
type md5Sum struct {
	hash   hash.Hash
	made   []*[chunkSize]byte
	todo   chan piece // nil while there is no goroutine
	idle   chan *[chunkSize]byte
	ended  chan struct{}
	closed bool
	none   bool // there shall be no sum
}

type piece struct {
	chunk *[chunkSize]byte
	n     int
}

func newMD5Sum(none bool) *md5Sum {
	return &md5Sum{hash: md5.New(), none: none, idle: make(chan *[chunkSize]byte, chunksPerPut)}
}

// buffer returns a chunk that is not being summed up, and waits for one if
// there are enough.
func (m *md5Sum) buffer() *[chunkSize]byte {
	if m.none && len(m.made) > 0 {
		return m.made[0]
	}
	if len(m.made) == chunksPerPut {
		return <-m.idle
	}
	select {
	case chunk := <-m.idle:
		return chunk
	default:
	}
	chunk := chunks.Get().(*[chunkSize]byte)
	m.made = append(m.made, chunk)
	return chunk
}

// add sums up the n bytes in the chunk, which must stay as they are until
// buffer returns it again.
func (m *md5Sum) add(chunk *[chunkSize]byte, n int, last bool) {
	if m.none {
		return
	}
	if m.todo == nil {
		if last {
			m.hash.Write(chunk[:n])
			return
		}
		m.todo, m.ended = make(chan piece, chunksPerPut), make(chan struct{})
		go func() {
			defer close(m.ended)
			for p := range m.todo {
				m.hash.Write(p.chunk[:p.n])
				m.idle <- p.chunk
			}
		}()
	}
	m.todo <- piece{chunk, n}
}

// close ends the goroutine, and returns the sum of all that was added. It may be
// called again.
func (m *md5Sum) close() (sum [md5.Size]byte) {
	if !m.closed {
		m.closed = true
		if m.todo != nil {
			close(m.todo)
			<-m.ended
		}
		for _, chunk := range m.made {
			chunks.Put(chunk)
		}
	}
	if !m.none {
		m.hash.Sum(sum[:0])
	}
	return sum
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

package objects

import (
	"errors"
	"io"
	"os"
)

// Reader reads an object. It must be closed, and is for one goroutine. The bytes
// stay those of this object, whatever happens to the key meanwhile.
type Reader struct {
	Object
	store  *Store
	file   *os.File // of the blob with the number, or nil
	number int
	next   int64 // offset of the next Read
}

// Open opens the object for reading, or returns ErrNotFound.
func (s *Store) Open(key string) (*Reader, error) {
	o, err := s.pinned(key)
	if err != nil {
		return nil, err
	}
	r := &Reader{Object: o, store: s}
	// What is missing is to be known before anything is answered.
	if _, err := r.open(0); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// open returns the file of a blob. Only one is open at a time: an object may
// have 10,000.
func (r *Reader) open(number int) (*os.File, error) {
	if r.file != nil && r.number == number {
		return r.file, nil
	}
	if err := r.closeFile(); err != nil {
		return nil, err
	}
	file, err := r.store.root.Open(blobDir + "/" + r.Blobs[number].Name)
	if err != nil {
		return nil, err
	}
	r.file, r.number = file, number
	return file, nil
}

func (r *Reader) closeFile() error {
	if r.file == nil {
		return nil
	}
	file := r.file
	r.file = nil
	return file.Close()
}

// at returns the file of the blob with the offset, placed there, and how many
// bytes it has from there on.
func (r *Reader) at(offset int64) (file *os.File, rest int64, err error) {
	for i, b := range r.Blobs {
		if offset >= b.Size {
			offset -= b.Size
			continue
		}
		if file, err = r.open(i); err != nil {
			return nil, 0, err
		}
		_, err = file.Seek(offset, io.SeekStart)
		return file, b.Size - offset, err
	}
	return nil, 0, io.ErrUnexpectedEOF
}

// BlobError is an error of the store's own files: an object is damaged.
type BlobError struct{ Err error }

func (e *BlobError) Error() string { return "a blob of the object: " + e.Err.Error() }

// Unwrap returns the error of the file.
func (e *BlobError) Unwrap() error { return e.Err }

// WriteRange writes length bytes from offset on to w, and returns how many it
// has written. The files are given to w as they are, so that a socket can take
// them by sendfile. Its error is that of w, or a *BlobError.
func (r *Reader) WriteRange(w io.Writer, offset, length int64) (written int64, err error) {
	for written < length {
		file, rest, err := r.at(offset + written)
		if err != nil {
			return written, &BlobError{err}
		}
		n := min(length-written, rest)
		copied, err := io.Copy(w, io.LimitReader(file, n))
		written += copied
		if err != nil {
			return written, err
		}
		if copied < n {
			return written, &BlobError{io.ErrUnexpectedEOF}
		}
	}
	return written, nil
}

// Read implements io.Reader, from the first byte to the last.
func (r *Reader) Read(p []byte) (int, error) {
	if r.next >= r.Size {
		return 0, io.EOF
	}
	file, rest, err := r.at(r.next)
	if err != nil {
		return 0, err
	}
	n, err := file.Read(p[:min(int64(len(p)), rest)])
	r.next += int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close closes the object. What has taken its place in the index meanwhile stays
// as it is; the bytes of one that was replaced or deleted are removed when its
// last reader closes.
func (r *Reader) Close() error {
	err := r.closeFile()
	if r.store != nil {
		r.store.unpin(r.Blobs)
		r.store = nil
	}
	return err
}

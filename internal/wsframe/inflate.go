package wsframe

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"sync"
)

var (
	// ErrTooLarge is returned by AppendInflated if a message inflates to more than
	// it may.
	ErrTooLarge = errors.New("the message inflates to more than it may")
	// ErrMalformed is returned by AppendInflated if a message is not compressed as
	// RFC 7692 wants it.
	ErrMalformed = errors.New("the message cannot be inflated")
)

// endOfStream is what a compressed message leaves out, and then an empty last block:
// the stream must end there, and not within a block.
var endOfStream = []byte(FlushTail + "\x01\x00\x00\xff\xff")

// inflater inflates. It takes some 40 KB, so that nobody should have one for long.
type inflater struct {
	r     io.ReadCloser // a flate reader, which reads this
	in    []byte        // what it has not read yet
	ended bool          // whether that is of endOfStream
}

var inflaters = sync.Pool{New: func() any {
	i := new(inflater)
	i.r = flate.NewReader(i)
	return i
}}

// more reports whether there is something to read.
func (i *inflater) more() bool {
	if len(i.in) == 0 && !i.ended {
		i.in, i.ended = endOfStream, true
	}
	return len(i.in) > 0
}

// Read implements io.Reader for the flate reader.
func (i *inflater) Read(p []byte) (int, error) {
	if !i.more() {
		return 0, io.EOF
	}
	n := copy(p, i.in)
	i.in = i.in[n:]
	return n, nil
}

// ReadByte implements io.ByteReader for the flate reader, which then reads no more
// than it needs.
func (i *inflater) ReadByte() (byte, error) {
	if !i.more() {
		return 0, io.EOF
	}
	b := i.in[0]
	i.in = i.in[1:]
	return b, nil
}

// AppendInflated appends what the payload of a compressed message inflates to, which
// may be so many bytes at most. The room of b is used; if it is not enough, memory is
// taken that is twice as large, and again, but never more than one byte more than
// may be needed. The error wraps ErrTooLarge or ErrMalformed. It may be called
// concurrently.
func AppendInflated(b, payload []byte, most int) ([]byte, error) {
	i := inflaters.Get().(*inflater)
	defer inflaters.Put(i)
	i.in, i.ended = payload, false
	defer func() { i.in = nil }()
	if err := i.r.(flate.Resetter).Reset(i, nil); err != nil {
		return nil, err
	}
	begin := len(b)
	for {
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(max(2*cap(b), 512), begin+most+1))
			copy(grown, b)
			b = grown
		}
		n, err := i.r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b)-begin > most:
			return nil, ErrTooLarge
		case err == io.EOF && !i.ended && len(bytes.Trim(i.in, "\x00")) > 0:
			return nil, fmt.Errorf("%w: there is more behind its last block", ErrMalformed)
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
	}
}

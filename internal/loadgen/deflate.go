package loadgen

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// finalBlock is empty; it ends the stream, which no message does.
const finalBlock = "\x01\x00\x00\xff\xff"

// appendDeflated appends the frame of a text, compressed for itself, as the servers
// do it that know no other way.
func appendDeflated(b, text []byte) []byte {
	return wsframe.AppendUnmasked(b, wsframe.Deflated|wsframe.OpText, wsframe.AppendDeflated(nil, text))
}

// An inflater takes much: it is a connection's only while it is used.
type inflater struct {
	compressed []byte // with its end
	in         bytes.Reader
	r          io.ReadCloser
	out        bytes.Buffer
}

var inflaters = sync.Pool{New: func() any { return &inflater{r: flate.NewReader(nil)} }}

// inflate gives the text of a compressed message, which may have so many bytes
// at most, to the function, which must not keep it.
func inflate(payload []byte, most int, handle func(text []byte) error) error {
	i := inflaters.Get().(*inflater)
	defer inflaters.Put(i)
	i.compressed = append(append(i.compressed[:0], payload...), wsframe.FlushTail+finalBlock...)
	i.in.Reset(i.compressed)
	if err := i.r.(flate.Resetter).Reset(&i.in, nil); err != nil {
		return err
	}
	i.out.Reset()
	switch n, err := i.out.ReadFrom(io.LimitReader(i.r, int64(most)+1)); {
	case err != nil:
		return fmt.Errorf("%w: it cannot be inflated: %w", errChanged, err)
	case n > int64(most):
		return errors.New("a compressed message is larger than any that was sent")
	}
	return handle(i.out.Bytes())
}

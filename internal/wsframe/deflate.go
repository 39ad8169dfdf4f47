package wsframe

import (
	"compress/flate"
	"sync"
)

// deflater compresses. It takes more than a megabyte, so that nobody should have one
// for long.
type deflater struct {
	w   *flate.Writer
	out []byte
}

var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	d.w, _ = flate.NewWriter(d, flate.BestSpeed) // there is that level
	return d
}}

// Write implements io.Writer for the flate.Writer.
func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

// FlushTail is what each flush ends with, and a compressed message leaves out.
const FlushTail = "\x00\x00\xff\xff"

// AppendDeflated appends the payload of a compressed message: without what came
// before it (RFC 7692 7.1.1), so that it is the same for all receivers, and at the
// lowest level. It may be called concurrently.
func AppendDeflated(b, text []byte) []byte {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.out = b
	d.w.Reset(d)
	_, _ = d.w.Write(text) // it fails only if d does
	_ = d.w.Flush()
	b = d.out[:len(d.out)-len(FlushTail)]
	d.out = nil
	return b
}

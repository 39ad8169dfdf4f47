package link

import (
	"compress/flate"
	"sync"

	"github.com/gorilla/websocket"
)

// smallestDeflated is how large a text is at least that is compressed: smaller ones
// hardly get any smaller.
const smallestDeflated = 128

// deflater compresses texts, each without what came before (RFC 7692 7.1.1.1), so
// that a compressed frame is the same for all its receivers. It is how gorilla
// compresses, too, at the same level.
type deflater struct {
	w   *flate.Writer
	out []byte
}

var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	d.w, _ = flate.NewWriter(d, flate.BestSpeed) // the level is a valid one
	return d
}}

// Write implements io.Writer for the flate.Writer.
func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

// flushTail is what every flush ends with, and what a message leaves out (RFC 7692
// 7.2.1).
const flushTail = "\x00\x00\xff\xff"

// deflate returns a text compressed, in memory that nobody else has, or nil if that
// would not make it smaller.
func deflate(text []byte) []byte {
	if len(text) < smallestDeflated {
		return nil
	}
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.out = make([]byte, 0, len(text)/2)
	d.w.Reset(d)
	_, _ = d.w.Write(text) // it fails only if d does
	_ = d.w.Flush()
	out := d.out[:len(d.out)-len(flushTail)]
	d.out = nil
	if len(out) >= len(text) {
		return nil
	}
	return out
}

// deflatedFrame returns a server's frame of a text, or nil.
func deflatedFrame(text []byte) []byte {
	out := deflate(text)
	if out == nil {
		return nil
	}
	frame := make([]byte, 0, len(out)+maxHeader)
	return append(appendHeader(frame, deflated|websocket.TextMessage, len(out), 0), out...)
}

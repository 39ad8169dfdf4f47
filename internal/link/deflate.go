package link

import (
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// smallestDeflated is how large a text is at least that is compressed: smaller ones
// hardly get any smaller.
const smallestDeflated = 128

// deflate returns a text compressed, in memory that nobody else has, or nil if that
// would not make it smaller.
func deflate(text []byte) []byte {
	if len(text) < smallestDeflated {
		return nil
	}
	out := wsframe.AppendDeflated(make([]byte, 0, len(text)/2), text)
	if len(out) >= len(text) {
		return nil
	}
	return out
}

// deflate compresses the frame, once for all receivers that want it so, and reports
// whether that makes it smaller.
func (f *Frame) deflate() bool {
	if f.tried {
		return f.deflated != nil
	}
	f.tried = true
	out := deflate(f.text)
	if out == nil {
		return false
	}
	frame := make([]byte, 0, len(out)+wsframe.MaxHeader)
	f.deflated = append(wsframe.AppendHeader(frame, wsframe.Deflated|wsframe.OpText, len(out), 0), out...)
	return true
}

package loadgen

import (
	"errors"
	"fmt"
	"sync"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// appendDeflated appends the frame of a text, compressed for itself, as the servers
// do it that know no other way.
func appendDeflated(b, text []byte) []byte {
	return wsframe.AppendUnmasked(b, wsframe.Deflated|wsframe.OpText, wsframe.AppendDeflated(nil, text))
}

// inflated has rooms for texts: each is a connection's only while it is used.
var inflated = sync.Pool{New: func() any { return new([]byte) }}

// inflate gives the text of a compressed message, which may have so many bytes
// at most, to the function, which must not keep it.
func inflate(payload []byte, most int, handle func(text []byte) error) error {
	room := inflated.Get().(*[]byte)
	defer inflated.Put(room)
	text, err := wsframe.AppendInflated((*room)[:0], payload, most)
	switch {
	case errors.Is(err, wsframe.ErrTooLarge):
		return errors.New("a compressed message is larger than any that was sent")
	case err != nil:
		return fmt.Errorf("%w: %w", errChanged, err)
	}
	*room = text
	return handle(text)
}

package testkit

import "github.com/crosscomm/crosscomm-go/internal/wsframe"

// Burst returns text frames of a WebSocket client, with a mask of zeros, for one
// write: what comes in at once is written out at once, but is queued before
// anything that it causes.
func Burst(texts ...string) (b []byte) {
	for _, text := range texts {
		b = wsframe.AppendUnmasked(b, wsframe.OpText, []byte(text))
	}
	return b
}

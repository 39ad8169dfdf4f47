package testkit

import "github.com/crosscomm/crosscomm-go/internal/wsframe"

// Burst returns text frames of a WebSocket client, with a mask of zeros, for one
// write: a server reads them at once.
func Burst(texts ...string) (b []byte) {
	for _, text := range texts {
		b = wsframe.AppendUnmasked(b, wsframe.OpText, []byte(text))
	}
	return b
}

package testkit

import "encoding/binary"

// Burst returns text frames of a WebSocket client, with a mask of zeros, for one
// write: what comes in at once is written out at once, but is queued before
// anything that it causes.
func Burst(texts ...string) (b []byte) {
	for _, text := range texts {
		b = append(b, 0x81)
		switch n := len(text); {
		case n < 126:
			b = append(b, 0x80|byte(n))
		case n < 1<<16:
			b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
		default:
			b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
		}
		b = append(append(b, 0, 0, 0, 0), text...)
	}
	return b
}

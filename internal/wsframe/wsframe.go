// Package wsframe makes the frames of WebSocket (RFC 6455), also compressed ones
// (RFC 7692), and takes them apart.
package wsframe

import "encoding/binary"

// What a frame carries.
const (
	OpMore   = 0 // a further part of a message
	OpText   = 1
	OpBinary = 2
	OpClose  = 8 // this one and those above it control the connection
	OpPing   = 9
	OpPong   = 10
)

const (
	// Final is in the first byte of a frame that ends its message.
	Final = 0x80
	// Deflated is in the first byte of a message that is compressed.
	Deflated = 0x40
	// Reserved is in the first byte what no extension that is known here uses.
	Reserved = 0x30
	// Op is where in the first byte what the frame carries is.
	Op = 0x0F
	// Masked is in the second byte of a client's frame, whose header ends with the
	// MaskBytes of the mask.
	Masked = 0x80
	// MaxHeader is how many bytes a header has at most, without a mask.
	MaxHeader = 10
	// MaskBytes is how many a mask has.
	MaskBytes = 4
	// MaxControl is how many bytes the payload of a control frame has at most.
	MaxControl = 125
)

// AppendHeader appends the header of a frame of n bytes that is a whole message. The
// op may have Deflated added; masked is 0 or Masked. A mask is not appended.
func AppendHeader(b []byte, op byte, n int, masked byte) []byte {
	first := Final | op
	switch {
	case n < 126:
		return append(b, first, masked|byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, first, masked|126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, first, masked|127), uint64(n))
}

// AppendUnmasked appends a client's frame whose mask is 0, which leaves the bytes as
// they are. It is for tests and measurements: a client that others have to do with
// must choose masks that nobody can guess (RFC 6455 10.3).
func AppendUnmasked(b []byte, op byte, payload []byte) []byte {
	b = append(AppendHeader(b, op, len(payload), Masked), 0, 0, 0, 0)
	return append(b, payload...)
}

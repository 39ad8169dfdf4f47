// Package wsframe makes the frames of WebSocket (RFC 6455), also compressed ones
// (RFC 7692).
package wsframe

import (
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
)

// What a frame carries.
const (
	OpMore  = 0 // a further part of a message
	OpText  = 1
	OpClose = 8
	OpPing  = 9
	OpPong  = 10
)

const (
	// Final is in the first byte of a frame that ends its message.
	Final = 0x80
	// Deflated is in the first byte of a message that is compressed.
	Deflated = 0x40
	// Masked is in the second byte of a client's frame, whose header ends with the
	// 4 bytes of the mask.
	Masked = 0x80
	// MaxHeader is how many bytes a header has at most, without a mask.
	MaxHeader = 10
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

const (
	extensions = "Sec-WebSocket-Extensions"
	deflate    = "permessage-deflate"
)

// OfferDeflate reports whether a client offers permessage-deflate in the headers of
// its handshake, in a way that can be agreed to, and leaves no other offer there.
// Then who reads them next cannot see it otherwise.
func OfferDeflate(h http.Header) bool {
	offered := slices.ContainsFunc(deflates(h), func(params string) bool {
		return !strings.Contains(params, "server_max_window_bits") // what is sent here takes them all
	})
	h.Del(extensions)
	if offered {
		h.Set(extensions, deflate)
	}
	return offered
}

// AgreesToDeflate reports whether a server agrees to permessage-deflate in the
// headers of its answer.
func AgreesToDeflate(h http.Header) bool { return len(deflates(h)) > 0 }

// deflates returns the parameters of each time that permessage-deflate is named.
func deflates(h http.Header) (params []string) {
	for extension := range strings.SplitSeq(strings.Join(h.Values(extensions), ","), ",") {
		if name, rest, _ := strings.Cut(extension, ";"); strings.TrimSpace(name) == deflate {
			params = append(params, rest)
		}
	}
	return params
}

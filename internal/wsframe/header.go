package wsframe

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// ErrLength is returned by ParseHeader if the length is not written in the shortest
// way, or has its highest bit set: RFC 6455 5.2 allows neither.
var ErrLength = errors.New("the length of a frame is malformed")

// Header is what comes before the payload of a frame.
type Header struct {
	First  byte  // Final, Deflated, the other reserved bits, and the op
	Masked bool  // whether Key is there
	Length int64 // bytes of the payload; never negative
	Key    uint32
}

// ParseHeader returns the header with which b begins, and how many bytes that has:
// 0 if it is not there whole, for which b has fewer than MaxHeader+MaskBytes. The
// error is ErrLength. All else is for the caller to judge.
func ParseHeader(b []byte) (h Header, size int, err error) {
	if len(b) < 2 {
		return h, 0, nil
	}
	h.First, h.Masked = b[0], b[1]&Masked != 0
	size, h.Length = 2, int64(b[1]&^Masked)
	least := int64(0)
	switch h.Length {
	case 126:
		if size, least = 4, 126; len(b) < size {
			return h, 0, nil
		}
		h.Length = int64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if size, least = 10, 1<<16; len(b) < size {
			return h, 0, nil
		}
		h.Length = int64(binary.BigEndian.Uint64(b[2:]))
	}
	if h.Length < least { // negative with the highest bit
		return h, 0, ErrLength
	}
	if h.Masked {
		if size += MaskBytes; len(b) < size {
			return h, 0, nil
		}
		h.Key = binary.LittleEndian.Uint32(b[size-MaskBytes:])
	}
	return h, size, nil
}

// Mask masks the bytes, or unmasks them, with the key as Header has it. It returns
// the key for what comes after them in the same frame.
func Mask(b []byte, key uint32) (next uint32) {
	next = bits.RotateLeft32(key, -8*(len(b)%4))
	wide := uint64(key)<<32 | uint64(key)
	for len(b) >= 32 {
		p := (*[32]byte)(b) // so that its bounds are checked once
		binary.LittleEndian.PutUint64(p[0:], binary.LittleEndian.Uint64(p[0:])^wide)
		binary.LittleEndian.PutUint64(p[8:], binary.LittleEndian.Uint64(p[8:])^wide)
		binary.LittleEndian.PutUint64(p[16:], binary.LittleEndian.Uint64(p[16:])^wide)
		binary.LittleEndian.PutUint64(p[24:], binary.LittleEndian.Uint64(p[24:])^wide)
		b = b[32:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(wide >> (8 * i))
	}
	return next
}

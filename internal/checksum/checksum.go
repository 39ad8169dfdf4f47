// Package checksum computes the checksum that OSS has of objects: CRC64 by the
// ECMA polynomial, as hash/crc64 has it.
//
// It is here because every byte of a file is summed up on both sides of the
// wire, which takes much of the time of a transfer: hash/crc64 waits for each
// table lookup before the next, and this goes along two pieces at a time, which
// is nearly twice as fast.
package checksum

import (
	"encoding/binary"
	"hash"
	"hash/crc64"
	"sync"
)

// lane is the length of the two pieces, in bytes; a power of two.
const (
	laneBits = 12
	lane     = 1 << laneBits
)

type tables struct {
	slices [8]crc64.Table // for eight bytes at a time ("slicing by 8")
	shift  [8]crc64.Table // for the effect of lane zero bytes
}

var made = sync.OnceValue(func() *tables {
	t := &tables{}
	t.slices[0] = *crc64.MakeTable(crc64.ECMA)
	for i := 1; i < 8; i++ {
		for j := range 256 {
			v := t.slices[i-1][j]
			t.slices[i][j] = t.slices[0][v&0xFF] ^ v>>8
		}
	}
	zeros := &appendZeros()[laneBits]
	for i := range 8 {
		for j := range 256 {
			t.shift[i][j] = times(zeros, uint64(j)<<(8*i))
		}
	}
	return t
})

// Update returns the checksum of what has the checksum crc, with p after it. The
// checksum of nothing is 0.
func Update(crc uint64, p []byte) uint64 {
	t := made()
	a := ^crc
	for len(p) >= 2*lane {
		// b begins at zero, as if nothing had been before: what was is added
		// after.
		b := uint64(0)
		first, second := p[:lane], p[lane:2*lane]
		for i := 0; i <= lane-8; i += 8 {
			a ^= binary.LittleEndian.Uint64(first[i:])
			b ^= binary.LittleEndian.Uint64(second[i:])
			a = eight(&t.slices, a)
			b = eight(&t.slices, b)
		}
		a = t.shift[0][a&0xFF] ^ t.shift[1][a>>8&0xFF] ^ t.shift[2][a>>16&0xFF] ^ t.shift[3][a>>24&0xFF] ^
			t.shift[4][a>>32&0xFF] ^ t.shift[5][a>>40&0xFF] ^ t.shift[6][a>>48&0xFF] ^ t.shift[7][a>>56] ^ b
		p = p[2*lane:]
	}
	for ; len(p) >= 8; p = p[8:] {
		a = eight(&t.slices, a^binary.LittleEndian.Uint64(p))
	}
	for _, c := range p {
		a = t.slices[0][byte(a)^c] ^ a>>8
	}
	return ^a
}

// eight takes a register on by eight bytes, which were added to it.
func eight(t *[8]crc64.Table, v uint64) uint64 {
	return t[7][v&0xFF] ^ t[6][v>>8&0xFF] ^ t[5][v>>16&0xFF] ^ t[4][v>>24&0xFF] ^
		t[3][v>>32&0xFF] ^ t[2][v>>40&0xFF] ^ t[1][v>>48&0xFF] ^ t[0][v>>56]
}

// New returns a hash of the checksum.
func New() hash.Hash64 { return new(digest) }

type digest struct{ sum uint64 }

func (d *digest) Write(p []byte) (int, error) {
	d.sum = Update(d.sum, p)
	return len(p), nil
}

func (d *digest) Sum64() uint64 { return d.sum }

func (d *digest) Sum(b []byte) []byte { return binary.BigEndian.AppendUint64(b, d.sum) }

func (d *digest) Reset() { d.sum = 0 }

func (d *digest) Size() int { return crc64.Size }

func (d *digest) BlockSize() int { return 1 }

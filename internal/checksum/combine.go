package checksum

import "sync"

// Combine returns the checksum of two pieces of bytes one after the
// other, of which each one's is known, and the length of the second. It is
// zlib's crc32_combine for 64 bits: to append zero bits to a message is a
// linear map on its CRC, so the map for n bytes is found by squaring.
func Combine(first, second uint64, secondLen int64) uint64 {
	if secondLen <= 0 {
		return first
	}
	maps := appendZeros()
	for i := 0; secondLen != 0; i, secondLen = i+1, secondLen>>1 {
		if secondLen&1 != 0 {
			first = times(&maps[i], first)
		}
	}
	return first ^ second
}

// appendZeros returns the maps for one byte, two, four and so on. They are made
// once, since an object may have 10,000 parts.
var appendZeros = sync.OnceValue(func() *[63][64]uint64 {
	const poly = 0xC96C5795D7870F42 // ECMA-182, reversed
	var bits [3][64]uint64          // one zero bit, two, four
	bits[0][0] = poly
	for i := 1; i < 64; i++ {
		bits[0][i] = 1 << (i - 1)
	}
	square(&bits[1], &bits[0])
	square(&bits[2], &bits[1])
	var maps [63][64]uint64
	square(&maps[0], &bits[2])
	for i := 1; i < len(maps); i++ {
		square(&maps[i], &maps[i-1])
	}
	return &maps
})

func times(matrix *[64]uint64, v uint64) (sum uint64) {
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 != 0 {
			sum ^= matrix[i]
		}
	}
	return sum
}

func square(result, matrix *[64]uint64) {
	for i := range matrix {
		result[i] = times(matrix, matrix[i])
	}
}

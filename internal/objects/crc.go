package objects

// combineCRC returns the CRC64 (ECMA) of two pieces of bytes one after the
// other, of which each one's is known, and the length of the second. It is
// zlib's crc32_combine for 64 bits: to append zero bits to a message is a
// linear map on its CRC, so the map for n bytes is found by squaring.
func combineCRC(first, second uint64, secondLen int64) uint64 {
	if secondLen <= 0 {
		return first
	}
	const poly = 0xC96C5795D7870F42 // ECMA-182, reversed
	var even, odd [64]uint64
	odd[0] = poly // one zero bit
	for i := 1; i < 64; i++ {
		odd[i] = 1 << (i - 1)
	}
	square(&even, &odd) // two
	square(&odd, &even) // four
	for n := secondLen; ; {
		square(&even, &odd)
		if n&1 != 0 {
			first = times(&even, first)
		}
		if n >>= 1; n == 0 {
			break
		}
		square(&odd, &even)
		if n&1 != 0 {
			first = times(&odd, first)
		}
		if n >>= 1; n == 0 {
			break
		}
	}
	return first ^ second
}

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

package checksum

import (
	"bytes"
	"hash/crc64"
	"math/rand/v2"
	"testing"
)

var standard = crc64.MakeTable(crc64.ECMA)

func random(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	return data
}

func TestSameAsStandard(t *testing.T) {
	data := random(100_000)
	for _, n := range []int{0, 1, 7, 8, 9, lane - 1, lane, 2*lane - 1, 2 * lane, 2*lane + 1, 4*lane + 13, len(data)} {
		for _, start := range []int{0, 1, 3} {
			p := data[start:max(start, n)]
			if got, want := Update(0, p), crc64.Checksum(p, standard); got != want {
				t.Errorf("%d bytes from %d: %x, want %x", len(p), start, got, want)
			}
		}
	}
	h, want := New(), crc64.New(standard)
	for rest := data; len(rest) > 0; {
		n := min(rand.IntN(20_000)+1, len(rest))
		h.Write(rest[:n])
		want.Write(rest[:n])
		rest = rest[n:]
		if h.Sum64() != want.Sum64() || !bytes.Equal(h.Sum([]byte("x")), want.Sum([]byte("x"))) {
			t.Fatalf("%x, want %x", h.Sum64(), want.Sum64())
		}
	}
	h.Reset()
	if h.Sum64() != 0 {
		t.Error("not reset")
	}
}

func FuzzUpdate(f *testing.F) {
	f.Add(uint64(0), []byte("x"), 3)
	f.Fuzz(func(t *testing.T, crc uint64, p []byte, times int) {
		p = bytes.Repeat(p, times&0xFFF)
		if got, want := Update(crc, p), crc64.Update(crc, standard, p); got != want {
			t.Errorf("%x, want %x", got, want)
		}
	})
}

func BenchmarkUpdate(b *testing.B) {
	data := random(256 << 10)
	b.Run("this", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			Update(0, data)
		}
	})
	b.Run("standard", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			crc64.Update(0, standard, data)
		}
	})
}

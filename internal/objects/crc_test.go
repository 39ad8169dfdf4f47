package objects

import (
	"hash/crc64"
	"testing"
)

func FuzzCombineCRC(f *testing.F) {
	f.Add([]byte("hello "), []byte("world"))
	f.Add([]byte{}, []byte("x"))
	f.Add([]byte("x"), []byte{})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		got := combineCRC(crc64.Checksum(a, ecma), crc64.Checksum(b, ecma), int64(len(b)))
		if want := crc64.Checksum(append(append([]byte{}, a...), b...), ecma); got != want {
			t.Fatalf("%q and %q: got %x, want %x", a, b, got, want)
		}
	})
}

package checksum

import (
	"hash/crc64"
	"testing"
)

func FuzzCombine(f *testing.F) {
	f.Add([]byte("hello "), []byte("world"))
	f.Add([]byte{}, []byte("x"))
	f.Add([]byte("x"), []byte{})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		got := Combine(crc64.Checksum(a, standard), crc64.Checksum(b, standard), int64(len(b)))
		if want := crc64.Checksum(append(append([]byte{}, a...), b...), standard); got != want {
			t.Fatalf("%q and %q: got %x, want %x", a, b, got, want)
		}
	})
}

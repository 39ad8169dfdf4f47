package frame

import (
	"bytes"
	"testing"
)

// plain finds the first byte that needs a look, whichever and wherever it is.
func TestPlain(t *testing.T) {
	for length := range 40 {
		for at := range length + 1 {
			for c := range 256 {
				b := bytes.Repeat([]byte("~"), length)
				if at < length {
					b[at] = byte(c)
				}
				want := length
				if c < ' ' || c == '"' || c == '\\' || c >= 0x80 {
					want = at
				}
				// What comes after it must not matter.
				for _, next := range []byte{'x', 0xFF, 0, '"', '!', ']', '#', '['} {
					if at+1 < length {
						b[at+1] = next
						if want == length && (next == 0xFF || next == 0 || next == '"') {
							continue
						}
					}
					if got := plain(b); got != want {
						t.Fatalf("%q: got %d, want %d", b, got, want)
					}
				}
			}
		}
	}
}

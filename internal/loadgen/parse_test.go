package loadgen

import (
	"bytes"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// No bytes of a server break the reader; what it takes for a frame is within
// them.
func FuzzParse(f *testing.F) {
	for _, n := range []int{0, 125, 126, 65535, 65536} {
		f.Add(append(wsframe.AppendHeader(nil, wsframe.OpText, n, 0), bytes.Repeat([]byte("x"), n)...), 100_000)
	}
	f.Add([]byte{0x81, 127, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, 10)
	f.Fuzz(func(t *testing.T, b []byte, most int) {
		most &= 1<<30 - 1
		for {
			_, payload, size, err := parse(b, most)
			if size == 0 || err != nil {
				return
			}
			if size > len(b) || len(payload) > size || len(payload) > most {
				t.Fatalf("a frame of %d bytes, with %d of payload, in %d", size, len(payload), len(b))
			}
			b = b[size:]
		}
	})
}

func TestHistogram(t *testing.T) {
	var h histogram
	if got := h.latency(); got != (Latency{}) {
		t.Errorf("of nothing: %+v", got)
	}
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Microsecond)
	}
	got := h.latency()
	for _, c := range []struct{ got, want time.Duration }{{got.Median, 500 * time.Microsecond}, {got.P90, 900 * time.Microsecond}, {got.P99, 990 * time.Microsecond}, {got.Max, time.Millisecond}} {
		if c.got < c.want || c.got > c.want*17/16+1 {
			t.Errorf("got %v, want %v and at most 1/16 more", c.got, c.want)
		}
	}
	for _, n := range []uint64{0, 1, 15, 16, 17, 31, 32, 1 << 20, 1<<63 - 1} {
		if i := bucket(n); upTo(i) < n || i > 0 && upTo(i-1) >= n {
			t.Errorf("%d is in the bucket %d, from %d to %d", n, i, upTo(i-1), upTo(i))
		}
	}
}

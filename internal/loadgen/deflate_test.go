package loadgen

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// Messages are compressed each for itself, are what they were when inflated, and
// have the words of messages.
func TestDeflate(t *testing.T) {
	s := newSeries("a", "b", 4096, true, "")
	check := s.checker()
	var plain bytes.Buffer
	for range 3 {
		frame := s.append(nil)
		first, payload, size, err := parse(unmasked(t, frame), 1<<20)
		if err != nil || first != wsframe.Final|wsframe.Deflated|wsframe.OpText || size == 0 || bytes.HasSuffix(payload, []byte(wsframe.FlushTail)) {
			t.Fatalf("a frame begins with %#x and has %q", first, payload)
		}
		if len(payload) < s.len()/5 || len(payload) > s.len()/2 {
			t.Errorf("%d bytes become %d", s.len(), len(payload))
		}
		plain.Reset()
		if err := inflate(payload, s.len(), func(text []byte) error {
			plain.Write(text)
			_, err := check.check(text)
			return err
		}); err != nil || plain.Len() != 4096 {
			t.Errorf("got %d bytes, %v", plain.Len(), err)
		}
		if err := inflate(payload, s.len()-1, func([]byte) error { return nil }); err == nil || !strings.Contains(err.Error(), "larger than") {
			t.Errorf("one byte too many: %v", err)
		}
		payload[len(payload)/2] ^= 0xFF
		if err := inflate(payload, s.len(), func(text []byte) error { _, err := s.checker().check(text); return err }); err == nil {
			t.Error("a message that was broken passes")
		}
	}
}

func (s *series) len() int { return len(s.text) }

// unmasked is a client's frame as a server's, which has no mask.
func unmasked(t *testing.T, frame []byte) []byte {
	t.Helper()
	if frame[1]&0x7F != 126 {
		t.Fatalf("a header with %#x", frame[1])
	}
	b := append([]byte{frame[0], 126}, frame[2:4]...)
	return append(b, frame[8:]...)
}

// What cannot be inflated has been changed on its way, and what inflates to more
// than was sent is not read to its end.
func FuzzInflate(f *testing.F) {
	f.Add([]byte{}, 10)
	f.Add([]byte("no deflate"), 100)
	f.Add(appendDeflated(nil, make([]byte, 1<<20))[8:], 1<<16)
	f.Fuzz(func(t *testing.T, payload []byte, most int) {
		most &= 1<<20 - 1
		err := inflate(payload, most, func(text []byte) error {
			if len(text) > most {
				t.Errorf("%d bytes are more than %d", len(text), most)
			}
			return nil
		})
		if err != nil && !errors.Is(err, errChanged) && !strings.Contains(err.Error(), "larger than") {
			t.Error(err)
		}
	})
}

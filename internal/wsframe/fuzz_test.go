package wsframe_test

import (
	"bytes"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

const extensions = "Sec-Websocket-Extensions"

// Whatever a client offers, at most the plain offer is left, and only if it offered
// the extension by its name.
func FuzzOfferDeflate(f *testing.F) {
	for _, value := range offers {
		f.Add(value, "")
		f.Add("x; a=\"b, c\"", value)
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		h := http.Header{extensions: {one, other}}
		got := wsframe.OfferDeflate(h)
		left := h.Values(extensions)
		if got != (len(left) == 1 && left[0] == "permessage-deflate") || !got && len(left) > 0 {
			t.Errorf("%q, %q: got %v, and %q is left", one, other, got, left)
		}
		if got && !strings.Contains(one, "permessage-deflate") && !strings.Contains(other, "permessage-deflate") {
			t.Errorf("%q, %q are an offer", one, other)
		}
		if wsframe.OfferDeflate(h) != got {
			t.Errorf("%q, %q: another outcome with what is left", one, other)
		}
	})
}

// Whatever a server agrees to: only the extension that was offered, alone, with what
// was asked for, is agreed.
func FuzzAgreesToDeflate(f *testing.F) {
	for _, value := range offers {
		f.Add(value, true)
		f.Add(value, false)
	}
	f.Fuzz(func(t *testing.T, value string, offered bool) {
		got, err := wsframe.AgreesToDeflate(http.Header{extensions: {value}}, offered)
		switch {
		case got && (err != nil || !offered || !strings.HasPrefix(strings.TrimLeft(value, " \t"), "permessage-deflate") || !strings.Contains(value, "server_no_context_takeover") || strings.Contains(value, ",")):
			t.Errorf("%q, offered %v, is agreed: %v", value, offered, err)
		case !got && !errors.Is(err, wsframe.ErrExtension):
			t.Errorf("%q: %v", value, err)
		}
	})
}

// A header that is there whole is the same whatever comes after it, is none without
// its last byte, and is what AppendHeader makes.
func FuzzParseHeader(f *testing.F) {
	for _, n := range sizes {
		f.Add(append(wsframe.AppendHeader(nil, wsframe.OpText, n, 0), "abcd"...))
		f.Add(append(wsframe.AppendHeader(nil, wsframe.Deflated|wsframe.OpBinary, n, wsframe.Masked), "abcd"...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, size, err := wsframe.ParseHeader(b)
		if err != nil || size == 0 {
			if size != 0 || err == nil && len(b) >= wsframe.MaxHeader+wsframe.MaskBytes {
				t.Errorf("size %d, %v", size, err)
			}
			return
		}
		if again, other, err := wsframe.ParseHeader(b[:size]); again != h || other != size || err != nil {
			t.Errorf("alone it is %v, %d, %v", again, other, err)
		}
		if _, other, err := wsframe.ParseHeader(b[:size-1]); other != 0 || err != nil {
			t.Errorf("without its last byte: %d, %v", other, err)
		}
		if h.Length < 0 {
			t.Fatalf("length %d", h.Length)
		}
		if h.Length > math.MaxInt {
			return // with 32 bits none is made that long
		}
		masked := byte(0)
		if h.Masked {
			masked = wsframe.Masked
		}
		made := wsframe.AppendHeader(nil, 0, int(h.Length), masked)
		made[0] = h.First
		if h.Masked {
			zeros := make([]byte, wsframe.MaskBytes)
			wsframe.Mask(zeros, h.Key)
			made = append(made, zeros...)
		}
		if !bytes.Equal(made, b[:size]) {
			t.Errorf("it is made as %x, and was %x", made, b[:size])
		}
	})
}

// What was compressed inflates to what it was, and nothing to more than it may.
func FuzzInflate(f *testing.F) {
	f.Add([]byte("no deflate"), 100)
	f.Add(wsframe.AppendDeflated(nil, make([]byte, 1<<14)), 1<<12)
	f.Fuzz(func(t *testing.T, data []byte, most int) {
		most &= 1<<16 - 1
		out, err := wsframe.AppendInflated(nil, data, most)
		if len(out) > most || cap(out) > max(512, 2*most) || err != nil && !errors.Is(err, wsframe.ErrMalformed) && !errors.Is(err, wsframe.ErrTooLarge) {
			t.Errorf("%d bytes, room for %d, of at most %d; %v", len(out), cap(out), most, err)
		}
		back, err := wsframe.AppendInflated([]byte("begin"), wsframe.AppendDeflated(nil, data), len(data))
		if err != nil || string(back) != "begin"+string(data) {
			t.Errorf("%d bytes become %d, %v", len(data), len(back), err)
		}
		if len(data) > 0 {
			if _, err := wsframe.AppendInflated(nil, wsframe.AppendDeflated(nil, data), len(data)-1); !errors.Is(err, wsframe.ErrTooLarge) {
				t.Errorf("one byte less than needed: %v", err)
			}
		}
	})
}

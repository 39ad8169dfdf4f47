package wsframe_test

import (
	"bytes"
	"compress/flate"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// sizes are at the limits of a header.
var sizes = []int{0, 1, 125, 126, 65_535, 65_536, 200_000}

// gorilla reads what is made here as it was meant.
func TestAgainstGorilla(t *testing.T) {
	got := make(chan string, 100)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(got)
		upgrader := websocket.Upgrader{EnableCompression: true}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		for {
			kind, data, err := conn.ReadMessage()
			if err != nil {
				if !websocket.IsCloseError(err, websocket.CloseNoStatusReceived) {
					t.Error(err)
				}
				return
			}
			if kind != websocket.TextMessage {
				t.Errorf("kind %d", kind)
			}
			got <- string(data)
		}
	}))
	defer web.Close()
	dialer := websocket.Dialer{EnableCompression: true}
	conn, _, err := dialer.Dial("ws"+strings.TrimPrefix(web.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var out []byte
	var want []string
	for _, n := range sizes {
		text := bytes.Repeat([]byte("ab"), n)[:n]
		out = wsframe.AppendUnmasked(out, wsframe.OpText, text)
		out = wsframe.AppendUnmasked(out, wsframe.Deflated|wsframe.OpText, wsframe.AppendDeflated(nil, text))
		want = append(want, string(text), string(text))
	}
	out = wsframe.AppendUnmasked(out, wsframe.OpClose, nil)
	if _, err := conn.NetConn().Write(out); err != nil {
		t.Fatal(err)
	}
	i := 0
	for text := range got {
		if i >= len(want) || text != want[i] {
			t.Fatalf("message %d has %d bytes", i, len(text))
		}
		i++
	}
	if i != len(want) {
		t.Errorf("%d messages of %d", i, len(want))
	}
}

// Texts that are compressed at the same time do not get into each other.
func TestDeflateConcurrently(t *testing.T) {
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			text := bytes.Repeat([]byte{byte('a' + i), 'x', byte(i)}, 1000)
			for range 200 {
				begin := []byte("begin")
				out := wsframe.AppendDeflated(begin, text)
				if !bytes.HasPrefix(out, begin) || len(out) > 200 {
					t.Errorf("%d bytes, %.10q", len(out), out)
				}
				in := strings.NewReader(string(out[len(begin):]) + wsframe.FlushTail + "\x01\x00\x00\xff\xff")
				if back, err := io.ReadAll(flate.NewReader(in)); err != nil || !bytes.Equal(back, text) {
					t.Errorf("got %d bytes, %v", len(back), err)
				}
			}
		})
	}
	running.Wait()
}

// offers are values of the header: some are well-formed, and some can be agreed to.
var offers = []string{
	"", "permessage-deflate", "x-permessage-deflate", "permessage-deflates", "x; permessage-deflate", "permessage-deflate;",
	"x-other, permessage-deflate; client_max_window_bits", "x; a=b , permessage-deflate;server_no_context_takeover",
	"permessage-deflate; server_max_window_bits=10", "permessage-deflate; server_max_window_bits=10, permessage-deflate",
	"permessage-deflate ; client_max_window_bits = \"10\"", "permessage-deflate; client_max_window_bits=7", "permessage-deflate; client_max_window_bits=08",
	"permessage-deflate; client_no_context_takeover; client_no_context_takeover", "permessage-deflate; client_no_context_takeover=1", "permessage-deflate; unknown",
	"permessage-deflate; server_no_context_takeover; client_no_context_takeover", "permessage-deflate; server_no_context_takeover; server_max_window_bits=10",
	"permessage-deflate; server_no_context_takeover; client_max_window_bits=10", "permessage-deflate; server_no_context_takeover, x", `x="a`, `x; a="b, permessage-deflate"`, "permessage-deflate permessage-deflate", ", permessage-deflate",
}

func TestOfferDeflate(t *testing.T) {
	taken := []string{
		"permessage-deflate", "x-other, permessage-deflate; client_max_window_bits", "x; a=b , permessage-deflate;server_no_context_takeover",
		"permessage-deflate; server_max_window_bits=10, permessage-deflate", "permessage-deflate ; client_max_window_bits = \"10\"",
		"permessage-deflate; server_no_context_takeover; client_no_context_takeover", "permessage-deflate; server_no_context_takeover; client_max_window_bits=10",
		"permessage-deflate; server_no_context_takeover, x",
	}
	for _, value := range offers {
		for _, values := range [][]string{{value}, {`x="a`, value}, {"x", value, "y; z=1"}} {
			h := http.Header{extensions: values}
			got := wsframe.OfferDeflate(h)
			left := strings.Join(h.Values(extensions), ",")
			if want := slices.Contains(taken, value); got != want || (left == "permessage-deflate") != want || !want && left != "" {
				t.Errorf("%q: got %v, and %q is left", values, got, left)
			}
		}
	}
}

func TestAgreesToDeflate(t *testing.T) {
	taken := []string{"permessage-deflate; server_no_context_takeover; client_no_context_takeover", "permessage-deflate; server_no_context_takeover; server_max_window_bits=10"}
	for _, value := range offers {
		for _, offered := range []bool{true, false} {
			got, err := wsframe.AgreesToDeflate(http.Header{extensions: {value}}, offered)
			if want := offered && slices.Contains(taken, value); got != want || (err == nil) != want {
				t.Errorf("%q, offered %v: got %v, %v", value, offered, got, err)
			}
		}
	}
	for _, offered := range []bool{true, false} {
		if got, err := wsframe.AgreesToDeflate(http.Header{}, offered); got || err != nil {
			t.Errorf("no answer: got %v, %v", got, err)
		}
	}
}

// Masking the parts of a frame one after the other is masking the whole, and each
// byte has its own of the mask.
func TestMask(t *testing.T) {
	const key = 0x44332211
	for n := range 100 {
		want := make([]byte, n)
		for i := range want {
			want[i] = byte(i) ^ "\x11\x22\x33\x44"[i%4]
		}
		for cut := range n + 1 {
			got := make([]byte, n)
			for i := range got {
				got[i] = byte(i)
			}
			wsframe.Mask(got[cut:], wsframe.Mask(got[:cut], key))
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, cut after %d: got %x", n, cut, got)
			}
		}
	}
}

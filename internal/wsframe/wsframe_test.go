package wsframe_test

import (
	"bytes"
	"compress/flate"
	"io"
	"net/http"
	"net/http/httptest"
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

func TestOfferDeflate(t *testing.T) {
	for want, lists := range map[bool][][]string{
		true:  {{"permessage-deflate"}, {"x-other", "permessage-deflate; client_max_window_bits"}, {"x; a=b , permessage-deflate;server_no_context_takeover"}, {"permessage-deflate; server_max_window_bits=10, permessage-deflate"}, {"permessage-deflate ; client_max_window_bits=10"}, {`x="a`, "permessage-deflate"}},
		false: {nil, {"x-permessage-deflate"}, {"permessage-deflates"}, {"x; permessage-deflate"}, {"permessage-deflate; server_max_window_bits=10"}},
	} {
		for _, values := range lists {
			h := http.Header{"Sec-Websocket-Extensions": values}
			got := wsframe.OfferDeflate(h)
			left := strings.Join(h.Values("Sec-WebSocket-Extensions"), ",")
			if got != want || (left == "permessage-deflate") != want || !want && left != "" {
				t.Errorf("%q: got %v, and %q is left", values, got, left)
			}
		}
	}
}

func TestAgreesToDeflate(t *testing.T) {
	for value, want := range map[string]bool{"": false, "permessage-deflate; server_no_context_takeover; client_no_context_takeover": true, "x-permessage-deflate": false, "permessage-deflate; server_max_window_bits=10": true} {
		if got := wsframe.AgreesToDeflate(http.Header{"Sec-Websocket-Extensions": {value}}); got != want {
			t.Errorf("%q: got %v", value, got)
		}
	}
}

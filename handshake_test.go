package crosscomm_test

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go"
)

// A client does not talk to a server that agrees to what it was not offered.
func TestAgreedWithoutOffer(t *testing.T) {
	for header, compression := range map[string][]bool{
		"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover": {false},
		"Sec-WebSocket-Extensions: permessage-deflate":                             {false, true},
		"Sec-WebSocket-Extensions: x-other":                                        {false, true},
		"Sec-WebSocket-Protocol: other":                                            {false, true},
	} {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]), header)
			_, _ = conn.Read(make([]byte, 1)) // until the client has gone
		}))
		for _, compression := range compression {
			client := newClient(t, strings.TrimPrefix(web.URL, "http://"), "c", crosscomm.Config{Compression: compression})
			if err := client.Login(testContext(t)); err == nil || !strings.Contains(err.Error(), "offered") {
				t.Errorf("%s, compression %v: %v", header, compression, err)
			}
		}
		web.Close()
	}
}

package crosscomm_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// payload makes a message of 256 bytes on the wire, or nearly.
var payload = strings.Repeat("x", 110)

// benchPeer is a server that accepts one client and hands its connection over.
func benchPeer(b *testing.B) (addr string, conns <-chan *websocket.Conn) {
	ch := make(chan *websocket.Conn, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err == nil {
			_, _, err = conn.ReadMessage() // the login
		}
		if err == nil {
			err = conn.WriteMessage(websocket.TextMessage, []byte(frameOf("server", "client", "login_response", `{"status": "success"}`)))
		}
		if err != nil {
			b.Error(err)
			return
		}
		ch <- conn
	}))
	b.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://"), ch
}

// BenchmarkClientSend sends on one connection, from one goroutine that waits for
// each message, and from many.
func BenchmarkClientSend(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			addr, conns := benchPeer(b)
			client := login(b, addr, "client")
			conn := <-conns
			go io.Copy(io.Discard, conn.NetConn())
			b.Cleanup(func() { conn.Close() })
			send := func() {
				if err := client.SendMessage(context.Background(), payload, crosscomm.TypeText, "receiver"); err != nil {
					b.Error(err)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			if goroutines == 1 {
				for range b.N {
					send()
				}
				return
			}
			b.SetParallelism(goroutines)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					send()
				}
			})
		})
	}
}

// BenchmarkClientReceive receives on one connection, with a listener that only
// counts.
func BenchmarkClientReceive(b *testing.B) {
	addr, conns := benchPeer(b)
	client := newClient(b, addr, "client", crosscomm.Config{})
	var got atomic.Int64
	done := make(chan struct{})
	client.MessageListener(func(context.Context, *crosscomm.Message) error {
		if got.Add(1) == int64(b.N) {
			close(done)
		}
		return nil
	}, crosscomm.ListenerOptions{})
	if err := client.Login(testContext(b)); err != nil {
		b.Fatal(err)
	}
	conn := <-conns
	b.Cleanup(func() { conn.Close() })
	text := frameOf("sender", "client", "text", `"`+payload+`"`)
	frame := append(binary.BigEndian.AppendUint16([]byte{0x81, 126}, uint16(len(text))), text...)
	const inWrite = 200
	many := []byte(strings.Repeat(string(frame), inWrite))
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= inWrite {
		if _, err := conn.NetConn().Write(many[:min(left, inWrite)*len(frame)]); err != nil {
			b.Fatal(err)
		}
	}
	testkit.Receive(b, done)
}

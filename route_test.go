package crosscomm

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/frame"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

const benchFrame = `{"msg_id": "aabbccddeeff_12345678_1795508069140_0a1b2c3d", "from_client_id": "sender", "to_client_id": "%s", "msg_type": "text", "content": "%s", "timestamp": 1795508069.140345, "oss_key": null}`

// BenchmarkRoute takes a frame from a connection's input to its receivers'
// sockets, 32 in a burst.
func BenchmarkRoute(b *testing.B) {
	for _, bc := range []struct {
		to      string
		clients int
	}{{"receiver0", 1}, {"receiver0", 1000}, {All, 10}} {
		b.Run(fmt.Sprintf("to=%s/clients=%d", bc.to, bc.clients), func(b *testing.B) {
			s, err := New(Config{Role: Server, NoStateFile: true, Limits: Limits{MessagesPerSecond: math.MaxInt32, BytesPerSecond: math.MaxInt32}})
			if err != nil {
				b.Fatal(err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- s.Serve(context.Background(), l) }()
			b.Cleanup(func() {
				_ = s.Stop(context.Background())
				testkit.Receive(b, ended)
			})
			ids := []string{"sender"}
			for i := range bc.clients {
				ids = append(ids, fmt.Sprint("receiver", i))
			}
			for _, id := range ids {
				conn, _, err := websocket.DefaultDialer.Dial("ws://"+l.Addr().String(), nil)
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { conn.Close() })
				login := strings.Replace(strings.Replace(fmt.Sprintf(benchFrame, ServerID, ""), `"sender"`, `"`+id+`"`, 1), `"text"`, `"login"`, 1)
				if err := conn.WriteMessage(websocket.TextMessage, []byte(login)); err != nil {
					b.Fatal(err)
				}
				if _, _, err := conn.ReadMessage(); err != nil {
					b.Fatal(err)
				}
				go io.Copy(io.Discard, conn.NetConn())
			}
			// Its own goroutine waits for input that does not come.
			sender := s.server.hub.peerOf("sender")
			data := fmt.Appendf(nil, benchFrame, bc.to, strings.Repeat("x", 200))
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if !sender.receive(data, true) {
					b.Fatal("refused")
				}
				if i%32 == 0 {
					sender.link.Flush()
				}
			}
			sender.link.Flush()
		})
	}
}

// BenchmarkDispatch takes a frame to a listener that does nothing.
func BenchmarkDispatch(b *testing.B) {
	s, err := New(Config{Role: Client, ClientID: "receiver"})
	if err != nil {
		b.Fatal(err)
	}
	var got atomic.Int64
	done := make(chan struct{})
	s.MessageListener(func(context.Context, *Message) error {
		if got.Add(1) == int64(b.N) {
			close(done)
		}
		return nil
	}, ListenerOptions{})
	data := fmt.Appendf(nil, benchFrame, "receiver", strings.Repeat("x", 200))
	f, err := frame.Scan(data)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		s.dispatch(delivery{ctx: b.Context(), keep: true}, data, f)
		if i%1000 == 0 {
			s.listeners.idle(b.Context())
		}
	}
	<-done
}

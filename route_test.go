package crosscomm

import (
	"context"
	"encoding/binary"
	"encoding/hex"
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

// routeBench starts a server with a sender and so many receivers, whose output is
// read. Nothing comes from them but what the benchmark gives to their peers itself.
func routeBench(b *testing.B, dir string, clients int, subprotocols ...string) *Service {
	s, err := New(Config{Role: Server, DataDir: dir, NoStateFile: true, Limits: Limits{
		MessagesPerSecond: math.MaxInt32, BytesPerSecond: math.MaxInt32, QueuedBytes: math.MaxInt32, TotalQueuedBytes: math.MaxInt32,
	}})
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
	for i := range clients {
		ids = append(ids, fmt.Sprint("receiver", i))
	}
	for _, id := range ids {
		conn, _, err := (&websocket.Dialer{Subprotocols: subprotocols}).Dial("ws://"+l.Addr().String(), nil)
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
	return s
}

// BenchmarkRoute takes a frame from a connection's input to its receivers'
// sockets, 32 in a burst.
func BenchmarkRoute(b *testing.B) {
	for _, bc := range []struct {
		to      string
		clients int
	}{{"receiver0", 1}, {"receiver0", 1000}, {All, 10}} {
		b.Run(fmt.Sprintf("to=%s/clients=%d", bc.to, bc.clients), func(b *testing.B) {
			// The sender's own goroutine waits for input that does not come.
			sender := routeBench(b, "", bc.clients).server.hub.peerOf("sender")
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

// BenchmarkRouteTracked is that with receipts: each sender wants to be told that its
// message is accepted, and its receiver reports each burst. The senders take turns, as
// what is remembered of many does not fit into a processor's cache.
func BenchmarkRouteTracked(b *testing.B) {
	for _, bc := range []struct {
		where string
		pairs int
	}{{"memory", 1}, {"memory", 50}, {"disk", 1}, {"disk", 50}} {
		b.Run(fmt.Sprintf("%s/pairs=%d", bc.where, bc.pairs), func(b *testing.B) {
			dir := ""
			if bc.where == "disk" {
				dir = b.TempDir()
			}
			hub := routeBench(b, dir, 2*bc.pairs, subprotocol).server.hub
			content := strings.Repeat("x", 200)
			data := make([][]byte, bc.pairs)
			from, to := make([]*peer, bc.pairs), make([]*peer, bc.pairs)
			for i := range data {
				from[i], to[i] = hub.peerOf(fmt.Sprint("receiver", 2*i+1)), hub.peerOf(fmt.Sprint("receiver", 2*i))
				text := strings.Replace(fmt.Sprintf(benchFrame, fmt.Sprint("receiver", 2*i), content), `"sender"`, fmt.Sprintf(`"receiver%d"`, 2*i+1), 1)
				data[i] = appendHeaders(nil, []byte(text), headers{Delivery: Accepted.String()})
			}
			idAt := strings.Index(benchFrame, "_0a1b2c3d") + 1
			b.ReportAllocs()
			b.ResetTimer()
			const burst = 32
			var number [4]byte
			for i := 0; i < b.N; i += burst {
				pair, round := i/burst%bc.pairs, uint64(i/burst/bc.pairs)
				for k := range burst {
					hex.Encode(data[pair][idAt:], binary.BigEndian.AppendUint32(number[:0], uint32(i+k)))
					if !from[pair].receive(data[pair], true) {
						b.Fatal("refused")
					}
				}
				from[pair].link.Flush()
				report := fmt.Appendf(nil, `{"received":%d,"handled":[[%d,%d]]}`, (round+1)*burst, round*burst+1, (round+1)*burst)
				if !to[pair].receive(reportFrame(to[pair].id, report), true) {
					b.Fatal("refused")
				}
				to[pair].link.Flush()
			}
		})
	}
}

// reportFrame is the frame in which a client reports.
func reportFrame(from string, content []byte) []byte {
	m := Message{MsgID: "1", FromClientID: from, ToClientID: ServerID, MsgType: typeReport, Content: content}
	return m.AppendFrame(nil)
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

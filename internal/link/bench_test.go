package link_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// sinkLink is a link whose peer reads everything and looks at nothing.
func sinkLink(b *testing.B) *link.Link {
	l, peer, ended := pair(b, roomy, nil)
	go io.Copy(io.Discard, peer.NetConn())
	b.Cleanup(func() {
		l.Close(1000, "", 0)
		testkit.Receive(b, ended)
	})
	return l
}

var text385 = make([]byte, 385)

// BenchmarkForward queues and writes messages of one burst of input.
func BenchmarkForward(b *testing.B) {
	for _, bc := range []struct{ inBurst, receivers int }{{1, 1}, {32, 1}, {32, 4}} {
		b.Run(fmt.Sprintf("inBurst=%d/receivers=%d", bc.inBurst, bc.receivers), func(b *testing.B) {
			from := sinkLink(b)
			var to []*link.Link
			for range bc.receivers {
				to = append(to, sinkLink(b))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				frame := from.NewFrame(text385)
				if err := from.Forward(to[i%len(to)], &frame); err != nil {
					b.Fatal(err)
				}
				if i%bc.inBurst == 0 {
					from.Flush()
				}
				if i%5000 == 0 { // or else it would fill the queues
					for _, l := range to {
						if err := l.Write(context.Background(), nil); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
			from.Flush()
		})
	}
}

// BenchmarkWrite is for clients: each message is waited for.
func BenchmarkWrite(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			l := sinkLink(b)
			b.ReportAllocs()
			b.SetParallelism(goroutines)
			b.ResetTimer()
			write := func() {
				if err := l.Write(context.Background(), text385); err != nil {
					b.Error(err)
				}
			}
			if goroutines == 1 {
				for range b.N {
					write()
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					write()
				}
			})
		})
	}
}

// BenchmarkRead reads messages as they come from a client, masked, so many in a burst.
func BenchmarkRead(b *testing.B) {
	for _, bc := range []struct{ inBurst, size int }{{1, 385}, {100, 385}, {1, 100_000}} {
		b.Run(fmt.Sprintf("inBurst=%d/size=%d", bc.inBurst, bc.size), func(b *testing.B) {
			read := make(chan int, 1)
			n := 0
			l, peer, ended := pair(b, roomy, func(data []byte, _ bool) bool {
				if n++; n%bc.inBurst == 0 {
					read <- len(data)
				}
				return true
			})
			var burst []byte
			for range bc.inBurst {
				burst = wsframe.AppendUnmasked(burst, wsframe.OpText, make([]byte, bc.size))
				header := len(burst) - bc.size
				copy(burst[header-wsframe.MaskBytes:header], "mask")
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += bc.inBurst {
				if _, err := peer.NetConn().Write(burst); err != nil {
					b.Fatal(err)
				}
				if <-read != bc.size {
					b.Fatal("another size")
				}
			}
			b.StopTimer()
			l.Close(1000, "", 0)
			testkit.Receive(b, ended)
		})
	}
}

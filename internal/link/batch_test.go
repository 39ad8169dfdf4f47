package link_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// Messages of all sizes pass, also those at the limits of a frame's header and
// of what is copied.
func TestSizes(t *testing.T) {
	l, peer, ended := pair(t, roomy, nil)
	sizes := []int{0, 1, 125, 126, 127, 65_535, 65_536, 8<<10 - 1, 8 << 10, 64 << 10, 64<<10 + 1, 1 << 20, 3, 200}
	var batch link.Batch
	for i, n := range sizes {
		data := bytes.Repeat([]byte{byte('a' + i)}, n)
		if err := batch.Send(l, data); err != nil {
			t.Fatal(err)
		}
	}
	batch.Flush()
	for i, n := range sizes {
		kind, data, err := peer.ReadMessage()
		if err != nil || kind != websocket.TextMessage || !bytes.Equal(data, bytes.Repeat([]byte{byte('a' + i)}, n)) {
			t.Fatalf("message %d of %d bytes: got %d of kind %d, %v", i, n, len(data), kind, err)
		}
	}
	l.Close(1000, "", 0)
	testkit.Receive(t, ended)
}

// What is sent by several goroutines, in batches, at once and with Write, while
// pings come, arrives in the order of each.
func TestOrderOfAllWays(t *testing.T) {
	l, peer, ended := pair(t, roomy, nil)
	const senders, count = 6, 2000
	var sending sync.WaitGroup
	for s := range senders {
		sending.Go(func() {
			var batch link.Batch
			defer batch.Flush()
			for i := range count {
				data := fmt.Appendf(nil, "%d %d %s", s, i, strings.Repeat("x", i%300))
				var err error
				switch s % 3 {
				case 0:
					if err = batch.Send(l, data); i%7 == 0 {
						batch.Flush()
					}
				case 1:
					err = l.Send(data)
				case 2:
					err = l.Write(context.Background(), data)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	pongs := 0
	peer.SetPongHandler(func(string) error {
		pongs++
		return nil
	})
	next := make([]int, senders)
	for n := range senders * count {
		if n%1000 == 0 {
			if err := peer.WriteControl(websocket.PingMessage, nil, time.Now().Add(testkit.Patience)); err != nil {
				t.Fatal(err)
			}
		}
		_, data, err := peer.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		var s, i int
		if _, err := fmt.Sscanf(string(data), "%d %d", &s, &i); err != nil || i != next[s] {
			t.Fatalf("got %.20q, want number %d; %v", data, next[s], err)
		}
		next[s]++
	}
	sending.Wait()
	l.Close(1000, "", 0)
	testkit.Receive(t, ended)
	if pongs == 0 {
		t.Error("no ping was answered")
	}
}

// A batch that is not flushed yet delays nothing that others send, and one link
// in two batches is woken by either.
func TestTwoBatches(t *testing.T) {
	l, peer, ended := pair(t, roomy, nil)
	var one, two link.Batch
	want := []string{"1", "2", "3"}
	for i, send := range []func([]byte) error{
		func(b []byte) error { return one.Send(l, b) }, func(b []byte) error { return two.Send(l, b) }, func(b []byte) error { return one.Send(l, b) },
	} {
		if err := send([]byte(want[i])); err != nil {
			t.Fatal(err)
		}
	}
	two.Flush()
	for _, text := range want {
		if _, data, err := peer.ReadMessage(); err != nil || string(data) != text {
			t.Errorf("got %q, %v; want %q", data, err, text)
		}
	}
	one.Flush()
	if err := one.Send(l, []byte("4")); err != nil {
		t.Fatal(err)
	}
	// A close writes what is queued, flushed or not.
	l.Close(4000, "", testkit.Patience)
	if _, data, err := peer.ReadMessage(); err != nil || string(data) != "4" {
		t.Errorf("got %q, %v", data, err)
	}
	_, _, _ = peer.ReadMessage()
	testkit.Receive(t, ended)
	if err := one.Send(l, nil); !errors.Is(err, link.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	one.Flush()
}

// The input is told to be used up before each wait for more, on the reading
// goroutine, and after all that has come was handled.
func TestInputIsDry(t *testing.T) {
	var handled, dry, last atomic.Int64
	input := new(link.Input)
	input.OnDry(func() {
		dry.Add(1)
		last.Store(handled.Load())
	})
	done := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := new(websocket.Upgrader).Upgrade(input.Watch(w), r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		done <- link.New(conn, roomy).Run(func([]byte, bool) bool {
			handled.Add(1)
			return true
		})
	}))
	defer srv.Close()
	peer, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(srv.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	// Many in one write.
	var burst []byte
	for range 100 {
		burst = append(binary.BigEndian.AppendUint32(append(burst, 0x81, 0x80|2), 0), "{}"...)
	}
	if _, err := peer.NetConn().Write(burst); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "all are handled, and the input is told to be used up", func() bool { return last.Load() == 100 })
	if n := dry.Load(); n > 50 {
		t.Errorf("it was told %d times", n)
	}
	peer.Close()
	testkit.Receive(t, done)
}

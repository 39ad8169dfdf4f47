package link_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// stressText is message i, of a size of its own: below and above what is copied
// into blocks, and what is written as it lies. It is not much smaller compressed.
func stressText(i int) string {
	sizes := []int{10, 300, 5, 9_000, 1, 40_000, 100}
	begin := i * 101 % 20_000
	return fmt.Sprintf("%d %s", i, unruly[begin:begin+sizes[i%len(sizes)]])
}

var unruly = func() string {
	data := make([]byte, 60_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data) // it never fails
	return base64.StdEncoding.EncodeToString(data)
}()

// Each frame goes to peers that read at once, that read only at the end, that
// vanish in the middle, and that may have little waiting for them, while memory
// that nobody should need any more is overwritten.
func TestOneFrameForAll(t *testing.T) {
	const count = 1500
	type target struct {
		link  *link.Link
		peer  *websocket.Conn
		ended <-chan error
	}
	var targets []target
	add := func(opts link.Options) target {
		l, peer, ended := pair(t, opts, nil)
		targets = append(targets, target{l, peer, ended})
		return targets[len(targets)-1]
	}
	quick, slow := []target{add(roomy), add(roomy)}, []target{add(roomy), add(roomy)}
	vanishing := []target{add(roomy), add(roomy), add(roomy)}
	bounded := add(link.Options{MaxMessage: 1 << 20, MaxQueued: 1 << 20})
	if err := tcpOf(bounded.peer).SetReadBuffer(1 << 16); err != nil { // or the kernel might hold all
		t.Fatal(err)
	}

	var full int // of the sender's goroutine
	url := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		l := accept(t, w, req, roomy)
		if l == nil {
			return
		}
		_ = l.Run(func(data []byte, _ bool) bool {
			f := l.NewFrame(data)
			for _, to := range targets {
				switch err := l.Forward(to.link, &f); {
				case errors.Is(err, link.ErrFull) && to == bounded:
					full++
					to.link.Close(4001, "too slow", testkit.Patience)
				case err != nil && !errors.Is(err, link.ErrClosed):
					t.Error(err)
				}
			}
			return true
		})
		if full != 1 {
			t.Errorf("the bounded one was full %d times", full)
		}
	})

	stop := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				link.Scribble()
				runtime.Gosched()
			}
		}
	})
	sender := dial(t, url)
	background.Go(func() {
		for i := 0; i < count; {
			var texts []string
			for n := i%40 + 1; n > 0 && i < count; n-- {
				texts = append(texts, stressText(i))
				i++
			}
			if _, err := sender.NetConn().Write(testkit.Burst(texts...)); err != nil {
				t.Error(err)
			}
		}
	})

	// expect reads all messages up to the one of that number, and returns how the
	// peer ended before, if it did.
	expect := func(who string, peer *websocket.Conn, upTo int) error {
		for i := range upTo {
			_, data, err := peer.ReadMessage()
			if err != nil {
				return err
			}
			if string(data) != stressText(i) {
				t.Errorf("%s: message %d is %.30q, %d bytes long", who, i, data, len(data))
				return nil
			}
		}
		return nil
	}
	for n, target := range vanishing {
		background.Go(func() {
			if err := expect("vanishing", target.peer, 100*(n+1)); err != nil {
				t.Error(err)
			}
			reset(target.peer)
		})
	}
	var reading sync.WaitGroup
	for _, target := range quick {
		reading.Go(func() {
			if err := expect("quick", target.peer, count); err != nil {
				t.Error(err)
			}
		})
	}
	reading.Wait()
	for _, target := range slow {
		if err := expect("slow", target.peer, count); err != nil {
			t.Error(err)
		}
	}
	if err := expect("bounded", bounded.peer, count); !websocket.IsCloseError(err, 4001) {
		t.Errorf("the bounded one ended with %v", err)
	}
	close(stop)
	background.Wait()
	for _, target := range targets {
		target.link.Close(1000, "", 0)
		testkit.Receive(t, target.ended)
	}
	sender.Close()
}

// A burst of more than may wait for a peer does not close one that reads.
func TestBurstOverTheBound(t *testing.T) {
	opts := roomy
	opts.MaxQueued = 10_000
	r := newRelay(t, opts)
	texts := make([]string, 100)
	for i := range texts {
		texts[i] = fmt.Sprint(i, strings.Repeat("x", 600))
	}
	if _, err := dial(t, r.url).NetConn().Write(testkit.Burst(texts...)); err != nil {
		t.Fatal(err)
	}
	for i, want := range texts {
		if _, data, err := r.peer.ReadMessage(); err != nil || string(data) != want {
			t.Fatalf("message %d: got %.20q, %v", i, data, err)
		}
	}
	r.target.Close(1000, "", 0)
	testkit.Receive(t, r.ended)
}

// Whoever sends a part of a message and no more holds little memory.
func TestHalfMessages(t *testing.T) {
	const peers = 300
	heap := func() int {
		runtime.GC()
		runtime.GC() // the first one leaves what lay in pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	var waiting sync.WaitGroup
	links := make(chan *link.Link, peers)
	url := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		if l := accept(t, w, req, roomy); l != nil {
			waiting.Add(1)
			defer waiting.Done()
			links <- l
			_ = l.Run(func([]byte, bool) bool { return true })
		}
	})
	measure := func(data []byte) (perPeer int) {
		before := heap()
		conns := make([]*websocket.Conn, peers)
		for i := range conns {
			conns[i] = dial(t, url)
			if _, err := conns[i].NetConn().Write(data); err != nil {
				t.Fatal(err)
			}
			l := testkit.Receive(t, links)
			// The answer says that what came before it was read.
			if err := conns[i].WriteControl(websocket.PingMessage, nil, time.Now().Add(testkit.Patience)); err != nil {
				t.Fatal(err)
			}
			pong := false
			conns[i].SetPongHandler(func(string) error {
				pong = true
				return l.Send([]byte("x"))
			})
			if _, _, err := conns[i].ReadMessage(); err != nil || !pong {
				t.Fatalf("%v, pong %v", err, pong)
			}
		}
		perPeer = (heap() - before) / peers
		for _, conn := range conns {
			reset(conn)
		}
		waiting.Wait()
		return perPeer
	}
	none := measure(nil)
	// The first fragment of a text, which is followed by nothing.
	first := byte(wsframe.OpText)
	if way == deflating {
		first |= wsframe.Deflated // it is not inflated before it is whole
	}
	half := measure(append([]byte{first, wsframe.Masked | 100, 0, 0, 0, 0}, strings.Repeat("x", 100)...))
	if half-none > 8<<10 {
		t.Errorf("a peer holds %d bytes, and %d with half a message", none, half)
	}
	t.Logf("a peer holds %d bytes, and %d with half a message", none, half)
}

// A client masks what it writes, or the server would end the link.
func TestClientMasks(t *testing.T) {
	sizes := []int{0, 1, 7, 8, 125, 126, 9_000, 65_535, 65_536, 300_000}
	got := make(chan string, 2*len(sizes))
	url := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		upgrader := websocket.Upgrader{EnableCompression: way == deflating}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		for {
			_, data, err := conn.ReadMessage()
			if err != nil {
				if !websocket.IsCloseError(err, 1000) {
					t.Error(err)
				}
				return
			}
			got <- string(data)
		}
	})
	l, ended := dialLink(t, url, roomy, func(*link.Link, []byte, bool) bool { return true })
	for i, n := range sizes {
		text := strings.Repeat(string(rune('a'+i)), n)
		if err := l.Send([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := l.Write(context.Background(), []byte(text)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if testkit.Receive(t, got) != text {
				t.Errorf("%d bytes arrived changed", n)
			}
		}
	}
	l.Close(1000, "", testkit.Patience)
	testkit.Receive(t, ended)
}

// Pings go to a peer in their time, and one that is silent for two of them is
// given up; one that answers is not.
func TestPings(t *testing.T) {
	opts := roomy
	opts.PingEvery = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		_, peer, ended := pipePair(t, opts)
		began := time.Now()
		var pings []time.Duration
		peer.SetPingHandler(func(payload string) error {
			pings = append(pings, time.Since(began))
			if len(pings) > 3 {
				return nil // silent from now on
			}
			return peer.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(time.Second))
		})
		for {
			if _, _, err := peer.ReadMessage(); err != nil {
				break
			}
		}
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "silent for 20s") {
			t.Errorf("Run returned %v", err)
		}
		// The last sign of life came at 30 s.
		if d := time.Since(began); d != 50*time.Second || fmt.Sprint(pings) != "[10s 20s 30s 40s]" {
			t.Errorf("it ended after %v, with pings at %v", d, pings)
		}
		peer.Close()
	})
}

package link_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// way is how all links write: they keep the same promises.
var way int

const (
	direct    = iota // what the socket takes at once without a goroutine
	goroutine        // as on a connection that is no plain socket
	deflating        // compressed
	secure           // over TLS
	ways
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(allWays{m})
}

type allWays struct{ m *testing.M }

func (a allWays) Run() (code int) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() != "" || flag.Lookup("test.fuzz").Value.String() != "" {
		return a.m.Run() // benchmarks are for the first way, and fuzzing has none
	}
	for way = range ways {
		if failed := a.m.Run(); failed != 0 {
			code = failed
			fmt.Println("it failed when links write", [...]string{"directly", "on a goroutine", "compressed", "over TLS"}[way])
		}
	}
	return code
}

// hidden is a connection of which is not seen what it is.
type hidden struct{ net.Conn }

func (h hidden) CloseWrite() error { return h.Conn.(*net.TCPConn).CloseWrite() }

type hidingListener struct{ net.Listener }

func (l hidingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil && way == goroutine {
		conn = hidden{conn}
	}
	return conn, err
}

// newServer is httptest.NewServer for links.
func newServer(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(handler)
	srv.Listener = hidingListener{srv.Listener}
	if way == secure {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return "ws" + strings.TrimPrefix(srv.URL, "http")
}

// unverified is for clients: whom they talk to is not what is tested.
var unverified = &tls.Config{InsecureSkipVerify: true}

// dial connects to a server of newServer.
func dial(t testing.TB, url string) *websocket.Conn {
	t.Helper()
	dialer := websocket.Dialer{TLSClientConfig: unverified, EnableCompression: way == deflating}
	conn, _, err := dialer.Dial(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(testkit.Patience))
	return conn
}

// reset closes a connection without another word.
func reset(peer *websocket.Conn) {
	raw := tcpOf(peer)
	_ = raw.SetLinger(0)
	raw.Close()
}

// tcpOf returns the socket of a connection.
func tcpOf(peer *websocket.Conn) *net.TCPConn {
	raw := peer.NetConn()
	if secured, ok := raw.(*tls.Conn); ok {
		raw = secured.NetConn()
	}
	return raw.(*net.TCPConn)
}

// accept makes a link of a request.
func accept(t testing.TB, w http.ResponseWriter, r *http.Request, opts link.Options) *link.Link {
	opts.Deflate = wsframe.OfferDeflate(r.Header) && way == deflating
	input := new(link.Input)
	upgrader := websocket.Upgrader{ReadBufferSize: link.ReadBufferSize, EnableCompression: way == deflating}
	if _, err := upgrader.Upgrade(input.Watch(w), r, nil); err != nil {
		t.Error(err)
		return nil
	}
	return link.New(input, opts)
}

// pair returns a link over a real socket, running, and its bare peer.
func pair(t testing.TB, opts link.Options, handle func([]byte, bool) bool) (*link.Link, *websocket.Conn, <-chan error) {
	t.Helper()
	links := make(chan *link.Link, 1)
	ended := make(chan error, 1)
	if handle == nil {
		handle = func([]byte, bool) bool { return true }
	}
	url := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if l := accept(t, w, r, opts); l != nil {
			links <- l
			ended <- l.Run(handle)
		}
	})
	peer := dial(t, url)
	return <-links, peer, ended
}

var roomy = link.Options{MaxMessage: 1 << 20, MaxQueued: 1 << 30}

func TestCloseWritesTheQueueFirst(t *testing.T) {
	l, peer, ended := pair(t, roomy, nil)
	for i := range 100 {
		if err := l.Send(fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if !l.Close(4321, "the reason", testkit.Patience) || l.Close(4000, "a second one counts for nothing", testkit.Patience) {
		t.Error("Close does not tell which was the first")
	}
	if err := l.Send(nil); !errors.Is(err, link.ErrClosed) {
		t.Errorf("Send after Close: %v", err)
	}
	if err := l.Write(context.Background(), nil); !errors.Is(err, link.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	for i := range 100 {
		if _, data, err := peer.ReadMessage(); err != nil || string(data) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q, %v", i, data, err)
		}
	}
	_, _, err := peer.ReadMessage()
	if !websocket.IsCloseError(err, 4321) || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("the peer got %v", err)
	}
	var ce *link.CloseError
	if err := testkit.Receive(t, ended); !errors.As(err, &ce) || ce.Code != 4321 || ce.ByPeer {
		t.Errorf("Run returned %v", err)
	}
}

func TestPeerCloses(t *testing.T) {
	_, peer, ended := pair(t, roomy, nil)
	if err := peer.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "bye"), time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	var ce *link.CloseError
	if err := testkit.Receive(t, ended); !errors.As(err, &ce) || ce.Code != 1000 || ce.Reason != "bye" || !ce.ByPeer {
		t.Errorf("Run returned %v", err)
	}
	if _, _, err := peer.ReadMessage(); !websocket.IsCloseError(err, 1000) {
		t.Errorf("the answer is %v", err)
	}
}

// A peer that vanishes while messages wait: every Write has its result.
func TestPeerVanishes(t *testing.T) {
	l, peer, ended := pair(t, roomy, nil)
	const messages = 200
	big := bytes.Repeat([]byte{'x'}, 1<<18) // 50 MiB in all: more than sockets buffer
	results := make(chan error, messages)
	for range messages {
		go func() { results <- l.Write(context.Background(), big) }()
	}
	if _, _, err := peer.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	reset(peer)
	if err := testkit.Receive(t, ended); err == nil {
		t.Error("Run returned nil")
	}
	failures := 0
	for range messages {
		if testkit.Receive(t, results) != nil {
			failures++
		}
	}
	if failures == 0 {
		t.Error("all were called written")
	}
}

func TestQueueIsBounded(t *testing.T) {
	opts := roomy
	opts.MaxQueued = 1000
	l, peer, ended := pair(t, opts, nil)
	message := []byte(unruly[:1<<16]) // one alone may exceed the bound, or it could never be sent
	sent := 0
	for {
		err := l.Send(message)
		if errors.Is(err, link.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sent++
	}
	if sent < 1 {
		t.Error("not even one was taken")
	}
	l.Close(1000, "", 0)
	testkit.Receive(t, ended)
	peer.Close()
}

func TestRulesOfReading(t *testing.T) {
	for name, tc := range map[string]struct {
		kind int
		data string
		code int
	}{
		"too big":   {websocket.TextMessage, strings.Repeat("x", 1001), websocket.CloseMessageTooBig},
		"bad UTF-8": {websocket.TextMessage, "\xff", websocket.CloseInvalidFramePayloadData},
	} {
		var got atomic.Int32
		_, peer, ended := pair(t, link.Options{MaxMessage: 1000, MaxQueued: 1000}, func(data []byte, _ bool) bool {
			if utf8.Valid(data) { // as a parser does
				got.Add(1)
				return true
			}
			return false
		})
		if err := peer.WriteMessage(tc.kind, []byte(strings.Repeat("x", 1000))); err != nil {
			t.Fatal(err)
		}
		if err := peer.WriteMessage(tc.kind, []byte(tc.data)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := peer.ReadMessage(); !websocket.IsCloseError(err, tc.code) {
			t.Errorf("%s: the peer got %v", name, err)
		}
		var ce *link.CloseError
		if err := testkit.Receive(t, ended); !errors.As(err, &ce) || ce.Code != tc.code {
			t.Errorf("%s: Run returned %v", name, err)
		}
		if got.Load() != 1 {
			t.Errorf("%s: %d messages were handled", name, got.Load())
		}
	}
}

// A reason is cut to what a close frame holds, between characters.
func TestLongReason(t *testing.T) {
	l, peer, ended := pair(t, roomy, nil)
	l.Close(4000, strings.Repeat("长", 100), testkit.Patience)
	_, _, err := peer.ReadMessage()
	var ce *websocket.CloseError
	if !errors.As(err, &ce) || len(ce.Text) < 120 || !utf8.ValidString(ce.Text) {
		t.Errorf("the peer got %v", err)
	}
	testkit.Receive(t, ended)
}

// pipePair is pair over a pipe in memory, for synctest's clock.
func pipePair(t *testing.T, opts link.Options) (*link.Link, *websocket.Conn, <-chan error) {
	t.Helper()
	links := make(chan *link.Link, 1)
	ended := make(chan error, 1)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l := accept(t, w, r, opts); l != nil {
			links <- l
			ended <- l.Run(func([]byte, bool) bool { return true })
		}
	})}
	network := testkit.NewPipes()
	go srv.Serve(network)
	t.Cleanup(func() { srv.Close() })
	dialer := websocket.Dialer{NetDialContext: network.Dial, EnableCompression: way == deflating}
	peer, _, err := dialer.Dial("ws://pipe/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return <-links, peer, ended
}

// A peer that neither reads nor answers is cut off when patience is over.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, peer, ended := pipePair(t, roomy)
		if err := l.Send([]byte("never read")); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		l.Close(1001, "", 3*time.Second)
		<-ended
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("it took %v", d)
		}
		peer.Close()
	})
}

// A peer to which little is sent, and that does not read it, is found by the
// time-out of writing.
func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, peer, ended := pipePair(t, roomy)
		began := time.Now()
		if err := l.Write(context.Background(), []byte("never read")); err == nil {
			t.Error("it was called written")
		}
		if err := <-ended; err == nil || time.Since(began) != time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		peer.Close()
	})
}

// A Write whose context ends: the message that is being written may arrive,
// those behind it are withdrawn and do not. A ping is answered as soon as there
// is room.
func TestWithdrawAndPong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, peer, ended := pipePair(t, roomy)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		results := make(chan error, 2)
		for _, text := range []string{"begun", "withdrawn"} {
			go func() { results <- l.Write(ctx, []byte(text)) }()
			synctest.Wait()
		}
		if err := peer.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		var withdrawn int
		for range 2 {
			err := <-results
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Write returned %v", err)
			}
			if errors.Is(err, link.ErrWithdrawn) {
				withdrawn++
			}
		}
		if withdrawn != 1 {
			t.Errorf("%d were withdrawn", withdrawn)
		}
		if err := l.Send([]byte("after")); err != nil {
			t.Fatal(err)
		}
		pongs := 0
		peer.SetPongHandler(func(payload string) error {
			if payload == "are you there" {
				pongs++
			}
			return nil
		})
		for _, want := range []string{"begun", "after"} {
			if _, data, err := peer.ReadMessage(); err != nil || string(data) != want {
				t.Errorf("got %q, %v; want %q", data, err, want)
			}
		}
		if pongs != 1 {
			t.Errorf("%d pongs", pongs)
		}
		l.Close(1000, "", 0)
		<-ended
		peer.Close()
	})
}

// After a close frame a peer that does not answer gets a short while.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, peer, ended := pipePair(t, roomy)
		peer.SetCloseHandler(func(int, string) error { return nil })
		go func() {
			for {
				if _, _, err := peer.ReadMessage(); err != nil {
					return
				}
			}
		}()
		began := time.Now()
		l.Close(1001, "", time.Hour)
		<-ended
		if d := time.Since(began); d != 500*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		peer.Close()
	})
}

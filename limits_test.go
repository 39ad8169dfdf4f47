package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// Connections are bounded in all, and for each address but those of this machine;
// one that ends makes room.
func TestConnectionLimits(t *testing.T) {
	server, url := mount(t, crosscomm.Config{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
		Limits:         crosscomm.Limits{Connections: 5, ConnectionsPerAddress: 2},
	})
	var open []*rawPeer
	from := func(addr string) int {
		p, resp := shakeHands(t, url, http.Header{"X-Forwarded-For": {addr}})
		if p != nil {
			open = append(open, p)
		}
		return resp.StatusCode
	}
	const ok, busy, full = http.StatusSwitchingProtocols, http.StatusTooManyRequests, http.StatusServiceUnavailable
	got := []int{from("192.0.2.1"), from("192.0.2.1"), from("192.0.2.1"), from("2001:db8::1"), from("2001:db8::2"), from("2001:db8::3"), from("127.0.0.1"), from("127.0.0.1"), from("192.0.2.2")}
	if want := []int{ok, ok, busy, ok, ok, busy, ok, full, full}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if stats := server.Stats(); stats.Connections != 5 || stats.TurnedAway != 4 {
		t.Errorf("%+v", stats)
	}
	open[0].Close()
	testkit.Eventually(t, "there is room again", func() bool { return server.Stats().Connections == 4 })
	if got := from("192.0.2.1"); got != ok {
		t.Errorf("got %d", got)
	}
}

// What is not yet a WebSocket, or none, is bounded too, by the network connections.
func TestHalfOpenLimit(t *testing.T) {
	server := startServer(t, crosscomm.Config{Limits: crosscomm.Limits{Connections: 3}})
	for range 3 {
		conn := dialTCP(t, server.addr)
		if _, err := conn.Write([]byte("GET / HTTP/1.1\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "a further one is cut", func() bool {
		conn := dialTCP(t, server.addr)
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err := conn.Read(make([]byte, 1))
		return err != nil && !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "timeout")
	})
	if server.Stats().TurnedAway == 0 {
		t.Error("it was not counted")
	}
}

// A request that announces a body, and does not send it, is ended, whatever else it
// is.
func TestStalledBody(t *testing.T) {
	server := startServer(t, crosscomm.Config{Token: goodToken, Limits: crosscomm.Limits{HeaderTimeout: time.Second}})
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	conns := map[*[2]string]net.Conn{}
	tries := [][2]string{
		{"426", "OPTIONS * HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"},
		{"426", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"},
		{"404", "POST /_crosscomm/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"401", "GET / HTTP/1.1\r\nHost: x\r\n" + upgrade + "Content-Length: 1000\r\n\r\n"},
		{"408", "GET / HTTP/1.1\r\nHost: x\r\n"},
	}
	for i := range tries {
		conns[&tries[i]] = dialTCP(t, server.addr)
		if _, err := conns[&tries[i]].Write([]byte(tries[i][1])); err != nil {
			t.Fatal(err)
		}
	}
	for try, conn := range conns {
		want := try[0]
		_ = conn.SetReadDeadline(time.Now().Add(testkit.Patience))
		answer, err := io.ReadAll(conn)
		if status, _, _ := strings.Cut(strings.TrimPrefix(string(answer), "HTTP/1.1 "), " "); err != nil || status != want && !(want == "408" && status == "") {
			t.Errorf("%s: %q, %v", want, answer, err)
		}
	}
}

// Headers are bounded, with room for a token.
func TestLargeHeaders(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	for size, want := range map[int]int{30_000: http.StatusUpgradeRequired, 50_000: http.StatusRequestHeaderFieldsTooLarge} {
		req, err := http.NewRequestWithContext(testContext(t), http.MethodGet, "http://"+server.addr+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X", strings.Repeat("x", size))
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d bytes: %s", size, resp.Status)
		}
	}
}

// A client that sends more than it may is read more slowly, and loses nothing. Here
// the clock is synctest's: 10 messages at once, and then 10 a second.
func TestMessageRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		logs := new(logBuffer)
		server, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true, Logger: logs.logger(), Limits: crosscomm.Limits{MessagesPerSecond: 10}})
		defer stop()
		ctx := context.Background()
		fast, third, other := clientOn(t, network, "fast", crosscomm.Config{}), clientOn(t, network, "third", crosscomm.Config{}), clientOn(t, network, "other", crosscomm.Config{})
		onOther := collect(other, crosscomm.ListenerOptions{})
		for _, c := range []*crosscomm.Service{fast, third, other} {
			if err := c.Login(ctx); err != nil {
				t.Fatal(err)
			}
			defer c.Logout(ctx)
		}
		began := time.Now()
		const count = 108 // and a login and a heartbeat
		for i := range count {
			if err := fast.SendMessage(ctx, i, crosscomm.TypeText, "other"); err != nil {
				t.Fatal(err)
			}
		}
		for i := range count {
			if m := <-onOther; m.Text() != fmt.Sprint(i) {
				t.Fatalf("message %d is %s", i, m.Text())
			}
		}
		// The last of them is taken when those before it have been paid for.
		if took := time.Since(began).Round(time.Second); took < 9*time.Second || took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		// Nobody else is held up by it: what another one sends meanwhile overtakes it.
		var sending sync.WaitGroup
		defer sending.Wait()
		sending.Go(func() {
			if err := fast.SendMessage(ctx, "held up", crosscomm.TypeText, "other"); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if err := third.SendMessage(ctx, "from another", crosscomm.TypeText, "other"); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"from another", "held up"} {
			if m := <-onOther; m.Text() != want {
				t.Errorf("got %q, want %q", m.Text(), want)
			}
		}
		if server.Stats().Throttled == 0 || !strings.Contains(logs.String(), "read more slowly") || !strings.Contains(logs.String(), "client_id=fast") {
			t.Errorf("it is not told: %+v", server.Stats())
		}
	})
}

// Who logs in and out in a loop does not fill the log.
func TestComingsDoNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		logs := new(logBuffer)
		_, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true, Logger: logs.logger()})
		defer stop()
		p := rawOn(t, network, "p")
		defer p.Close()
		again := func() {
			p.write(frameOf("p", "server", "logout", "{}"))
			p.write(frameOf("p", "server", "login", "{}"))
			if got := p.read(); !strings.Contains(got, "login_response") {
				t.Fatalf("got %s", got)
			}
		}
		for range 1000 {
			again()
		}
		lines := strings.Count(logs.String(), "msg=login") + strings.Count(logs.String(), "msg=logout")
		if lines != 20 {
			t.Errorf("%d lines", lines)
		}
		<-time.After(time.Second)
		again()
		if left := fmt.Sprintf("not_logged=%d", 1+2*1000-lines); !strings.Contains(logs.String(), left) {
			t.Errorf("it does not tell that %s", left)
		}
	})
}

// Frames that are no message count, too.
func TestPingRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		server, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true, Limits: crosscomm.Limits{MessagesPerSecond: 10}})
		defer stop()
		p := rawOn(t, network, "p")
		defer p.Close()
		go p.discard()
		began := time.Now()
		for range 110 {
			if err := p.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began).Round(time.Second); took < 9*time.Second || took > 11*time.Second || server.Stats().Throttled == 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// Who is read more slowly is not taken for silent: it stays, and gets its messages.
func TestThrottledIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		server, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true, HeartbeatInterval: time.Second, HeartbeatTimeout: 3 * time.Second,
			Limits: crosscomm.Limits{MessagesPerSecond: 1}})
		defer stop()
		p := rawOn(t, network, "p")
		defer p.Close()
		p.SetPingHandler(func(string) error { return nil }) // to answer would wait for the pause
		beat := frameOf("p", "server", "heartbeat", "{}")
		if _, err := p.NetConn().Write(testkit.Burst(slices.Repeat([]string{beat}, 20)...)); err != nil {
			t.Fatal(err)
		}
		<-time.After(15 * time.Second)
		if err := server.SendMessage(context.Background(), "still there?", crosscomm.TypeText, "p"); err != nil {
			t.Error(err)
		}
		if got := p.read(); !strings.Contains(got, "still there?") {
			t.Errorf("got %s", got)
		}
		go p.discard()
		<-time.After(30 * time.Second) // it has said nothing since it is read again
		if online := server.GetOnlineClients(); len(online) != 0 {
			t.Errorf("online: %v", online)
		}
	})
}

// The same for bytes, and for lists of clients, each of which counts for as many
// messages as it has clients.
func TestByteAndListRates(t *testing.T) {
	for name, tc := range map[string]struct {
		limits crosscomm.Limits
		do     func(ctx context.Context, c *crosscomm.Service) error
		times  int
		least  time.Duration
	}{
		"bytes": {crosscomm.Limits{BytesPerSecond: 10_000}, func(ctx context.Context, c *crosscomm.Service) error {
			return c.SendMessage(ctx, strings.Repeat("x", 4_800), crosscomm.TypeText, crosscomm.All)
		}, 22, 8 * time.Second},
		"lists": {crosscomm.Limits{MessagesPerSecond: 200}, func(ctx context.Context, c *crosscomm.Service) error {
			list, err := c.ListClients(ctx, false)
			if err == nil && len(list.Clients) != 100 {
				err = fmt.Errorf("there are %d clients", len(list.Clients))
			}
			return err
		}, 20, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "state.yaml")
			var state strings.Builder
			for i := range 99 {
				fmt.Fprintf(&state, "client%d:\n  status: offline\n  last_seen: 1.0\n", i)
			}
			testkit.WriteTree(t, dir, map[string]string{"state.yaml": state.String()})
			synctest.Test(t, func(t *testing.T) {
				network := testkit.NewPipes()
				_, stop := serveOn(t, network, crosscomm.Config{StateFile: path, Limits: tc.limits})
				defer stop()
				c := clientOn(t, network, "c", crosscomm.Config{})
				ctx := context.Background()
				if err := c.Login(ctx); err != nil {
					t.Fatal(err)
				}
				defer c.Logout(ctx)
				began := time.Now()
				for range tc.times {
					if err := tc.do(ctx, c); err != nil {
						t.Fatal(err)
					}
				}
				if took := time.Since(began); took < tc.least || took > 2*tc.least {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// Whoever does not read gets the less room, the more they are, and the sum stays
// within its bound; who reads gets everything.
func TestTotalQueuedBytes(t *testing.T) {
	const inAll = 8 << 20
	server := startServer(t, crosscomm.Config{Limits: crosscomm.Limits{TotalQueuedBytes: inAll}})
	reader, sender := loginRaw(t, server.addr, "reader"), loginRaw(t, server.addr, "sender")
	const stalled = 20
	for i := range stalled {
		p := loginRaw(t, server.addr, fmt.Sprint("stalled", i))
		_ = p.NetConn().(interface{ SetReadBuffer(int) error }).SetReadBuffer(4 << 10)
	}
	most := 0
	for i := 0; server.Stats().TooSlow < stalled; i++ {
		text := frameOf("sender", "all", "text", fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", 50_000)))
		sender.write(text)
		if got := reader.read(); got != text {
			t.Fatalf("message %d is %.30q", i, got)
		}
		most = max(most, server.Stats().Queued)
	}
	if most > inAll || most < inAll/2 {
		t.Errorf("%d bytes were queued at most, of %d", most, inAll)
	}
	testkit.Eventually(t, "what was queued is given up", func() bool { return server.Stats().Queued == 0 })
}

// Half a message holds little before a login, and is counted with what is queued after
// it: many of them are ended before they hold more than the bound.
func TestHalfMessages(t *testing.T) {
	const inAll = 4 << 20
	server := startServer(t, crosscomm.Config{Limits: crosscomm.Limits{TotalQueuedBytes: inAll}})
	stranger := dialRaw(t, server.addr)
	stranger.write(strings.Repeat("x", 17<<10))
	stranger.closedWith(websocket.CloseMessageTooBig, "16384")

	half := append(wsframe.AppendHeader(nil, wsframe.OpText, 1<<20, wsframe.Masked), make([]byte, 4+900<<10)...)
	var ends []<-chan error
	for i := range 20 {
		p := loginRaw(t, server.addr, fmt.Sprint("half", i))
		end := make(chan error, 1)
		ends = append(ends, end)
		go func() {
			_, _ = p.NetConn().Write(half)
			_, _, err := p.next()
			end <- err
		}()
		testkit.Eventually(t, "it holds, or is gone", func() bool { return len(end) > 0 || server.Stats().Queued > 0 })
		if queued := server.Stats().Queued; queued > inAll {
			t.Fatalf("%d bytes are held, of %d", queued, inAll)
		}
	}
	if err := testkit.Receive(t, ends[19]); !websocket.IsCloseError(err, websocket.CloseTryAgainLater) {
		t.Errorf("the last one ended with %v", err)
	}
	server.stop()
	if queued := server.Stats().Queued; queued != 0 {
		t.Errorf("%d bytes are still held", queued)
	}
}

// A server remembers a bounded number of clients; those who have been away for
// longest go first, none who is there, and one who comes back is reachable.
func TestForgottenClients(t *testing.T) {
	server := startServer(t, crosscomm.Config{Limits: crosscomm.Limits{KnownClients: 3}})
	sender := loginRaw(t, server.addr, "sender")
	old := loginRaw(t, server.addr, "old")
	sender.write(frameOf("sender", "old", "text", `"first"`)) // the server now knows where that is
	if got := old.read(); !strings.Contains(got, "first") {
		t.Fatalf("got %s", got)
	}
	leave := func(p *rawPeer) {
		p.Close()
		testkit.Eventually(t, p.id+" has left", func() bool { return !slices.Contains(server.GetOnlineClients(), p.id) })
	}
	leave(old)
	for i := range 5 {
		leave(loginRaw(t, server.addr, fmt.Sprint("brief", i)))
	}
	var known []string
	for _, c := range server.Clients() {
		known = append(known, c.ClientID)
	}
	if want := []string{"brief3", "brief4", "sender"}; !slices.Equal(known, want) {
		t.Errorf("known are %v, want %v", known, want)
	}
	if n := server.Stats().Forgotten; n != 4 {
		t.Errorf("%d are forgotten", n)
	}
	old = loginRaw(t, server.addr, "old")
	sender.write(frameOf("sender", "old", "text", `"again"`))
	if got := old.read(); !strings.Contains(got, "again") {
		t.Errorf("got %s", got)
	}
}

// A message that would end the link of its receiver goes only to those who take it.
func TestLargeMessages(t *testing.T) {
	logs := new(logBuffer)
	server := startServer(t, crosscomm.Config{MaxMessageSize: 4 << 20, Logger: logs.logger()})
	plain := loginRaw(t, server.addr, "plain")
	small := login(t, server.addr, "small")
	big := newClient(t, server.addr, "big", crosscomm.Config{MaxMessageSize: 8 << 20})
	ctx := testContext(t)
	if err := big.Login(ctx); err != nil {
		t.Fatal(err)
	}
	onSmall, onBig := collect(small, crosscomm.ListenerOptions{}), collect(big, crosscomm.ListenerOptions{})
	text := strings.Repeat("x", 2<<20)
	plain.write(frameOf("plain", "all", "text", `"`+text+`"`))
	plain.write(frameOf("plain", "small", "text", `"`+text+`"`))
	plain.write(frameOf("plain", "all", "text", `"short"`))
	if m := testkit.Receive(t, onBig); m.Text() != text {
		t.Errorf("got %d bytes", len(m.Text()))
	}
	if m := testkit.Receive(t, onSmall); m.Text() != "short" {
		t.Errorf("got %d bytes", len(m.Text()))
	}
	if stats := server.Stats(); stats.Refused != 2 || stats.Undelivered != 1 || !strings.Contains(logs.String(), "is too large for") {
		t.Errorf("%+v", stats)
	}
	for to, want := range map[string]error{"plain": crosscomm.ErrTooLarge, "small": crosscomm.ErrTooLarge, "big": nil, "all": nil} {
		if err := server.SendMessage(ctx, text, crosscomm.TypeText, to); !errors.Is(err, want) {
			t.Errorf("to %s: %v", to, err)
		}
	}
	if err := big.SendMessage(ctx, strings.Repeat("x", 5<<20), crosscomm.TypeText, "all"); !errors.Is(err, crosscomm.ErrTooLarge) || !strings.Contains(err.Error(), "the server may take 4194304") {
		t.Errorf("more than the server takes: %v", err)
	}
	plain.write(frameOf("plain", "small", "text", `"still here"`))
	if m := testkit.Receive(t, onSmall); m.Text() != "still here" {
		t.Errorf("got %d bytes", len(m.Text()))
	}
}

// Ids and nesting have their bounds, which an operator may lower.
func TestIDAndNestingLimits(t *testing.T) {
	server := startServer(t, crosscomm.Config{Limits: crosscomm.Limits{IDLength: 8, Nesting: 5}})
	for id, want := range map[string]string{
		"123456789": "at most 8", "server": "reserved", "a\u200bb": "U+200B", "a\u202eb": "U+202E", "\ufeffa": "U+FEFF", "": "empty", "a\\u0000b": "U+0000",
	} {
		p := dialRaw(t, server.addr)
		p.write(frameOf(id, "server", "login", "{}"))
		p.closedWith(crosscomm.CloseLoginRejected, want)
	}
	for i, id := range []string{"12345678", "客户", "a b", "👩‍🚀"} {
		if err := newClient(t, server.addr, id, crosscomm.Config{}).Login(testContext(t)); (err == nil) != (i < 3) { // the last has 11 bytes
			t.Errorf("%q: %v", id, err)
		}
	}
	p := loginRaw(t, server.addr, "p")
	p.write(frameOf("p", "p", "dict", `[[[[[]]]]]`))
	p.write(frameOf("p", "p", "dict", `[[[[]]]]`))
	if got := p.read(); got != frameOf("p", "p", "dict", `[[[[]]]]`) {
		t.Errorf("got %s", got)
	}
}

// Limits that make no sense are errors, and a client has none.
func TestLimitErrors(t *testing.T) {
	for want, cfg := range map[string]crosscomm.Config{
		"Limits: Connections is negative": {Role: crosscomm.Server, Limits: crosscomm.Limits{Connections: -1}},
		"Limits: IDLength is 300":         {Role: crosscomm.Server, Limits: crosscomm.Limits{IDLength: 300}},
		"Limits: Nesting is 1000":         {Role: crosscomm.Server, Limits: crosscomm.Limits{Nesting: 1000}},
		"Limits are a server's":           {Role: crosscomm.Client, Limits: crosscomm.Limits{Connections: 1}},
		"an origin looks like":            {Role: crosscomm.Server, AllowedOrigins: []string{"app.example.com"}},
		"Token: a token must be":          {Role: crosscomm.Client, Token: "two words"},
	} {
		if _, err := crosscomm.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// Requests for lists of clients that come in at once are not answered at once.
func TestListsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		server, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true, Limits: crosscomm.Limits{MessagesPerSecond: 10}})
		defer stop()
		p := rawOn(t, network, "p")
		defer p.Close()
		for _, id := range []string{"a", "b", "c"} {
			defer rawOn(t, network, id).Close()
		}
		go p.discard()
		before := server.Stats().Delivered
		list := frameOf("p", "server", "list_clients", "{}")
		if _, err := p.NetConn().Write(testkit.Burst(list, list, list, list, list, list, list, list)); err != nil {
			t.Fatal(err)
		}
		for second, want := range []uint64{3, 5, 8} { // of 4 clients each
			synctest.Wait()
			if got := server.Stats().Delivered - before; got != want {
				t.Errorf("after %d s there are %d answers, want %d", second, got, want)
			}
			<-time.After(time.Second)
		}
	})
}

// Who asks on and on, and reads no answer, is cut. In memory: sockets take megabytes before
// anybody has to wait.
func TestAnswersThatNobodyReads(t *testing.T) {
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET /_crosscomm/ HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n" + upgrade + "\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			network := testkit.NewPipes()
			_, stop := serveOn(t, network, crosscomm.Config{Token: goodToken, NoStateFile: true})
			defer stop()
			conn, err := network.Dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetWriteDeadline(time.Now().Add(time.Minute))
			for err == nil {
				_, err = conn.Write([]byte(request))
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%.30q: the server still waits for its answers to be read", request)
			}
		})
	}
}

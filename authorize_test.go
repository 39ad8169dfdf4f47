package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// shakeHands makes a bare handshake, and returns the connection or the answer.
func shakeHands(t *testing.T, url string, header http.Header) (*rawPeer, *http.Response) {
	t.Helper()
	conn, resp, err := websocket.DefaultDialer.DialContext(testContext(t), url, header)
	if err == nil {
		t.Cleanup(func() { conn.Close() })
		return &rawPeer{Conn: conn, t: t}, resp
	}
	if !errors.Is(err, websocket.ErrBadHandshake) {
		t.Fatal(err)
	}
	return nil, resp
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// Authorize sees the handshake, and then each login, and its word is what the
// client is told.
func TestAuthorize(t *testing.T) {
	server := startServer(t, crosscomm.Config{Limits: crosscomm.Limits{FailedLoginsPerMinute: 1000}, Authorize: func(r *http.Request, id string) error {
		switch user := r.Header.Get("X-User"); {
		case user == "":
			return errors.New("who are you?")
		case r.Context().Err() != nil:
			return errors.New("the context has ended")
		case id == "" && user == "banned":
			return errors.New("not you")
		case id != "" && id != user:
			return fmt.Errorf("you are not %s", id)
		}
		return nil
	}})
	as := func(user string) http.Header { return http.Header{"X-User": {user}} }
	for user, want := range map[string]string{"": "who are you?", "banned": "not you"} {
		_, resp := shakeHands(t, server.url(), as(user))
		body := make([]byte, 100)
		n, _ := resp.Body.Read(body)
		if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(string(body[:n]), want) {
			t.Errorf("%q: %v, %s", user, resp.Status, body[:n])
		}
	}
	p, _ := shakeHands(t, server.url(), as("me"))
	p.write(frameOf("me", "server", "login", "{}"))
	if got := p.read(); !strings.Contains(got, "login_response") {
		t.Fatalf("got %s", got)
	}
	// A connection may log out and in again, and is judged again.
	p.write(frameOf("me", "server", "logout", "{}"))
	p.write(frameOf("you", "server", "login", "{}"))
	p.closedWith(crosscomm.CloseLoginRejected, "you are not you")
	if online := server.GetOnlineClients(); len(online) != 0 {
		t.Errorf("online: %v", online)
	}
}

// Authorize sees what stands in front of a mounted server has put into the context, at
// each login.
func TestAuthorizeSeesValues(t *testing.T) {
	type key struct{}
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, NoStateFile: true, Authorize: func(r *http.Request, id string) error {
		if user := r.Context().Value(key{}); user != "me" || r.Context().Value(http.ServerContextKey) == nil || id != "" && id != user {
			return fmt.Errorf("%v is not %s", user, id)
		}
		return r.Context().Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		svc.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, "me")))
	}))
	defer web.Close()
	defer svc.Stop(context.Background())
	addr := strings.TrimPrefix(web.URL, "http://")
	loginRaw(t, addr, "me")
	p := dialRaw(t, addr)
	p.write(frameOf("you", "server", "login", "{}"))
	p.closedWith(crosscomm.CloseLoginRejected, "me is not you")
}

// An Authorize that blocks is told when nobody waits for it any more: when the time for
// a login is over, or the client has gone in the middle of the handshake.
func TestAuthorizeBlocks(t *testing.T) {
	asked := make(chan string, 2)
	server, url := mount(t, crosscomm.Config{Limits: crosscomm.Limits{LoginTimeout: time.Second}, Authorize: func(r *http.Request, id string) error {
		if id == "" && r.URL.Path != "/blocks" {
			return nil
		}
		asked <- id
		<-r.Context().Done()
		return r.Context().Err()
	}})
	p, _ := shakeHands(t, url, nil)
	p.write(frameOf("p", "server", "login", "{}"))
	p.closedWith(crosscomm.CloseLoginTimeout, "no login")
	testkit.Receive(t, asked)
	conn := dialTCP(t, strings.TrimPrefix(url, "ws://"))
	if _, err := io.WriteString(conn, "GET /blocks HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, asked)
	conn.Close()
	testkit.Eventually(t, "nobody waits", func() bool { return server.Stats().Connections == 0 })
}

// An Authorize that panics lets nobody in, and costs nothing else: the server can
// still count, and stop.
func TestAuthorizePanics(t *testing.T) {
	server, url := mount(t, crosscomm.Config{Authorize: func(_ *http.Request, id string) error {
		if id != "good" {
			panic("a test")
		}
		return nil
	}})
	if _, _, err := websocket.DefaultDialer.DialContext(testContext(t), url, nil); err == nil {
		t.Error("somebody was let in")
	}
	if n := server.Stats().Connections; n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// Pages of browsers come from the same host, or one of the list.
func TestOrigins(t *testing.T) {
	listed := startServer(t, crosscomm.Config{AllowedOrigins: []string{"https://app.example.com", "http://localhost:3000"}})
	all := startServer(t, crosscomm.Config{AllowedOrigins: []string{"*"}})
	none := startServer(t, crosscomm.Config{})
	for _, try := range []struct {
		server *testServer
		origin string
		ok     bool
	}{
		{none, "", true}, {none, "http://" + none.addr, true}, {none, "https://app.example.com", false}, {none, "null", false}, {none, "http://" + none.addr + ".evil.com", false},
		{listed, "https://app.example.com", true}, {listed, "HTTPS://APP.example.com", true}, {listed, "http://localhost:3000", true}, {listed, "http://" + listed.addr, true},
		{listed, "http://app.example.com", false}, {listed, "https://app.example.com.evil.com", false}, {listed, "http://localhost:3001", false}, {listed, "%zz", false},
		{all, "https://anywhere.example", true},
	} {
		header := http.Header{}
		if try.origin != "" {
			header.Set("Origin", try.origin)
		}
		p, resp := shakeHands(t, try.server.url(), header)
		if (p != nil) != try.ok || !try.ok && resp.StatusCode != http.StatusForbidden {
			t.Errorf("%q: %v", try.origin, resp.Status)
		}
	}
}

// A page in somebody's browser cannot have his address kept out.
func TestOriginsAreNoFailures(t *testing.T) {
	server := startServer(t, crosscomm.Config{Token: goodToken, Limits: crosscomm.Limits{FailedLoginsPerMinute: 1}})
	for range 3 {
		if _, resp := shakeHands(t, server.url(), http.Header{"Origin": {"https://evil.example"}}); resp.StatusCode != http.StatusForbidden {
			t.Errorf("got %v", resp.Status)
		}
	}
	if p, resp := shakeHands(t, server.url(), bearer(goodToken)); p == nil {
		t.Errorf("got %v", resp.Status)
	}
	if stats := server.Stats(); stats.FailedLogins != 0 || stats.TurnedAway != 3 {
		t.Errorf("%+v", stats)
	}
}

// Too many failures keep an address out, whatever it brings then, and no other.
func TestFailedLogins(t *testing.T) {
	logs := new(logBuffer)
	tokens := filepath.Join(t.TempDir(), "tokens")
	writeTokens(t, tokens, "x of-x-0123456789\n")
	server, url := mount(t, crosscomm.Config{Token: goodToken, TokenFile: tokens, Limits: crosscomm.Limits{FailedLoginsPerMinute: 3}, Logger: logs.logger(),
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16")}})
	from := func(token string, hops ...string) int {
		header := bearer(token)
		header["X-Forwarded-For"] = hops
		p, resp := shakeHands(t, url, header)
		if p != nil {
			p.Close()
		}
		return resp.StatusCode
	}
	const bad, busy, good = http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusSwitchingProtocols
	var got []int
	for range 4 {
		got = append(got, from("wrong", "192.0.2.1"))
	}
	got = append(got, from(goodToken, "192.0.2.1"), from(goodToken, "192.0.2.2"), from(goodToken))
	// What is before the last that is not trusted may be made up.
	got = append(got, from(goodToken, "192.0.2.2, 192.0.2.1"), from(goodToken, "192.0.2.2", "192.0.2.1, 10.1.2.3"), from(goodToken, "192.0.2.1, 192.0.2.2"), from(goodToken, "nonsense, 10.1.2.3"), from(goodToken, "192.0.2.1:5678"), from(goodToken, "[2001:db8:5::1]:80"))
	if want := []int{bad, bad, bad, busy, busy, good, good, busy, busy, good, good, busy, good}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// Of IPv6, whole networks.
	got = nil
	for i := range 4 {
		got = append(got, from("wrong", fmt.Sprintf("2001:db8::%d", i)))
	}
	got = append(got, from(goodToken, "2001:db8::1:2:3:4"), from(goodToken, "2001:db8:0:1::1"))
	if want := []int{bad, bad, bad, busy, busy, good}; !slices.Equal(got, want) {
		t.Errorf("IPv6: got %v, want %v", got, want)
	}
	// A login that fails counts for who is behind the proxy, too.
	for i := range 4 {
		header := bearer("of-x-0123456789")
		header.Set("X-Forwarded-For", "192.0.2.9")
		p, resp := shakeHands(t, url, header)
		if (p == nil) != (i == 3) {
			t.Fatalf("login %d: %v", i, resp.Status)
		}
		if p != nil {
			p.write(frameOf("y", "server", "login", "{}"))
			p.closedWith(crosscomm.CloseLoginRejected, "the token is not for")
		}
	}
	if !strings.Contains(logs.String(), "remote=192.0.2.1") || !strings.Contains(logs.String(), "remote=192.0.2.9") {
		t.Error("the log does not tell who it was")
	}
	if stats := server.Stats(); stats.FailedLogins != 9 {
		t.Errorf("%+v", stats)
	}
}

// Guesses that are made all at once count as those made one after the other.
func TestFailedLoginsAtOnce(t *testing.T) {
	const wrong = 5
	var asked sync.WaitGroup
	asked.Add(wrong + 1)
	failed := make(chan struct{})
	server := startServer(t, crosscomm.Config{Limits: crosscomm.Limits{FailedLoginsPerMinute: 2}, Authorize: func(r *http.Request, _ string) error {
		asked.Done()
		asked.Wait()
		if r.URL.Query().Get("token") == "right" {
			<-failed
			return nil
		}
		return errors.New("wrong")
	}})
	status := make(chan int, wrong+1)
	guess := func(token string) {
		conn, resp, err := websocket.DefaultDialer.DialContext(testContext(t), server.url()+"?token="+token, nil)
		if err == nil {
			conn.Close()
		}
		status <- resp.StatusCode
	}
	for range wrong {
		go guess("wrong")
	}
	go guess("right")
	testkit.Eventually(t, "the others have failed", func() bool { return server.Stats().FailedLogins == wrong })
	close(failed)
	var busy int
	for range wrong + 1 {
		if got := testkit.Receive(t, status); got == http.StatusTooManyRequests {
			busy++
		} else if got != http.StatusUnauthorized {
			t.Errorf("got %d", got)
		}
	}
	if busy < 2 { // two may fail at the same moment
		t.Errorf("%d were told to wait", busy)
	}
}

// Connections that are open already do not help in guessing.
func TestFailedLoginsOnOpenConnections(t *testing.T) {
	server, url := mount(t, crosscomm.Config{Limits: crosscomm.Limits{FailedLoginsPerMinute: 3}, Authorize: func(_ *http.Request, id string) error {
		if id != "" && id != "right" {
			return errors.New("no")
		}
		return nil
	}})
	var open []*rawPeer
	for range 6 {
		p, resp := shakeHands(t, url, nil)
		if p == nil {
			t.Fatal(resp.Status)
		}
		open = append(open, p)
	}
	for i, p := range open {
		id, code, reason := fmt.Sprint("guess", i), crosscomm.CloseLoginRejected, "no"
		if i >= 3 {
			id, code, reason = "right", websocket.CloseTryAgainLater, "too many logins"
		}
		p.write(frameOf(id, "server", "login", "{}"))
		p.closedWith(code, reason)
	}
	if stats := server.Stats(); stats.FailedLogins != 3 {
		t.Errorf("%+v", stats)
	}
}

package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
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

const goodToken = "0123456789abcdefghij"

// writeTokens writes a file of tokens, which takes the place of what is there at
// once.
func writeTokens(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

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

// One token for all, by header or in the address, in whatever form peers write it.
func TestToken(t *testing.T) {
	logs := new(logBuffer)
	server := startServer(t, crosscomm.Config{Token: goodToken, Logger: logs.logger(), Limits: crosscomm.Limits{FailedLoginsPerMinute: 1000}})
	for name, try := range map[string]struct {
		path   string
		header http.Header
		ok     bool
	}{
		"header":             {"", bearer(goodToken), true},
		"lower case scheme":  {"", http.Header{"Authorization": {"bearer " + goodToken}}, true},
		"query":              {"?token=" + goodToken, nil, true},
		"Java's host":        {"?token=" + goodToken + "&x=:9898", nil, true},
		"none":               {"", nil, false},
		"empty":              {"?token=", bearer(""), false},
		"wrong":              {"", bearer(goodToken[1:] + "x"), false},
		"shorter":            {"", bearer(goodToken[1:]), false},
		"longer":             {"", bearer(goodToken + "x"), false},
		"a header before it": {"?token=" + goodToken, bearer("other"), false},
		"huge":               {"", bearer(strings.Repeat("x", 20_000)), false},
	} {
		t.Run(name, func(t *testing.T) {
			p, resp := shakeHands(t, server.url()+try.path, try.header)
			if (p != nil) != try.ok {
				t.Fatalf("got %v", resp.Status)
			}
			if p == nil {
				if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") != "Bearer" {
					t.Errorf("got %v, %v", resp.Status, resp.Header)
				}
				return
			}
			p.write(frameOf("any", "server", "login", "{}"))
			if got := p.read(); !strings.Contains(got, "login_response") {
				t.Errorf("got %s", got)
			}
		})
	}
	if strings.Contains(logs.String(), goodToken) {
		t.Error("the log has the token")
	}
	cfg := server.Config()
	if text := fmt.Sprintf("%v %+v %#v", cfg, cfg, cfg); strings.Contains(text, goodToken) {
		t.Error("fmt prints the token")
	}
}

// Our client shows its token; without it, it is told why it may not come in, and
// does not try again.
func TestClientToken(t *testing.T) {
	server := startServer(t, crosscomm.Config{Token: goodToken})
	if err := newClient(t, server.addr, "a", crosscomm.Config{Token: goodToken}).Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for _, token := range []crosscomm.Token{"", "another"} {
		err := newClient(t, server.addr, "b", crosscomm.Config{Token: token, RetryLogin: true}).Login(testContext(t))
		if !errors.Is(err, crosscomm.ErrLoginRejected) || !strings.Contains(err.Error(), "401") || !strings.Contains(err.Error(), "token") {
			t.Errorf("%q: %v", string(token), err)
		}
	}
	if stats := server.Stats(); stats.FailedLogins != 2 || stats.TurnedAway != 2 || stats.Connections != 1 {
		t.Errorf("%+v", stats)
	}
}

// A token that stands in a client's address is neither logged nor told in errors.
func TestTokenInURL(t *testing.T) {
	server := startServer(t, crosscomm.Config{Token: goodToken})
	logs := new(logBuffer)
	for token, ok := range map[string]bool{goodToken: true, "not-" + goodToken: false} {
		c := newClient(t, "", "a", crosscomm.Config{URL: server.url() + "?token=" + token, Logger: logs.logger()})
		err := c.Login(testContext(t))
		if (err == nil) != ok || strings.Contains(fmt.Sprint(err), token) {
			t.Errorf("got %v", err)
		}
	}
	if text := logs.String(); strings.Contains(text, goodToken) || !strings.Contains(text, server.url()) {
		t.Errorf("the log is %s", text)
	}
}

// A token for each client: only with its own id, more than one, ids with spaces;
// and what the file says later counts from then on, for those too who are there.
func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	const text = "# who may come\r\n\r\nrobot-7 token-of-robot-7\nthe desk\ttoken-of-desk\nrobot-7  second-of-robot\nadmin shared\nroot shared\n* for-any\n"
	writeTokens(t, path, text)
	logs := new(logBuffer)
	server := startServer(t, crosscomm.Config{TokenFile: path, Logger: logs.logger(), Limits: crosscomm.Limits{FailedLoginsPerMinute: 1000}})
	try := func(id string, token crosscomm.Token) (*crosscomm.Service, error) {
		c := newClient(t, server.addr, id, crosscomm.Config{Token: token})
		return c, c.Login(testContext(t))
	}
	for _, good := range [][2]string{{"robot-7", "token-of-robot-7"}, {"the desk", "token-of-desk"}, {"robot-7", "second-of-robot"}, {"admin", "shared"}, {"root", "shared"}, {"whoever", "for-any"}} {
		if _, err := try(good[0], crosscomm.Token(good[1])); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
	for _, bad := range [][2]string{{"robot-8", "token-of-robot-7"}, {"robot-7", "token-of-desk"}, {"*", "shared"}, {"desk", "token-of-desk"}} {
		_, err := try(bad[0], crosscomm.Token(bad[1]))
		if !errors.Is(err, crosscomm.ErrLoginRejected) || !strings.Contains(err.Error(), "the token is not for") {
			t.Errorf("%v: %v", bad, err)
		}
	}

	stays, err := try("stays", "for-any")
	if err != nil {
		t.Fatal(err)
	}
	down := make(chan error, 1)
	goes := newClient(t, server.addr, "the desk", crosscomm.Config{Token: "token-of-desk", OnDown: func(err error) { down <- err }})
	if err := goes.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	writeTokens(t, path, "* for-any\nthe-desk token-of-desk\n")
	if err := testkit.Receive(t, down); !errors.Is(err, crosscomm.ErrLoginRejected) || !strings.Contains(err.Error(), "does not count any more") {
		t.Errorf("down: %v", err)
	}
	if _, err := try("robot-7", "token-of-robot-7"); !errors.Is(err, crosscomm.ErrLoginRejected) {
		t.Errorf("a token that was taken away: %v", err)
	}
	if _, err := try("the-desk", "token-of-desk"); err != nil {
		t.Errorf("a line that was added: %v", err)
	}

	// What cannot be read changes nothing, and is said once.
	writeTokens(t, path, "* for-any\nonly-an-id\n")
	said := func() int { return strings.Count(logs.String(), "line 2: there must be") }
	testkit.Eventually(t, "it is said", func() bool { return said() > 0 })
	for range 3 {
		if _, err := try("again", "for-any"); err != nil {
			t.Error(err)
		}
	}
	if n := said(); n != 1 {
		t.Errorf("said %d times", n)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := try("again", "for-any"); err != nil {
		t.Error(err)
	}
	writeTokens(t, path, "* another\n")
	if _, err := try("again", "another"); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "the token of one who stays was taken away", func() bool { return !stays.IsConnected() })
}

// What is no file of tokens keeps the server from starting, and the error says
// where it is wrong, without the token.
func TestBadTokenFile(t *testing.T) {
	dir := t.TempDir()
	for want, text := range map[string]string{
		"line 1: there must be":               "lonely-secret\n",
		`line 2: the client id "all"`:         "a b\nall secret\n",
		"line 1: a token must be of":          "robot gehe\u00efm\n",
		"line 1: the client id has the i":     "ro\u202ebot secret\n",
		"is no file that could be read again": "",
		"line 3":                              "a b\n\n" + strings.Repeat("x", 100_000) + " secret\n",
	} {
		path := filepath.Join(dir, "tokens")
		if text == "" {
			path = os.DevNull
		} else {
			writeTokens(t, path, text)
		}
		svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, Port: crosscomm.AnyPort, IP: "127.0.0.1", NoStateFile: true, TokenFile: path})
		if err != nil {
			t.Fatal(err)
		}
		err = svc.StartServer(testContext(t))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, Port: crosscomm.AnyPort, IP: "127.0.0.1", NoStateFile: true, TokenFile: filepath.Join(dir, "none")})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.StartServer(testContext(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	// The same for a server that is mounted: nobody comes in meanwhile.
	web := httptest.NewServer(svc)
	defer web.Close()
	if _, resp := shakeHands(t, "ws"+strings.TrimPrefix(web.URL, "http"), nil); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %v", resp.Status)
	}
}

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

// mount is a server as a part of an HTTP service.
func mount(t *testing.T, cfg crosscomm.Config) (svc *crosscomm.Service, url string) {
	t.Helper()
	cfg.Role, cfg.NoStateFile = crosscomm.Server, true
	svc, err := crosscomm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(svc)
	t.Cleanup(func() {
		if err := svc.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		web.Close()
	})
	return svc, "ws" + strings.TrimPrefix(web.URL, "http")
}

package crosscomm_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

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

// Package servers_test tests that the servers of the comparison do what is
// compared: those that did less would be measured doing less.
package servers_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/testkit/subprocess"
)

// patience is how long what must happen may take.
const patience = 20 * time.Second

var commands = map[string][]string{
	"melody": {"melody"}, "gorilla": {"gorilla"}, "gws": {"gws"}, "gws-fast-scan": {"gws", "--fast-scan"}, "epoll": {"epoll"}, "epoll-check": {"epoll", "--check"},
}

func TestServers(t *testing.T) {
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin+string(filepath.Separator), "./...").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, command := range commands {
		if strings.HasPrefix(name, "epoll") && runtime.GOOS != "linux" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			url := start(t, filepath.Join(bin, command[0]), command[1:]...)
			for what, test := range map[string]func(*testing.T, string){
				"relay": testRelay, "odd": testOddFrames, "login": testLogin, "slow": testSlowClient,
			} {
				if name == "epoll-check" && what == "odd" {
					continue // some of them are no frames, and it says so by its name
				}
				t.Run(what, func(t *testing.T) { test(t, url) })
			}
		})
	}
}

// What is compared with TLS or compression relays as it does without, and does
// what its flags say.
func TestSecureServers(t *testing.T) {
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin+string(filepath.Separator), "./embedded", "./gorilla").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"embedded", "gorilla"} {
		program := filepath.Join(bin, name)
		t.Run(name+"-tls", func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "cert.pem")
			url := start(t, program, "--tls", "--cert", file)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			if !roots.AppendCertsFromPEM(data) {
				t.Fatalf("the certificate is %q", data)
			}
			if _, _, err := new(websocket.Dialer).Dial(url, nil); err == nil {
				t.Error("it also speaks without TLS")
			}
			c := testRelayOver(t, websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: roots}}, "wss"+strings.TrimPrefix(url, "ws"))
			if conn, ok := c.conn.NetConn().(*tls.Conn); !ok || conn.ConnectionState().Version != tls.VersionTLS13 {
				t.Error("that was not TLS 1.3")
			}
		})
		t.Run(name+"-deflate", func(t *testing.T) {
			url := start(t, program, "--deflate")
			var read atomic.Int64
			dialer := websocket.Dialer{EnableCompression: true, NetDial: func(network, addr string) (net.Conn, error) {
				conn, err := net.Dial(network, addr)
				return &countingConn{conn, &read}, err
			}}
			c := testRelayOver(t, dialer, url)
			before := read.Load()
			text := frame("a", "a", "text", `"`+strings.Repeat("x", 100_000)+`"`)
			c.send(text)
			c.receives(text)
			if n := read.Load() - before; n > 10_000 {
				t.Errorf("%d bytes have come as %d", len(text), n)
			}
		})
	}
	if out, err := exec.Command(filepath.Join(bin, "embedded"), "--tls").CombinedOutput(); err == nil || !strings.Contains(string(out), "--cert") {
		t.Errorf("without --cert: %v, %s", err, out)
	}
}

// countingConn counts what is read.
type countingConn struct {
	net.Conn
	read *atomic.Int64
}

// Read implements net.Conn.
func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}

// testRelayOver sends messages of several sizes there and back over connections
// of the dialer, and returns the one of a.
func testRelayOver(t *testing.T, dialer websocket.Dialer, url string) (a *client) {
	t.Helper()
	a, b := loginOver(t, dialer, url, "a"), loginOver(t, dialer, url, "b")
	for _, size := range []int{0, 1, 100, 65_536, 520_000, 10} { // plain peers get 1 MiB at most
		text := frame("a", "b", "text", `"`+strings.Repeat("ü", size)+`"`)
		a.send(text)
		b.receives(text)
		text = frame("b", "all", "text", `"`+strings.Repeat("ü", size)+`"`)
		b.send(text)
		a.receives(text)
	}
	return a
}

func start(t *testing.T, program string, args ...string) (url string) {
	t.Helper()
	server, address, err := subprocess.StartServer(t.Context(), "", program, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Stop()
		if t.Failed() {
			t.Logf("the end of what it said of errors:\n%s", &server.Stderr)
		}
	})
	return "ws://" + address + "/"
}

// client is a connection whose failures end the test.
type client struct {
	t    *testing.T
	id   string
	conn *websocket.Conn
}

// connect connects without a login. Frames are fragmented when they are larger
// than the write buffer and come from a writer.
func connect(t *testing.T, url, id string) *client {
	t.Helper()
	return connectOver(t, websocket.Dialer{}, url, id)
}

func connectOver(t *testing.T, dialer websocket.Dialer, url, id string) *client {
	t.Helper()
	dialer.HandshakeTimeout, dialer.WriteBufferSize = patience, 64
	conn, _, err := dialer.Dial(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	return &client{t, id, conn}
}

func login(t *testing.T, url, id string) *client {
	t.Helper()
	return loginOver(t, websocket.Dialer{}, url, id)
}

func loginOver(t *testing.T, dialer websocket.Dialer, url, id string) *client {
	t.Helper()
	c := connectOver(t, dialer, url, id)
	c.send(frame(id, "server", "login", "{}"))
	if got := c.receive(); !strings.Contains(got, `"login_response"`) || !strings.Contains(got, `"`+id+`"`) {
		t.Fatalf("the answer to the login is %s", got)
	}
	return c
}

func frame(from, to, typ, content string) string {
	return fmt.Sprintf(`{"msg_id": "m", "from_client_id": "%s", "to_client_id": "%s", "msg_type": "%s", "content": %s, "timestamp": 1.0, "oss_key": null}`, from, to, typ, content)
}

func (c *client) send(text string) {
	c.t.Helper()
	if err := c.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) receive() string {
	c.t.Helper()
	typ, data, err := c.conn.ReadMessage()
	if err != nil || typ != websocket.TextMessage {
		c.t.Fatalf("%s: %v, type %d", c.id, err, typ)
	}
	return string(data)
}

func (c *client) receives(want string) {
	c.t.Helper()
	if got := c.receive(); got != want {
		c.t.Fatalf("%s got %.300q, want %.300q", c.id, got, want)
	}
}

// Messages come to whom they are for, with the bytes that were sent, whatever
// their size.
func testRelay(t *testing.T, url string) {
	a, b, c := login(t, url, "a"), login(t, url, "b"), login(t, url, "c")
	outside := connect(t, url, "outside")
	for _, size := range []int{0, 1, 50, 100, 1000, 65_000, 65_536, 1 << 20, 10} {
		text := frame("a", "b", "text", `"`+strings.Repeat("ü", size)+`"`)
		a.send(text)
		b.receives(text)
		text = strings.Replace(text, `"b"`, `"all"`, 1)
		a.send(text)
		b.receives(text)
		c.receives(text)
	}
	b.send(frame("b", "a", "text", `"back"`))
	a.receives(frame("b", "a", "text", `"back"`)) // and nothing of its own before
	outside.send(frame("outside", "server", "login", "{}"))
	if got := outside.receive(); !strings.Contains(got, "login_response") {
		t.Errorf("before its login a client got %s", got)
	}
}

// What is odd is relayed as it is if it is JSON, and else changes nothing.
func testOddFrames(t *testing.T, url string) {
	a, b := login(t, url, "odd-a"), login(t, url, "odd-b")
	for _, text := range []string{
		``, `x`, `[]`, `{}`, `1`, `"`, `{"msg_type": 1}`, `{"msg_type": "text"}`, frame("odd-a", "nobody", "text", "1"), frame("odd-a", "", "text", "1"), frame("odd-a", "server", "heartbeat", "{}"),
		frame("odd-a", "odd-b", "text", `"no end`)[:100], frame("odd-a", "server", "list_clients", "{}"), frame("", "server", "login", "{}"),
	} {
		a.send(text)
	}
	for _, text := range []string{
		frame("odd-a", "odd-b", "text", `{"to_client_id": "odd-a", "msg_type": "login", "a": ["\"}", {"\\": "]"}]}`),
		`{"msg_type":"te\u0078t","to_client_id":"odd\u002db"}`, " {\n\t\"to_client_id\" : \"odd-b\" , \"msg_type\" : \"new\"\r\n} ",
		`{"to_client_id": "odd-a", "msg_type": "text", "to_client_id": "odd-b"}`,
	} {
		a.send(text)
		b.receives(text)
	}
	// JSON in a binary frame counts, as in the original, and so does a message
	// in parts, with a ping between them.
	text := frame("odd-a", "odd-b", "text", `"`+strings.Repeat("part ", 100)+`"`)
	if err := a.conn.WriteMessage(websocket.BinaryMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
	b.receives(text)
	w, err := a.conn.NextWriter(websocket.TextMessage)
	if err != nil {
		t.Fatal(err)
	}
	pong := make(chan string, 1)
	a.conn.SetPongHandler(func(data string) error {
		pong <- data
		return nil
	})
	for i, part := range []string{text[:200], text[200:]} {
		if i == 1 {
			if err := a.conn.WriteControl(websocket.PingMessage, []byte("ping"), time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b.receives(text)
	b.send(frame("odd-b", "odd-a", "text", "1"))
	a.receives(frame("odd-b", "odd-a", "text", "1"))
	if got := <-pong; got != "ping" {
		t.Errorf("the pong is %q", got)
	}
	if err := a.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("after the close: %v", err)
	}
}

// The newest connection with an id has it, also when the older one ends, until
// it logs out.
func testLogin(t *testing.T, url string) {
	sender, old := login(t, url, "login-a"), login(t, url, "login-b")
	b := login(t, url, "login-b")
	old.conn.Close()
	for i := range 10 {
		text := frame("login-a", "login-b", "text", fmt.Sprint(i))
		sender.send(text)
		b.receives(text)
	}
	b.send(frame("login-b", "server", "logout", "{}"))
	b.send(frame("login-b", "login-a", "text", `"out"`))
	sender.receives(frame("login-b", "login-a", "text", `"out"`)) // the logout came before
	sender.send(frame("login-a", "login-b", "text", `"lost"`))
	sender.send(frame("login-a", "all", "text", `"lost"`))
	sender.send(frame("login-a", "login-a", "text", `"own"`))
	sender.receives(frame("login-a", "login-a", "text", `"own"`))
	b.send(frame("login-c", "server", "login", "{}"))
	if got := b.receive(); !strings.Contains(got, `"login_response"`) {
		t.Errorf("after its logout a client got %s", got)
	}
	text := frame("login-a", "login-c", "text", `"again"`)
	sender.send(text)
	b.receives(text)
}

// Who does not read what comes holds up no others; if the connection lasts what
// does come to it is whole and in order.
func testSlowClient(t *testing.T, url string) {
	a, b, flooder, slow := login(t, url, "slow-a"), login(t, url, "slow-b"), login(t, url, "slow-c"), login(t, url, "slow-d")
	filler := strings.Repeat("x", 60_000)
	flood := func(i int) string { return frame("slow-c", "slow-d", "text", fmt.Sprintf(`"%06d%s"`, i, filler)) }
	const floods = 500 // 30 MB: more than sockets hold
	flooding := make(chan struct{})
	go func() {
		defer close(flooding)
		for i := range floods {
			if flooder.conn.WriteMessage(websocket.TextMessage, []byte(flood(i))) != nil {
				return
			}
		}
	}()
	for i := range 1000 {
		text := frame("slow-a", "slow-b", "text", fmt.Sprint(i))
		a.send(text)
		b.receives(text)
	}
	// A library may drop what is too much for a client, or disconnect it; of the
	// last message, too, so that another one is repeated until it arrives.
	end := frame("slow-a", "slow-d", "text", `"end"`)
	arrived := make(chan struct{})
	ending := make(chan struct{})
	go func() {
		defer close(ending)
		<-flooding
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for a.conn.WriteMessage(websocket.TextMessage, []byte(end)) == nil {
			select {
			case <-arrived:
				return
			case <-ticker.C:
			}
		}
	}()
	for last := -1; ; {
		_, data, err := slow.conn.ReadMessage()
		if err != nil || string(data) == end {
			break
		}
		n := last + 1
		for n < floods && string(data) != flood(n) {
			n++
		}
		if n == floods {
			t.Errorf("after number %d came %.200q", last, data)
			break
		}
		last = n
	}
	close(arrived)
	flooder.conn.Close()
	<-flooding
	<-ending
}

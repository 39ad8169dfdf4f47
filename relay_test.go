package crosscomm_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// recording is a frame of the real Python or Java peers.
type recording struct {
	Name, From, Frame string
}

func recordings(t *testing.T) []recording {
	t.Helper()
	var all []recording
	for _, name := range []string{"python", "java"} {
		lines, err := os.ReadFile("testdata/" + name + "-frames.jsonl")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(lines)) {
			var r recording
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
	}
	return all
}

// What the real peers sent passes the relay to the byte, directly and by
// broadcast, as text and as binary frame.
func TestRelayKeepsTheBytes(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	receiver := loginRaw(t, server.addr, "receiver")
	senders := map[string]*rawPeer{}
	relayed := 0
	for _, r := range recordings(t) {
		var m struct {
			From string `json:"from_client_id"`
			To   string `json:"to_client_id"`
			Type string `json:"msg_type"`
		}
		if err := json.Unmarshal([]byte(r.Frame), &m); err != nil {
			if !strings.Contains(r.Frame, "NaN") {
				t.Fatal(err)
			}
			parsed, err := crosscomm.ParseMessage([]byte(r.Frame))
			if err != nil {
				t.Fatal(err)
			}
			m.From, m.To, m.Type = parsed.FromClientID, parsed.ToClientID, string(parsed.MsgType)
		}
		if !slices.Contains([]string{"text", "json", "dict", "bytes", "image", "file", "folder"}, m.Type) {
			continue
		}
		if m.From == "server" || m.To != "all" {
			continue
		}
		sender := senders[m.From]
		if sender == nil {
			sender = loginRaw(t, server.addr, m.From)
			senders[m.From] = sender
		}
		for _, kind := range []int{websocket.TextMessage, websocket.BinaryMessage} {
			if err := sender.WriteMessage(kind, []byte(r.Frame)); err != nil {
				t.Fatal(err)
			}
			if got := receiver.read(); got != r.Frame {
				t.Fatalf("%s %s: got %s, want %s", r.From, r.Name, got, r.Frame)
			}
		}
		direct := strings.Replace(r.Frame, `"all"`, `"receiver"`, 1)
		sender.write(direct)
		if got := receiver.read(); got != direct {
			t.Fatalf("%s %s: got %s, want %s", r.From, r.Name, got, direct)
		}
		relayed++
	}
	if relayed < 100 {
		t.Errorf("only %d recordings were relayed", relayed)
	}
}

// Frames that no recording has, but that the original accepts.
func TestRelayOddFrames(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	a, b := loginRaw(t, server.addr, "a"), loginRaw(t, server.addr, "b")
	text := frameOf("a", "b", "text", `"hi"`)
	for name, odd := range map[string]string{
		"no oss_key":       strings.Replace(text, `, "oss_key": null`, "", 1),
		"white space":      " \n\t" + strings.ReplaceAll(text, ":", "\r\n :\n") + "\n",
		"escaped keys":     strings.ReplaceAll(text, "_id", `\u005fid`),
		"last key wins":    strings.Replace(text, `"from_client_id": "a"`, `"from_client_id": "x", "from_client_id": "a"`, 1),
		"huge integer":     strings.Replace(text, `"hi"`, strings.Repeat("1234567890", 400), 1),
		"infinities":       strings.Replace(text, `"hi"`, `[NaN, -Infinity, {"x": Infinity}]`, 1),
		"numeric msg_id":   strings.Replace(text, `"m1"`, "17", 1),
		"any timestamp":    strings.Replace(text, "1795508069.140345", `"now"`, 1),
		"surrogates":       strings.Replace(text, `"hi"`, `"\ud800 \udc00\ud800"`, 1),
		"escaped receiver": strings.Replace(text, `"b"`, `"\u0062"`, 1),
	} {
		a.write(odd)
		if got := b.read(); got != odd {
			t.Errorf("%s: got %s, want %s", name, got, odd)
		}
	}
	// Fragments, and a byte order mark that only a binary frame may have.
	w, err := a.NextWriter(websocket.TextMessage)
	if err != nil {
		t.Fatal(err)
	}
	long := frameOf("a", "b", "text", `"`+strings.Repeat("x", 100_000)+`"`)
	for part := range slices.Chunk([]byte(long), 1000) {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := b.read(); got != long {
		t.Errorf("a fragmented frame became %d bytes", len(got))
	}
	if err := a.WriteMessage(websocket.BinaryMessage, []byte("\ufeff"+text)); err != nil {
		t.Fatal(err)
	}
	if got := b.read(); got != text {
		t.Errorf("got %s", got)
	}
}

// Refused frames are not relayed, are counted, are logged a few times, and
// leave the connection open.
func TestRefusedFrames(t *testing.T) {
	logs := new(logBuffer)
	server := startServer(t, crosscomm.Config{Logger: logs.logger()})
	onServer := collect(server.Service, crosscomm.ListenerOptions{})
	a, b := loginRaw(t, server.addr, "a"), loginRaw(t, server.addr, "b")
	text := frameOf("a", "b", "text", `"hi"`)
	bad := []string{
		"", "hello", "[]", "5", "null", "{}", text + text, text[:len(text)-1], "\ufeff" + text,
		strings.Replace(text, `"hi"`, "\"\n\"", 1),
		strings.Replace(text, `"text"`, `"TEXT"`, 1),
		strings.Replace(text, `"text"`, `"audio"`, 1),
		strings.Replace(text, `"msg_id": "m1", `, "", 1),
		strings.Replace(text, `"oss_key"`, `"extra": 1, "oss_key"`, 1),
		strings.Replace(text, `"from_client_id": "a"`, `"from_client_id": "b"`, 1),
		strings.Replace(text, `"from_client_id": "a"`, `"from_client_id": "server"`, 1),
		strings.Replace(text, `"from_client_id": "a"`, `"from_client_id": "a", "from_client\u005fid": "b"`, 1),
		strings.Replace(text, `"from_client_id": "a"`, `"from_client_id": 5`, 1),
		frameOf("b", "server", "heartbeat", "{}"),
		frameOf("b", "server", "logout", "{}"),
		frameOf("b", "server", "login", "{}"),
		frameOf("a", "b", "login_response", `{"status": "success"}`),
		frameOf("a", "b", "list_clients_response", `"{}"`),
		strings.Replace(text, `"hi"`, strings.Repeat("[", 5000)+strings.Repeat("]", 5000), 1),
	}
	for _, frame := range bad {
		a.write(frame)
	}
	stranger := dialRaw(t, server.addr)
	early := []string{text, frameOf("a", "all", "text", `"x"`), frameOf("a", "server", "list_clients", `"{}"`), frameOf("a", "server", "heartbeat", "{}")}
	for _, frame := range early {
		stranger.write(frame)
	}
	for range 500 {
		a.write("nonsense")
	}
	a.write(text)
	if got := b.read(); got != text {
		t.Errorf("the first that was relayed is %s", got)
	}
	want := uint64(len(bad) + len(early) + 500)
	testkit.Eventually(t, "all are counted", func() bool { return server.Stats().Refused == want })
	if n := strings.Count(logs.String(), "a frame was refused"); n < 1 || n > 60 {
		t.Errorf("%d log lines", n)
	}
	if len(onServer) != 0 {
		t.Errorf("a listener got %d of them", len(onServer))
	}
	if got := server.GetOnlineClients(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("online: %v", got)
	}
}

func TestBadUTF8ClosesTheConnection(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	a := loginRaw(t, server.addr, "a")
	a.write(frameOf("a", "all", "text", "\"\xff\""))
	a.closedWith(websocket.CloseInvalidFramePayloadData, "UTF-8")
}

func TestLoginRejected(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	for _, id := range []string{"", "all", "server", `a\nb`, `\u001b[31m`, `\ud800`, strings.Repeat("x", 257)} {
		p := dialRaw(t, server.addr)
		p.write(frameOf(id, "server", "login", "{}"))
		p.closedWith(crosscomm.CloseLoginRejected, "client id")
	}
	if got := server.Clients(); len(got) != 0 {
		t.Errorf("known clients: %v", got)
	}
}

// Swift sends the login's content as a string; a second login on one
// connection is answered again; after a logout nothing is taken but a login.
func TestLoginVariants(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	p := dialRaw(t, server.addr)
	for _, content := range []string{`"{}"`, "null", "{}"} {
		p.write(frameOf("swift", "server", "login", content))
		if got := p.read(); !strings.Contains(got, `"login_response"`) {
			t.Fatalf("got %s", got)
		}
	}
	p.write(frameOf("swift", "server", "logout", "{}"))
	testkit.Eventually(t, "logged out", func() bool { return len(server.GetOnlineClients()) == 0 })
	p.write(frameOf("swift", "all", "text", `"x"`))
	testkit.Eventually(t, "refused", func() bool { return server.Stats().Refused == 1 })
	p.write(frameOf("other", "server", "login", "{}"))
	if got := p.read(); !strings.Contains(got, `"to_client_id":"other"`) {
		t.Fatalf("got %s", got)
	}
}

func TestTakeOver(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	sender := loginRaw(t, server.addr, "sender")
	old := loginRaw(t, server.addr, "robot")
	for round := range 20 {
		newer := loginRaw(t, server.addr, "robot")
		old.closedWith(crosscomm.CloseReplaced, "another client has logged in with this id")
		old.Close()
		text := frameOf("sender", "robot", "text", fmt.Sprint(round))
		sender.write(text)
		if got := newer.read(); got != text {
			t.Fatalf("got %s", got)
		}
		old = newer
	}
	if got := server.GetOnlineClients(); !slices.Equal(got, []string{"robot", "sender"}) {
		t.Errorf("online: %v", got)
	}
}

func TestHTTP(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	resp, err := http.Get("http://" + server.addr + "/some/path")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusUpgradeRequired || !strings.Contains(string(body), "crosscomm listen --server ws://"+server.addr+"/some/path") || resp.Header.Get("Upgrade") != "websocket" {
		t.Errorf("a plain GET got %s: %s", resp.Status, body)
	}
	// Our subprotocol is selected if offered, among others, and nothing is if
	// it is not.
	for _, offer := range [][]string{{"x", "crosscomm.v3"}, {"x"}, nil} {
		dialer := websocket.Dialer{Subprotocols: offer, EnableCompression: true}
		conn, resp, err := dialer.DialContext(context.Background(), server.url(), http.Header{"X-Anything": {"1"}})
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if slices.Contains(offer, "crosscomm.v3") {
			want = "crosscomm.v3"
		}
		if conn.Subprotocol() != want || resp.Header.Get("Sec-WebSocket-Extensions") != "" {
			t.Errorf("offered %v: got %v", offer, resp.Header)
		}
		conn.Close()
	}
}

// The upgrade requests of the real peers, to the letter. All offer
// permessage-deflate, and accept a server that does not take it.
func TestRecordedHandshakes(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	lines, err := os.ReadFile("testdata/handshakes.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(lines)) {
		var r struct{ Client, Head string }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", server.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, r.Head+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") == "" || resp.Header.Get("Sec-WebSocket-Extensions") != "" || resp.Header.Get("Sec-WebSocket-Protocol") != "" {
			t.Errorf("%s: got %s, %v", r.Client, resp.Status, resp.Header)
		}
	}
}

// Who logs in again does not disturb those who send to him what is too large for him.
func TestTooLargeDuringLogins(t *testing.T) {
	server := startServer(t, crosscomm.Config{MaxMessageSize: 4 << 20})
	receiver, sender := loginRaw(t, server.addr, "receiver"), loginRaw(t, server.addr, "sender")
	go receiver.discard()
	big := `"` + strings.Repeat("x", crosscomm.DefaultMaxMessageSize) + `"`
	var both sync.WaitGroup
	both.Go(func() {
		for range 10 {
			sender.write(frameOf("sender", "receiver", "text", big))
			sender.write(frameOf("sender", "all", "text", big))
		}
	})
	both.Go(func() {
		for range 2_000 {
			receiver.write(frameOf("receiver", "server", "login", "{}"))
		}
	})
	both.Wait()
	testkit.Eventually(t, "all is refused", func() bool { return server.Stats().Refused == 20 })
}

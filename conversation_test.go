package crosscomm_test

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// The conversations in testdata/conversations are a part of docs/protocol.md, which says
// how they are written. Here they are read; conversationserver_test.go plays their
// clients' side to our server, and conversationclient_test.go the servers' side to our
// client.

// conversation is one of them.
type conversation struct {
	name  string
	lines []conversationLine
}

// conversationLine is what one connection brings, or is brought, or what happens to it.
type conversationLine struct {
	number int
	who    string // the connection's name, or "server" for what happens there
	way    string // ">" to the server, "<" from it, ":" for what happens
	text   string // of all but frames
	frame  any    // the JSON of a frame with placeholders, or nil
}

func (l conversationLine) String() string {
	return fmt.Sprintf("line %d (%s %s)", l.number, l.who, l.way)
}

// is reports whether the line is one of that way with a text that begins so, and returns
// the rest.
func (l conversationLine) is(way, begin string) (rest string, ok bool) {
	if l.way != way || l.frame != nil {
		return "", false
	}
	if l.text == begin {
		return "", true
	}
	return strings.CutPrefix(l.text, begin+" ")
}

// at returns what is below these keys of the frame, or nil.
func (l conversationLine) at(keys ...string) any {
	v := l.frame
	for _, key := range keys {
		object, _ := v.(map[string]any)
		v = object[key]
	}
	return v
}

var conversationSyntax = regexp.MustCompile(`^(.+?) ([<>:]) (.+)$`)

// conversations reads all of them.
func conversations(t testing.TB) []conversation {
	t.Helper()
	files, err := filepath.Glob("testdata/conversations/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	var all []conversation
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := conversation{name: strings.TrimSuffix(filepath.Base(file), ".txt")}
		for i, text := range strings.Split(string(data), "\n") {
			if text == "" || text[0] == '#' {
				continue
			}
			part := conversationSyntax.FindStringSubmatch(text)
			if part == nil {
				t.Fatalf("%s, line %d: %q is not understood", file, i+1, text)
			}
			l := conversationLine{number: i + 1, who: part[1], way: part[2], text: part[3]}
			if l.text[0] == '{' {
				if err := json.Unmarshal([]byte(l.text), &l.frame); err != nil {
					t.Fatalf("%s, line %d: %v", file, i+1, err)
				}
			}
			c.lines = append(c.lines, l)
		}
		all = append(all, c)
	}
	return all
}

// connecting is what a line says of a handshake.
type connecting struct {
	agreed  bool
	address string // path and query
	header  http.Header
}

func (l conversationLine) connects() (c connecting, ok bool) {
	rest, ok := l.is(":", "connects")
	c = connecting{address: "/", header: http.Header{}}
	rest, token, _ := strings.Cut(rest, "Authorization: ")
	if token != "" {
		c.header.Set("Authorization", token)
	}
	for _, word := range strings.Fields(rest) {
		if word == "crosscomm.v3" {
			c.agreed = true
		} else {
			c.address = word
		}
	}
	return c, ok
}

// placeholders are the values that those of a conversation stand for in this run.
type placeholders map[string]any

// placeholder reports whether v is a placeholder for a value of its own kind, and which one.
func placeholder(v any) (name string, ok bool) {
	name, _ = v.(string)
	return name, strings.HasPrefix(name, "$")
}

// fill returns what a sender writes: placeholders have the values that they stand for,
// which it may choose if there is none yet.
func (p placeholders) fill(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if inner, ok := v["$json"]; ok {
			return string(mustJSON(p.fill(inner)))
		}
		if n, ok := v["$long"].(float64); ok {
			return longText(n)
		}
		filled := map[string]any{}
		for key, value := range v {
			filled[key] = p.fill(value)
		}
		return filled
	case []any:
		filled := make([]any, len(v))
		for i, value := range v {
			filled[i] = p.fill(value)
		}
		return filled
	}
	name, ok := placeholder(v)
	switch {
	case !ok:
		return v
	case name == "$time":
		return float64(time.Now().UnixMicro()) / 1e6
	case name == "$ms":
		return 60_000
	case name == "$any":
		return "any"
	case p[name] == nil:
		p[name] = "chosen for " + name[1:]
	}
	return p[name]
}

// match says where got is not what the conversation wants. A placeholder without a value
// gets that of got.
func (p placeholders) match(want, got any) error {
	switch want := want.(type) {
	case map[string]any:
		if inner, ok := want["$json"]; ok {
			text, _ := got.(string)
			var document any
			if err := json.Unmarshal([]byte(text), &document); err != nil {
				return fmt.Errorf("%v is no string of JSON: %w", got, err)
			}
			return p.match(inner, document)
		}
		if n, ok := want["$long"].(float64); ok {
			if got != longText(n) {
				return fmt.Errorf("got %.100q, want %v letters", fmt.Sprint(got), n)
			}
			return nil
		}
		object, ok := got.(map[string]any)
		if !ok || !slices.Equal(slices.Sorted(maps.Keys(object)), slices.Sorted(maps.Keys(want))) {
			return fmt.Errorf("got %s, want the keys of %s", mustJSON(got), mustJSON(want))
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			if err := p.match(want[key], object[key]); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		return nil
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return fmt.Errorf("got %s, want %s", mustJSON(got), mustJSON(want))
		}
		for i := range want {
			if err := p.match(want[i], list[i]); err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
		}
		return nil
	}
	name, ok := placeholder(want)
	number, isNumber := got.(float64)
	text, isText := got.(string)
	switch {
	case !ok && reflect.DeepEqual(want, got):
	case name == "$time" && isNumber && time.Since(time.UnixMicro(int64(number*1e6))).Abs() < time.Hour:
	case name == "$ms" && isNumber && number > 0 && number <= 60_000 && number == float64(int64(number)):
	case name == "$any" && isText && text != "":
	case ok && name != "$any" && isText && text != "" && (p[name] == nil || p[name] == text):
		p[name] = text
	default:
		return fmt.Errorf("got %s, want %s (%v)", mustJSON(got), mustJSON(want), p[name])
	}
	return nil
}

// longText is what {"$long": n} stands for.
func longText(n float64) string { return strings.Repeat("x", int(n)) }

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was made from JSON
	}
	return data
}

// wireEvent is what one end of a connection reads.
type wireEvent struct {
	kind string // "text", "ping", "pong" or "close"; "lost" for the end without a close
	data string // its text or payload; of a close the code and the reason
}

func (e wireEvent) String() string { return fmt.Sprintf("%s %.300q", e.kind, e.data) }

// wireConn is a bare connection, each event of which is seen, and which does nothing by
// itself but answer a close, and the pings that only ask whether it lives.
type wireConn struct {
	*websocket.Conn
	events chan wireEvent
	mute   atomic.Bool // whether it does not answer these pings either
}

func newWireConn(t testing.TB, conn *websocket.Conn) *wireConn {
	c := &wireConn{Conn: conn, events: make(chan wireEvent, 1000)}
	note := func(kind string) func(string) error {
		return func(payload string) error {
			c.events <- wireEvent{kind, payload}
			return nil
		}
	}
	marked := note("ping")
	conn.SetPingHandler(func(payload string) error {
		if strings.HasPrefix(payload, "mark") {
			return marked(payload)
		}
		if c.mute.Load() {
			return nil
		}
		return c.write(websocket.PongMessage, []byte(payload))
	})
	conn.SetPongHandler(note("pong"))
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			_, data, err := conn.ReadMessage()
			var ce *websocket.CloseError
			switch {
			case err == nil:
				c.events <- wireEvent{"text", string(data)}
				continue
			case errors.As(err, &ce) && ce.Code != websocket.CloseAbnormalClosure:
				c.events <- wireEvent{"close", strings.TrimSpace(fmt.Sprint(ce.Code, " ", ce.Text))}
			default:
				c.events <- wireEvent{"lost", err.Error()}
			}
			return
		}
	})
	t.Cleanup(func() {
		conn.Close()
		reader.Wait()
	})
	return c
}

func (c *wireConn) write(kind int, data []byte) error {
	return c.WriteControl(kind, data, time.Now().Add(testkit.Patience))
}

// markPayload is the payload of a mark, a ping whose answer shows what was read.
func markPayload(number string) []byte {
	var n uint64
	if _, err := fmt.Sscan(number, &n); err != nil {
		panic(err) // it stands in a conversation
	}
	return binary.BigEndian.AppendUint64([]byte("mark"), n)
}

// say writes what a line has, from either end.
func (c *wireConn) say(l conversationLine, p placeholders) error {
	if l.frame != nil {
		return c.WriteMessage(websocket.TextMessage, mustJSON(p.fill(l.frame)))
	}
	word, rest, _ := strings.Cut(l.text, " ")
	switch word {
	case "raw":
		return c.WriteMessage(websocket.TextMessage, []byte(rest))
	case "spaces":
		var n int
		if _, err := fmt.Sscan(rest, &n); err != nil {
			return err
		}
		err := c.WriteMessage(websocket.TextMessage, []byte(strings.Repeat(" ", n)))
		if errors.Is(err, websocket.ErrCloseSent) {
			return nil // the other end has closed when it had the half, and that was answered
		}
		return err
	case "octets":
		data, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
		if err == nil {
			_, err = c.NetConn().Write(data)
		}
		return err
	case "ping":
		return c.write(websocket.PingMessage, markPayload(strings.TrimPrefix(rest, "mark ")))
	case "pong":
		return c.write(websocket.PongMessage, markPayload(strings.TrimPrefix(rest, "mark ")))
	case "close":
		var code int
		if _, err := fmt.Sscan(rest, &code); err != nil {
			return err
		}
		return c.write(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""))
	}
	return fmt.Errorf("%q is not understood", l.text)
}

// heard says why an event is not what a line has.
func heard(l conversationLine, e wireEvent, p placeholders) error {
	if l.frame != nil {
		var got any
		if err := json.Unmarshal([]byte(e.data), &got); e.kind != "text" || err != nil {
			return fmt.Errorf("got %v, want a frame", e)
		}
		return p.match(l.frame, got)
	}
	want, rest, _ := strings.Cut(l.text, " ")
	ok := false
	switch want {
	case "raw":
		ok = e == wireEvent{"text", rest}
	case "ping", "pong":
		ok = e == wireEvent{want, string(markPayload(strings.TrimPrefix(rest, "mark ")))}
	case "close":
		ok = e.kind == "close" && (e.data == rest || strings.HasPrefix(e.data, rest+" "))
	}
	if !ok {
		return fmt.Errorf("got %v, want %s", e, l.text)
	}
	return nil
}

package link_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// rawFrame is one as a peer writes it, who need not keep to any rule.
type rawFrame struct {
	first     byte
	payload   string
	length    string // how its length is written, if not as it should be
	wrongMask bool   // a server masks, or a client does not
}

func (f rawFrame) append(b []byte, byClient bool) []byte {
	masked := byte(0)
	if byClient != f.wrongMask {
		masked = wsframe.Masked
	}
	begin := len(b)
	b = wsframe.AppendHeader(b, f.first&wsframe.Op, len(f.payload), masked)
	b[begin] = f.first
	if f.length != "" {
		b = append(b[:begin+1], f.length...)
		b[begin+1] |= masked
	}
	if masked == 0 {
		return append(b, f.payload...)
	}
	mask := "\x12\x34\xab\xcd"
	b = append(b, mask...)
	for i := range len(f.payload) {
		b = append(b, f.payload[i]^mask[i%4])
	}
	return b
}

const (
	fin  = wsframe.Final
	rsv1 = wsframe.Deflated
)

func part(op byte, payload string) rawFrame  { return rawFrame{first: op, payload: payload} }
func whole(op byte, payload string) rawFrame { return part(fin|op, payload) }
func text(s string) rawFrame                 { return whole(wsframe.OpText, s) }
func ping(s string) rawFrame                 { return whole(wsframe.OpPing, s) }

// goodbye is a close frame.
func goodbye(code int, reason string) rawFrame {
	return whole(wsframe.OpClose, string([]byte{byte(code >> 8), byte(code)})+reason)
}

// rule is what a peer sends to who echoes, and what he gets.
type rule struct {
	name   string
	sent   []rawFrame
	echoed []string // "t" for text or "b", and what it is
	pongs  []string
	// What is sent when all that has come. Without it the peer closes with 1000.
	last []rawFrame
	code int  // with which the link is closed
	ours bool // whether that is our verdict
	kind compression
}

// compression is on which connections a rule is to be tried.
type compression int

const (
	either compression = iota
	plainOnly
	deflateOnly
)

// maxOfRules is the most that a message may have.
const maxOfRules = 100_000

// What RFC 6455 and RFC 7692 say of what comes in, in both roles: the ground of
// Autobahn's groups 1 to 7, and a little of those above.
func TestRules(t *testing.T) {
	opts := link.Options{MaxMessage: maxOfRules, MaxQueued: 1 << 20}
	server, serverEnds := echoServer(t, opts)
	peers := make(chan *websocket.Conn, 1)
	upgrader := websocket.Upgrader{EnableCompression: way == deflating}
	forClients := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
		}
		peers <- conn
	})
	rules := slices.Concat(messageRules(), controlRules(), frameRules(), deflateRules())
	for role, connect := range map[string]func() (*websocket.Conn, <-chan error){
		"server": func() (*websocket.Conn, <-chan error) { return dial(t, server), serverEnds },
		"client": func() (*websocket.Conn, <-chan error) {
			_, ended := dialLink(t, forClients, opts, echo)
			return testkit.Receive(t, peers), ended
		},
	} {
		for _, r := range rules {
			if r.kind == deflateOnly && way != deflating || r.kind == plainOnly && way == deflating {
				continue
			}
			r.name = role + ": " + r.name
			peer, ended := connect()
			r.try(t, peer, ended, role == "server", 1<<30)
			if way == direct || way == deflating {
				peer, ended = connect()
				r.try(t, peer, ended, role == "server", 1)
			}
		}
	}
}

// try sends so many bytes at a time, or a few more if there are many.
func (r rule) try(t *testing.T, peer *websocket.Conn, ended <-chan error, byClient bool, pieces int) {
	defer peer.Close()
	send := func(frames []rawFrame) {
		var b []byte
		for _, f := range frames {
			b = f.append(b, byClient)
		}
		for piece := range slices.Chunk(b, max(1, min(len(b), max(pieces, len(b)/100)))) {
			if _, err := peer.NetConn().Write(piece); err != nil {
				return // it is closed already
			}
		}
	}
	var pongs []string
	peer.SetPongHandler(func(payload string) error {
		pongs = append(pongs, payload)
		return nil
	})
	if len(r.pongs) > 0 && len(r.echoed) == 0 { // the last words may come in place of a pong
		r.sent, r.echoed = append(slices.Clip(r.sent), text("after it")), []string{"tafter it"}
	}
	send(r.sent)
	for i, want := range r.echoed {
		kind, data, err := peer.ReadMessage()
		if got := string("?tb"[max(kind, 0)]) + string(data); err != nil || got != want {
			t.Errorf("%s: message %d is %.40q of %d bytes, %v; want %.40q of %d", r.name, i, got, len(got), err, want, len(want))
			return
		}
	}
	if r.last == nil && r.code == 0 {
		r.last, r.code = []rawFrame{goodbye(1000, "")}, 1000
	}
	send(r.last)
	_, data, err := peer.ReadMessage()
	if !websocket.IsCloseError(err, r.code) {
		t.Errorf("%s: got %.40q, %v; want code %d", r.name, data, err, r.code)
	}
	peer.Close()
	var end *link.CloseError
	if err := testkit.Receive(t, ended); !errors.As(err, &end) || end.ByPeer == r.ours || end.Code != r.code && (r.ours || end.Code != 1005) {
		t.Errorf("%s: Run returned %v", r.name, err)
	}
	switch {
	case way == direct && !slices.Equal(pongs, r.pongs): // others may answer the last ping only
		t.Errorf("%s: the pongs are %q, want %q", r.name, pongs, r.pongs)
	case len(r.pongs) > 0 && (len(pongs) == 0 || pongs[len(pongs)-1] != r.pongs[len(r.pongs)-1]):
		t.Errorf("%s: the pongs are %q, and should end as %q", r.name, pongs, r.pongs)
	}
}

// messageRules are of messages, whole and in parts, and of UTF-8.
func messageRules() (rules []rule) {
	for _, n := range []int{0, 1, 125, 126, 127, 128, 4096, 65_535, 65_536, maxOfRules} {
		s := strings.Repeat("*", n)
		rules = append(rules,
			rule{name: fmt.Sprint("text of ", n), sent: []rawFrame{text(s)}, echoed: []string{"t" + s}},
			rule{name: fmt.Sprint("binary of ", n), sent: []rawFrame{whole(wsframe.OpBinary, strings.ReplaceAll(s, "*", "\xfe"))}, echoed: []string{"b" + strings.ReplaceAll(s, "*", "\xfe")}},
		)
	}
	many := []rawFrame{part(wsframe.OpBinary, strings.Repeat("x", 1300))}
	for range 60 {
		many = append(many, part(wsframe.OpMore, strings.Repeat("y", 1300)))
	}
	many = append(many, whole(wsframe.OpMore, "z"))
	rules = append(rules,
		rule{name: "two parts", sent: []rawFrame{part(wsframe.OpText, "fragment1"), whole(wsframe.OpMore, "fragment2")}, echoed: []string{"tfragment1fragment2"}},
		rule{name: "a ping between parts", sent: []rawFrame{part(wsframe.OpText, "1"), ping("p"), part(wsframe.OpMore, "2"), ping("q"), whole(wsframe.OpMore, "3")}, echoed: []string{"t123"}, pongs: []string{"p", "q"}},
		rule{name: "empty parts", sent: []rawFrame{part(wsframe.OpText, ""), part(wsframe.OpMore, ""), whole(wsframe.OpMore, "")}, echoed: []string{"t"}},
		rule{name: "an empty part first", sent: []rawFrame{part(wsframe.OpBinary, ""), whole(wsframe.OpMore, "\xff")}, echoed: []string{"b\xff"}},
		rule{name: "an empty part last", sent: []rawFrame{part(wsframe.OpText, "x"), whole(wsframe.OpMore, "")}, echoed: []string{"tx"}},
		rule{name: "many parts", sent: many, echoed: []string{"b" + strings.Repeat("x", 1300) + strings.Repeat("y", 60*1300) + "z"}},
		rule{name: "a character in two parts", sent: []rawFrame{part(wsframe.OpText, "\xce"), whole(wsframe.OpMore, "\xba")}, echoed: []string{"tκ"}},
		rule{name: "two messages in parts", sent: []rawFrame{part(wsframe.OpText, "a"), whole(wsframe.OpMore, "b"), part(wsframe.OpBinary, "c"), whole(wsframe.OpMore, "d"), text("e")}, echoed: []string{"tab", "bcd", "te"}},
		rule{name: "one that goes on after its end", sent: []rawFrame{text("a")}, echoed: []string{"ta"}, last: []rawFrame{whole(wsframe.OpMore, "b")}, code: 1002, ours: true},
		rule{name: "one that goes on before it begins", last: []rawFrame{whole(wsframe.OpMore, "b")}, code: 1002, ours: true},
		rule{name: "a part that goes on before it begins", last: []rawFrame{part(wsframe.OpMore, "")}, code: 1002, ours: true},
		rule{name: "a text within a text", last: []rawFrame{part(wsframe.OpText, "a"), text("b")}, code: 1002, ours: true},
		rule{name: "a part of a binary within a text", last: []rawFrame{part(wsframe.OpText, "a"), part(wsframe.OpBinary, "b")}, code: 1002, ours: true},
		rule{name: "one byte too many", last: []rawFrame{text(strings.Repeat("x", maxOfRules+1))}, code: 1009, ours: true},
		rule{name: "one byte too many in parts", last: []rawFrame{part(wsframe.OpText, strings.Repeat("x", maxOfRules)), part(wsframe.OpMore, "x")}, code: 1009, ours: true},
		rule{name: "the longest length", last: []rawFrame{{first: fin | wsframe.OpBinary, length: "\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"}}, code: 1009, ours: true},
		rule{name: "the longest length in a part", last: []rawFrame{part(wsframe.OpText, "x"), {first: wsframe.OpMore, length: "\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"}}, code: 1009, ours: true},
	)
	for _, s := range []string{"Hello-µ@ßöäüàá-UTF-8!!", "\x00", "\u07ff\u0800\uffff\U00010000\U0010ffff", "\ud7ff\ue000\ufffd\ufffe"} {
		rules = append(rules, rule{name: "a text with " + s, sent: []rawFrame{text(s)}, echoed: []string{"t" + s}})
	}
	for _, s := range []string{"\x80", "\xbf", "a\xc0b", "\xc0\xaf", "\xc1\xbf", "\xe0\x80\xaf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xed\xa0\x80", "\xed\xbf\xbf", "\xfe", "\xff", "κόσ\xce", "\xe2\x82", strings.Repeat("x", 200) + "\xff"} {
		rules = append(rules,
			rule{name: fmt.Sprintf("a text with %q", s), last: []rawFrame{text(s)}, code: 1007, ours: true},
			rule{name: fmt.Sprintf("parts of a text with %q", s), last: []rawFrame{part(wsframe.OpText, s[:1]), whole(wsframe.OpMore, s[1:])}, code: 1007, ours: true},
			rule{name: fmt.Sprintf("a binary with %q", s), sent: []rawFrame{whole(wsframe.OpBinary, s)}, echoed: []string{"b" + s}})
	}
	return rules
}

// controlRules are of pings, pongs and close frames.
func controlRules() (rules []rule) {
	long := strings.Repeat("\xfe", 125)
	var pings []rawFrame
	var pongs []string
	for i := range 10 {
		pings, pongs = append(pings, ping(fmt.Sprint(i))), append(pongs, fmt.Sprint(i))
	}
	rules = []rule{
		{name: "an empty ping", sent: []rawFrame{ping("")}, pongs: []string{""}},
		{name: "the longest ping", sent: []rawFrame{ping(long)}, pongs: []string{long}},
		{name: "many pings", sent: pings, pongs: pongs},
		{name: "pongs that nobody wants", sent: []rawFrame{whole(wsframe.OpPong, ""), whole(wsframe.OpPong, long), ping("p")}, pongs: []string{"p"}},
		{name: "a close frame without a code", last: []rawFrame{whole(wsframe.OpClose, "")}, code: 1000},
		{name: "half a code", last: []rawFrame{whole(wsframe.OpClose, "\x03")}, code: 1002, ours: true},
		{name: "the longest reason", last: []rawFrame{goodbye(1000, strings.Repeat("x", 123))}, code: 1000},
		{name: "a reason", last: []rawFrame{goodbye(4321, "κόσμε")}, code: 4321},
		{name: "a reason that is not UTF-8", last: []rawFrame{goodbye(1000, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80")}, code: 1007, ours: true},
		{name: "a reason with half a character", last: []rawFrame{goodbye(1000, "x\xce")}, code: 1007, ours: true},
		{name: "more after the close frame", last: []rawFrame{goodbye(1001, ""), text("x"), ping("p"), goodbye(1000, ""), part(wsframe.OpMore, "")}, code: 1001},
		{name: "a close frame between parts", last: []rawFrame{part(wsframe.OpText, "x"), goodbye(1000, ""), whole(wsframe.OpMore, "y")}, code: 1000},
	}
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999} {
		rules = append(rules, rule{name: fmt.Sprint("code ", code), last: []rawFrame{goodbye(code, "")}, code: code})
	}
	for _, code := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535} {
		rules = append(rules, rule{name: fmt.Sprint("code ", code), last: []rawFrame{goodbye(code, "")}, code: 1002, ours: true})
	}
	for _, op := range []byte{wsframe.OpPing, wsframe.OpPong, wsframe.OpClose} {
		for name, f := range map[string]rawFrame{
			"too long":          whole(op, strings.Repeat("x", 126)),
			"much too long":     {first: fin | op, length: "\x7f\x00\x00\x00\x00\x00\x01\x00\x00"},
			"only a part":       part(op, ""),
			"with the 1st bit":  whole(rsv1|op, ""),
			"with the 2nd bit":  whole(0x20|op, ""),
			"with the 3rd bit":  whole(0x10|op, ""),
			"with a wrong mask": {first: fin | op, wrongMask: true, payload: "\x03\xe8"},
			"with a long 2":     {first: fin | op, length: "\x7e\x00\x02", payload: "\x03\xe8"},
		} {
			rules = append(rules, rule{name: fmt.Sprintf("op %d %s", op, name), last: []rawFrame{f, ping("x")}, code: 1002, ours: true})
		}
	}
	return rules
}

// frameRules are of headers.
func frameRules() (rules []rule) {
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		rules = append(rules,
			rule{name: fmt.Sprintf("op %d", op), sent: []rawFrame{text("x")}, echoed: []string{"tx"}, last: []rawFrame{whole(op, ""), ping("")}, code: 1002, ours: true},
			rule{name: fmt.Sprintf("op %d with a payload", op), last: []rawFrame{whole(op, "x")}, code: 1002, ours: true},
			rule{name: fmt.Sprintf("op %d in a message", op), last: []rawFrame{part(wsframe.OpText, "x"), part(op, "x")}, code: 1002, ours: true},
		)
	}
	for _, bits := range []byte{0x10, 0x20, 0x30, 0x50, 0x60, 0x70} {
		rules = append(rules,
			rule{name: fmt.Sprintf("a text with bits %#x", bits), last: []rawFrame{whole(bits|wsframe.OpText, "x")}, code: 1002, ours: true},
			rule{name: fmt.Sprintf("a part with bits %#x", bits), last: []rawFrame{part(wsframe.OpText, "x"), whole(bits|wsframe.OpMore, "x")}, code: 1002, ours: true},
		)
	}
	for name, f := range map[string]rawFrame{
		"a wrong mask":              {first: fin | wsframe.OpText, payload: "x", wrongMask: true},
		"a wrong mask of nothing":   {first: fin | wsframe.OpBinary, wrongMask: true},
		"a wrong mask of part":      {first: wsframe.OpText, payload: "x", wrongMask: true},
		"a length of 1 in 2 bytes":  {first: fin | wsframe.OpText, payload: "x", length: "\x7e\x00\x01"},
		"a length of 125 in 2":      {first: fin | wsframe.OpText, payload: strings.Repeat("x", 125), length: "\x7e\x00\x7d"},
		"a length of 1 in 8":        {first: fin | wsframe.OpText, payload: "x", length: "\x7f\x00\x00\x00\x00\x00\x00\x00\x01"},
		"a length of 65535 in 8":    {first: fin | wsframe.OpText, payload: strings.Repeat("x", 65_535), length: "\x7f\x00\x00\x00\x00\x00\x00\xff\xff"},
		"a length with its top bit": {first: fin | wsframe.OpText, payload: "x", length: "\x7f\x80\x00\x00\x00\x00\x00\x00\x01"},
		"a length of only ones":     {first: fin | wsframe.OpText, payload: "x", length: "\x7f\xff\xff\xff\xff\xff\xff\xff\xff"},
	} {
		rules = append(rules, rule{name: name, last: []rawFrame{f, ping("")}, code: 1002, ours: true})
	}
	return rules
}

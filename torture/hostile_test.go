package torture

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// closeCode reads until the end, and returns the code of the close frame, or 0 if the
// end has none.
func (p *rawPeer) closeCode() int {
	_ = p.SetReadDeadline(time.Now().Add(testkit.Patience))
	for {
		_, _, err := p.ReadMessage()
		if err == nil {
			continue
		}
		var ce *websocket.CloseError
		if errors.As(err, &ce) && ce.Code != websocket.CloseAbnormalClosure {
			return ce.Code
		}
		return 0
	}
}

// stays is what a hostile frame leads to that is refused, and no more.
const stays = -1

// What no honest client says harms nobody else: it is not relayed, the server says
// what is wrong and ends the connection or leaves the frame out, and others go on.
func TestHostileFrames(t *testing.T) {
	server := startServer(t, crosscomm.Config{}, nil)
	pair := newPair(t, server.addr)
	onServer := collect(server.Service)
	text := func(s string) []byte { return appendFrame(nil, wholeText, s) }
	frames := func(first ...any) (b []byte) { // first bytes and payloads
		for i := 0; i < len(first); i += 2 {
			b = appendFrame(b, byte(first[i].(int)), first[i+1].(string))
		}
		return b
	}
	spoofed := message("evil", "pair-b", "text", `"x"`)
	deep := func(open, shut string) string {
		return message("evil", "all", "dict", strings.Repeat(open, 100_000)+strings.Repeat(shut, 100_000))
	}
	long := strings.Repeat("i", 1<<20-400)
	for _, tc := range []struct {
		name string
		say  []byte
		code int
	}{
		{"an id that is another's", text(message("pair-a", "pair-b", "text", `"x"`)), stays},
		{"the server's id", text(message("server", "all", "text", `"x"`)), stays},
		{"an id that only looks the same", text(message("p\u0430ir-a", "pair-b", "text", `"x"`)), stays},
		{"an id twice, the last another's", text(strings.Replace(spoofed, `"from_client_id": "evil"`, `"from_client_id": "evil", "from_client_id": "pair-a"`, 1)), stays},
		{"an id twice, one key escaped", text(strings.Replace(spoofed, `"from_client_id": "evil"`, `"from_client_id": "evil", "from_client\u005fid": "pair-a"`, 1)), stays},
		{"an id twice, all of one key escaped", text(strings.Replace(spoofed, `"from_client_id": "evil"`, `"from_client_id": "evil", "\u0066\u0072\u006f\u006d\u005f\u0063\u006c\u0069\u0065\u006e\u0074\u005f\u0069\u0064": "pair-a"`, 1)), stays},
		{"a receiver twice with one that is a number", text(strings.Replace(spoofed, `"to_client_id": "pair-b"`, `"to_client_id": "pair-b", "to_client_id": 5`, 1)), stays},
		{"a logout of another", text(message("pair-a", "server", "logout", "{}")), stays},
		{"a login of another id", text(message("pair-a", "server", "login", "{}")), stays},
		{"an answer of the server's", text(message("evil", "pair-a", "login_response", `{"status": "failed"}`)), stays},
		{"an id of a megabyte", text(message(long, "pair-a", "text", `"x"`)), stays},
		{"a receiver of a megabyte", text(message("evil", long, "text", `"x"`)), stays},
		{"a type of a megabyte", text(message("evil", "pair-a", long, `"x"`)), stays},
		{"100,000 brackets", text(deep("[", "]")), stays},
		{"100,000 braces", text(deep(`{"a":`, "}")), stays},
		{"100,000 brackets that stay open", text(deep("[", "")), stays},
		{"bad UTF-8", text(message("evil", "pair-a", "text", "\"\xc3\x28\"")), websocket.CloseInvalidFramePayloadData},
		{"bad UTF-8 in an id", text(message("ev\xffil", "pair-a", "text", `"x"`)), websocket.CloseInvalidFramePayloadData},
		{"bad UTF-8, cut between fragments", frames(wsframe.OpText, "\"\xc3", wsframe.Final|wsframe.OpMore, "\x28\""), websocket.CloseInvalidFramePayloadData},
		{"a binary frame of no UTF-8", frames(wsframe.Final|2, message("evil", "pair-a", "text", "\"\xff\"")), stays},
		{"a continuation of nothing", frames(wsframe.Final|wsframe.OpMore, spoofed), websocket.CloseProtocolError},
		{"a message within another", frames(wsframe.OpText, spoofed[:50], wholeText, spoofed), websocket.CloseProtocolError},
		{"a ping in parts", frames(wsframe.OpPing, "x", wsframe.Final|wsframe.OpMore, "y"), websocket.CloseProtocolError},
		{"a ping of 126 bytes", frames(wsframe.Final|wsframe.OpPing, strings.Repeat("p", 126)), websocket.CloseProtocolError},
		// gorilla takes it for an empty one, where RFC 6455 wants 1002
		{"a close of one byte", frames(wsframe.Final|wsframe.OpClose, "x"), websocket.CloseProtocolError},
		{"a close with a code that nobody may send", frames(wsframe.Final|wsframe.OpClose, "\x03\xee"), websocket.CloseProtocolError},
		{"a close with bad UTF-8", frames(wsframe.Final|wsframe.OpClose, "\x03\xe8\xff"), websocket.CloseInvalidFramePayloadData},
		{"a message after the close", frames(wsframe.Final|wsframe.OpClose, "\x03\xe8", wholeText, message("evil", "pair-a", "text", `"late"`)), websocket.CloseNormalClosure},
		{"an opcode that is not there", frames(wsframe.Final|5, "x"), websocket.CloseProtocolError},
		{"a control opcode that is not there", frames(wsframe.Final|15, "x"), websocket.CloseProtocolError},
		{"a reserved bit", frames(wholeText|0x20, spoofed), websocket.CloseProtocolError},
		{"compression that was not agreed on", frames(wholeText|wsframe.Deflated, "\x00"), websocket.CloseProtocolError},
		{"no mask", append(wsframe.AppendHeader(nil, wsframe.OpText, 5, 0), "hello"...), websocket.CloseProtocolError},
		{"a length of 2^63", []byte{wholeText, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, 0},
		{"a length of 2^63-1", []byte{wholeText, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, websocket.CloseMessageTooBig},
		{"10,000 empty parts, and then too much", partsOver(10_000), websocket.CloseMessageTooBig},
	} {
		unharmed := t.Run(tc.name, func(t *testing.T) {
			refused := server.Stats().Refused
			p, err := loginRaw(server.addr, "evil")
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			_, _ = p.NetConn().Write(tc.say) // the server may end it before all is written
			if tc.code == stays {
				testkit.Eventually(t, "the frame is refused, or for nobody", func() bool {
					s := server.Stats()
					return s.Refused == refused+1 || s.Undelivered > 0 && strings.Contains(tc.name, "receiver of a megabyte")
				})
				if err := p.write("evil", "text", `"I am still here"`); err != nil {
					t.Error(err)
				}
				if _, _, err := p.ReadMessage(); err != nil {
					t.Errorf("the connection has ended: %v", err)
				}
			} else if code := p.closeCode(); code != tc.code && tc.code != 0 {
				t.Errorf("it was closed with %d, want %d", code, tc.code)
			}
			pair.check(t)
			p.Close()
			testkit.Eventually(t, "the pair alone is there", func() bool {
				return slices.Equal(server.GetOnlineClients(), []string{"pair-a", "pair-b"})
			})
			if len(onServer) != 0 {
				t.Errorf("the server heard %.100q", (<-onServer).Text())
			}
		})
		if !unharmed {
			return
		}
	}
	t.Logf("after each of these others were unharmed: %v", times(pair.roundTrips))
}

// partsOver are so many empty parts of a message, and one more byte than it may have.
func partsOver(empty int) []byte {
	b := appendFrame(nil, wsframe.OpText, "")
	b = append(b, bytes.Repeat(appendFrame(nil, wsframe.OpMore, ""), empty)...)
	return appendFrame(b, wsframe.Final|wsframe.OpMore, strings.Repeat("x", crosscomm.DefaultMaxMessageSize+1))
}

// What is not JSON, or nearly what a client may say, a million times, before the login
// and after it: nothing is relayed, and others go on.
func TestGarbage(t *testing.T) {
	server := startServer(t, crosscomm.Config{}, nil)
	pair := newPair(t, server.addr)
	onServer := collect(server.Service)
	senders, each := 4, ofFull(2500, 250_000)
	done := make(chan struct{})
	var all sync.WaitGroup
	var written atomic.Int64
	for i := range senders {
		all.Go(func() {
			var p *rawPeer
			var err error
			id := fmt.Sprint("garbage-", i)
			if i%2 == 0 {
				p, err = loginRaw(server.addr, id)
			} else {
				p, err = dialRaw(server.addr) // all is before its login
			}
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { p.Close() }()
			r := rand.New(rand.NewPCG(1, uint64(i)))
			good := message(id, "nowhere", "text", `{"a": [1, "\u00e9", null]}`)
			for range each {
				bad := []byte(good)
				for range 1 + r.IntN(3) {
					switch at := r.IntN(len(bad)); r.IntN(3) {
					case 0:
						bad[at] = byte(r.IntN(128))
					case 1:
						bad = bad[:at+1]
					case 2:
						bad = slices.Insert(bad, at, bad[r.IntN(len(bad))])
					}
				}
				bad = append(bad, '}')
				if p.WriteMessage(websocket.TextMessage, bad) != nil {
					p.Close()
					if p, err = dialRaw(server.addr); err != nil { // it had no login for 10 s
						t.Error(err)
						return
					}
				}
				written.Add(1)
			}
		})
	}
	began := time.Now()
	go func() { all.Wait(); close(done) }()
	trips := pair.measure(t, done)
	testkit.Eventually(t, "the server has read them", func() bool {
		return slices.Equal(server.GetOnlineClients(), []string{"pair-a", "pair-b"})
	})
	s := server.Stats()
	t.Logf("%d frames of garbage in %v, %d refused; %v", written.Load(), time.Since(began).Round(time.Millisecond), s.Refused, trips)
	if got := int64(s.Refused); got < written.Load()/2 {
		t.Errorf("only %d were refused", got)
	}
	if len(onServer) != 0 {
		t.Errorf("the server heard %.100q", (<-onServer).Text())
	}
}

// bomb is a message that inflates to so many bytes of blanks, compressed.
func bomb(size int) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression) // the level is right
	blanks := bytes.Repeat([]byte(" "), 1<<20)
	for ; size > 0; size -= len(blanks) {
		_, _ = w.Write(blanks)
	}
	_ = w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

// What inflates to a thousand times its size is not inflated beyond what a message may
// have, however many send it at once.
func TestCompressionBombs(t *testing.T) {
	sideBySide(t)
	server := startChild(t, childConfig{Compression: true})
	pair := newPair(t, server.addr)
	before := server.figures()
	payload := string(bomb(ofFull(64<<20, 900<<20)))
	attackers := ofFull(4, 100)
	done := make(chan struct{})
	var all sync.WaitGroup
	for range attackers {
		all.Go(func() {
			dialer := websocket.Dialer{EnableCompression: true}
			conn, resp, err := dialer.Dial("ws://"+server.addr+"/", nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if agreed, err := wsframe.AgreesToDeflate(resp.Header, true); !agreed {
				t.Errorf("the server does not agree to compression: %v", err)
			}
			_, _ = conn.NetConn().Write(appendFrame(nil, wholeText|wsframe.Deflated, payload))
			if code := (&rawPeer{Conn: conn}).closeCode(); code != websocket.CloseMessageTooBig {
				t.Errorf("it was closed with %d", code)
			}
		})
	}
	go func() { all.Wait(); close(done) }()
	trips := pair.measure(t, done)
	t.Logf("%d at once of %d bytes, which inflate to a thousand times that; %v", attackers, len(payload), trips)
	t.Logf("before: %v", before)
	t.Logf("after:  %v", server.returnsTo(before))
}

// A login each millisecond, on one connection and on ever new ones: others go on.
func TestLoginFlood(t *testing.T) {
	sideBySide(t)
	server := startChild(t, childConfig{})
	pair := newPair(t, server.addr)
	before := server.figures()
	idle := make(chan struct{})
	close(idle)
	t.Logf("without it: %v", pair.measure(t, idle))
	duration := time.Duration(ofFull(1, 60)) * time.Second
	for _, one := range []bool{true, false} {
		ctx, cancel := context.WithTimeout(t.Context(), duration)
		defer cancel()
		logins := 0
		var flood sync.WaitGroup
		flood.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			var p *rawPeer
			var err error
			var reading sync.WaitGroup
			for ; ctx.Err() == nil; <-tick.C {
				switch {
				case !one:
					if p, err = loginRaw(server.addr, fmt.Sprint("flood-", logins%100)); err == nil {
						p.Close()
					}
				case p == nil:
					if p, err = loginRaw(server.addr, "flood"); err == nil {
						reading.Go(func() {
							for err := error(nil); err == nil; {
								_, _, err = p.NextReader()
							}
						})
					}
				default:
					err = p.write("server", "login", "{}")
				}
				if err != nil {
					t.Error(err)
					return
				}
				logins++
			}
			p.Close()
			reading.Wait()
		})
		trips := pair.measure(t, ctx.Done())
		flood.Wait()
		t.Logf("%d logins in %v, on one connection: %v; %v", logins, duration, one, trips)
	}
	t.Logf("before: %v", before)
	t.Logf("after:  %v", server.returnsTo(before))
	resp, err := http.Get("http://" + server.addr + "/") // a server that is alive says what it is
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
}

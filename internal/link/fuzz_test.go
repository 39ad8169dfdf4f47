package link_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// cutConn is a connection on which bytes come in pieces of the given sizes, again and
// again. What is written to it goes nowhere.
type cutConn struct {
	net.Conn // nil: nothing else is called
	data     []byte
	cuts     []byte
	reads    int
	before   func(came int) // called before each read with how much has come
	came     int
}

func (c *cutConn) Read(p []byte) (int, error) {
	c.before(c.came)
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := len(c.data)
	if len(c.cuts) > 0 {
		n = min(n, int(c.cuts[c.reads%len(c.cuts)])+1)
	}
	c.reads++
	n = copy(p, c.data[:n])
	c.data = c.data[n:]
	c.came += n
	return n, nil
}

func (c *cutConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *cutConn) Close() error                     { return nil }
func (c *cutConn) SetReadDeadline(time.Time) error  { return nil }
func (c *cutConn) SetWriteDeadline(time.Time) error { return nil }

// maxFuzzed is what a message may have: more than the smallest room for it.
const maxFuzzed = 10_000

// lastMark is the only mark that the peer may answer.
const lastMark = 1 << 9

// Whatever comes, in whatever pieces: what is handled keeps to the limits, as does
// the memory for it, and does not depend on the pieces. A text that is not UTF-8 is
// the last message. Marks are answered in their order, and none that was not written.
func FuzzRead(f *testing.F) {
	answers := rule{last: []rawFrame{text("x")}}
	for _, n := range []uint64{0, 1, 300, 299, lastMark + 1, lastMark, lastMark} {
		answers.sent = append(answers.sent, whole(wsframe.OpPong, markPayload(n)))
	}
	for _, r := range slices.Concat(messageRules(), controlRules(), frameRules(), deflateRules(), []rule{answers}) {
		for _, client := range []bool{false, true} {
			var b []byte
			for _, frame := range slices.Concat(r.sent, r.last) {
				b = frame.append(b, !client)
			}
			if len(b) < 2*maxFuzzed {
				f.Add(b, []byte{3, 200, 0}, client, r.kind == deflateOnly)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data, cuts []byte, client, deflate bool) {
		want := readCut(t, data, nil, client, deflate)
		for _, cuts := range [][]byte{{0}, cuts} {
			if got := readCut(t, data, cuts, client, deflate); !slices.Equal(got, want) {
				t.Errorf("in pieces of %d: %.300q\nas a whole: %.300q", cuts, got, want)
			}
		}
	})
}

// readCut returns the messages that come, and how the link ends.
func readCut(t *testing.T, data, cuts []byte, client, deflate bool) (outcome []string) {
	var l *link.Link
	conn := &cutConn{data: data, cuts: cuts, before: func(came int) {
		// A page, and then a block of 64 KiB, and then up to twice what has come.
		if held := l.Held(); held > 4<<10 && came <= 4<<10 || held > 64<<10 && held > 2*came {
			t.Errorf("%d bytes are held for %d", held, came)
		}
	}}
	input := new(link.Input)
	input.Take(conn)
	answered := uint64(0)
	l = link.New(input, link.Options{MaxMessage: maxFuzzed, MaxQueued: 1 << 20, Client: client, Deflate: deflate, OnMark: func(n uint64) {
		if n <= answered || n > lastMark {
			t.Errorf("mark %d is answered after %d", n, answered)
		}
		answered = n
		outcome = append(outcome, fmt.Sprint("mark ", n))
	}})
	if err := l.Mark(lastMark); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(context.Background(), nil); err != nil { // after which the mark is written
		t.Fatal(err)
	}
	invalid := false
	err := l.Run(func(data []byte, text bool) bool {
		if len(data) > maxFuzzed || invalid {
			t.Errorf("%d bytes are handled, after bad UTF-8: %v", len(data), invalid)
		}
		outcome = append(outcome, fmt.Sprint(text, string(data)))
		invalid = text && !utf8.Valid(data)
		return !invalid
	})
	var end *link.CloseError
	switch {
	case errors.As(err, &end) && (invalid && end.Code != 1007 || end.Code < 1000 || end.Code > 4999):
		t.Errorf("after bad UTF-8: %v, it ended with %v", invalid, err)
	case end == nil && (invalid || !errors.Is(err, io.ErrUnexpectedEOF)):
		t.Errorf("after bad UTF-8: %v, it ended with %v", invalid, err)
	}
	return append(outcome, err.Error())
}

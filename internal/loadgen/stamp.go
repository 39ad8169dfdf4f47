package loadgen

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// stampSize is the length of a sequence number and a time, in hexadecimal.
const stampSize = 32

var epoch = time.Now() // what times in stamps count from

// series makes the messages of one sender to one receiver, or to all: the same
// but for their stamps.
type series struct {
	frame   []byte // with its header
	text    []byte // the part of it that is JSON
	at      int    // where the stamp is in text
	next    uint64
	deflate bool

	expected []byte // the text that no stamp is put into
}

// newSeries makes messages of so many bytes, before they are compressed.
func newSeries(from, to string, size int, deflate bool) *series {
	stamp := strings.Repeat("0", stampSize)
	filler := fill(size-len(textMessage(from, to, stamp)), deflate)
	text := textMessage(from, to, stamp+filler)
	frame := wsframe.AppendUnmasked(nil, wsframe.OpText, text)
	s := &series{frame: frame, text: frame[len(frame)-len(text):], deflate: deflate, expected: text}
	s.at = bytes.Index(s.text, []byte(stamp+filler))
	return s
}

// textMessage is a message with a content that is text without anything to
// escape.
func textMessage(from, to, content string) []byte {
	return message(from, to, "text", `"`+content+`"`)
}

// words are what compressed messages consist of. What is all the same would
// cost less to compress than anything that is ever sent.
var words = strings.Fields(`temperature pressure humidity voltage position velocity status device
	sensor network message account customer order invoice payment delivery the of and to in that it
	is was for on are with as his they be at one have this from`)

// fill returns so many bytes that are no message's stamp. Those to be compressed
// are the same in every run.
func fill(n int, deflate bool) string {
	if !deflate {
		return strings.Repeat("x", n)
	}
	random := rand.New(rand.NewPCG(0, 0))
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%s %d ", words[random.IntN(len(words))], random.IntN(1000))
	}
	return b.String()[:n]
}

// append appends the next message.
func (s *series) append(b []byte) []byte {
	putHex(s.text[s.at:], s.next)
	putHex(s.text[s.at+16:], uint64(time.Since(epoch)))
	s.next++
	if s.deflate {
		return appendDeflated(b, s.text)
	}
	return append(b, s.frame...)
}

func putHex(b []byte, n uint64) {
	const digits = "0123456789abcdef"
	for i := 15; i >= 0; i-- {
		b[i] = digits[n&15]
		n >>= 4
	}
}

// checker checks what comes of a series.
type checker struct {
	text []byte // of any message of it; all checkers share it
	at   int
	next uint64
}

func (s *series) checker() *checker {
	return &checker{text: s.expected, at: s.at}
}

var (
	errChanged = errors.New("a message has arrived changed")
	errOrder   = errors.New("a message has not arrived in its turn, or not once")
)

// check returns how long the message was under way.
func (c *checker) check(text []byte) (time.Duration, error) {
	end := c.at + stampSize
	if len(text) != len(c.text) || !bytes.Equal(text[:c.at], c.text[:c.at]) || !bytes.Equal(text[end:], c.text[end:]) {
		// A server may write the JSON anew.
		var err error
		if text, err = c.rewritten(text); err != nil {
			return 0, err
		}
	}
	var stamp [16]byte
	if _, err := hex.Decode(stamp[:], text[c.at:end]); err != nil {
		return 0, errChanged
	}
	seq, sent := uint64(0), uint64(0)
	for i := range 8 {
		seq, sent = seq<<8|uint64(stamp[i]), sent<<8|uint64(stamp[8+i])
	}
	if seq != c.next {
		return 0, fmt.Errorf("%w: number %d in place of %d", errOrder, seq, c.next)
	}
	c.next++
	return time.Since(epoch) - time.Duration(sent), nil
}

// rewritten returns the text as it was sent, if it is the same JSON but for the
// stamp.
func (c *checker) rewritten(text []byte) ([]byte, error) {
	var got, want map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		return nil, fmt.Errorf("%w: %.200q", errChanged, text)
	}
	if err := json.Unmarshal(c.text, &want); err != nil {
		return nil, err
	}
	content, _ := got["content"].(string)
	expected, _ := want["content"].(string)
	same := len(content) == len(expected) && content[stampSize:] == expected[stampSize:]
	for key, value := range want {
		same = same && (key == "content" || got[key] == value)
	}
	if !same || len(got) != len(want) {
		return nil, fmt.Errorf("%w: %.200q", errChanged, text)
	}
	original := bytes.Clone(c.text)
	copy(original[c.at:], content[:stampSize])
	return original, nil
}

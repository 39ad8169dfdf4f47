package loadgen

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
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
	idAt    int    // where the number is in its msg_id; 0 for not
	next    uint64
	deflate bool

	expected []byte // the text that no stamp is put into
}

// numberSize is the length of a sequence number, with which a stamp begins.
const numberSize = stampSize / 2

// newSeries makes messages of so many bytes, before they are compressed. With a
// stage each has a msg_id of its own, and asks for a receipt by headers that are not
// in its size.
func newSeries(from, to string, size int, deflate bool, stage string) *series {
	stamp := strings.Repeat("0", stampSize)
	filler := fill(size-sizeOf(from, to, stamp, stage), deflate)
	text := textMessage(from, to, stamp+filler, stage)
	frame := wsframe.AppendUnmasked(nil, wsframe.OpText, text)
	s := &series{frame: frame, text: frame[len(frame)-len(text):], deflate: deflate, expected: text}
	s.at = bytes.Index(s.text, []byte(stamp+filler))
	if stage != "" {
		s.idAt = bytes.Index(s.text, []byte(idPrefix)) + len(idPrefix)
	}
	return s
}

// idPrefix is that of msg_ids, before the number.
const idPrefix = plainID + "_"

// textMessage is a message with a content that is text without anything to
// escape. With a stage it asks for a receipt, and its msg_id has the number 0.
func textMessage(from, to, content, stage string) []byte {
	if stage == "" {
		return message(plainID, from, to, "text", `"`+content+`"`)
	}
	text := message(idPrefix+strings.Repeat("0", numberSize), from, to, "text", `"`+content+`"`)
	return append(text[:len(text)-1], headers(stage)+"}"...)
}

// headers are those by which a message asks for a receipt.
func headers(stage string) string {
	if stage == "" {
		return ""
	}
	return `,"headers":{"delivery":"` + stage + `"}`
}

// sizeOf is the size of such a message but for its headers.
func sizeOf(from, to, content, stage string) int {
	return len(textMessage(from, to, content, stage)) - len(headers(stage))
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
	if s.idAt > 0 {
		putHex(s.text[s.idAt:], s.next)
	}
	putHex(s.text[s.at+numberSize:], uint64(time.Since(epoch)))
	s.next++
	if s.deflate {
		return appendDeflated(b, s.text)
	}
	return append(b, s.frame...)
}

func putHex(b []byte, n uint64) {
	const digits = "0123456789abcdef"
	for i := numberSize - 1; i >= 0; i-- {
		b[i] = digits[n&15]
		n >>= 4
	}
}

// checker checks what comes of a series.
type checker struct {
	text []byte // of any message of it; all checkers share it
	at   int
	idAt int // as in series
	next uint64
}

func (s *series) checker() *checker {
	return &checker{text: s.expected, at: s.at, idAt: s.idAt}
}

var (
	errChanged = errors.New("a message has arrived changed")
	errOrder   = errors.New("a message has not arrived in its turn, or not once")
)

// check returns how long the message was under way.
func (c *checker) check(text []byte) (time.Duration, error) {
	end := c.at + stampSize
	if !c.isSame(text) {
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

// isSame reports whether the text is as it was sent, whatever its stamp.
func (c *checker) isSame(text []byte) bool {
	if len(text) != len(c.text) {
		return false
	}
	begin := 0
	if c.idAt > 0 {
		if begin = c.idAt + numberSize; !bytes.Equal(text[c.idAt:begin], text[c.at:c.at+numberSize]) {
			return false
		}
	}
	end := c.at + stampSize
	return bytes.Equal(text[:c.idAt], c.text[:c.idAt]) && bytes.Equal(text[begin:c.at], c.text[begin:c.at]) && bytes.Equal(text[end:], c.text[end:])
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
	if id, _ := want["msg_id"].(string); same && c.idAt > 0 {
		want["msg_id"] = id[:len(id)-numberSize] + content[:numberSize]
	}
	for key, value := range want {
		same = same && (key == "content" || reflect.DeepEqual(got[key], value))
	}
	if !same || len(got) != len(want) {
		return nil, fmt.Errorf("%w: %.200q", errChanged, text)
	}
	original := bytes.Clone(c.text)
	copy(original[c.at:], content[:stampSize])
	if c.idAt > 0 {
		copy(original[c.idAt:], content[:numberSize])
	}
	return original, nil
}

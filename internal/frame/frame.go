// Package frame reads the cross_comm wire frame: one JSON object with the keys
// msg_id, from_client_id, to_client_id, msg_type, content, timestamp and oss_key,
// and, where both ends have agreed on it, headers.
//
// A relay must know who sent a frame and whom it is for, and must pass the
// frame on untouched. So this package never builds a tree: [Scan] validates
// the whole text in one pass and returns where the values lie.
//
// What counts as valid is what Python's json.loads accepts, since the original
// server is written on it: JSON (RFC 8259) plus NaN, Infinity and -Infinity and
// lone surrogates in strings. Numbers may be of any size, although Python since
// 3.11 refuses integers of more than 4,300 digits. Of duplicate keys the
// last one wins, and a key may be written with escapes, as in any full JSON
// parser.
//
// All functions are pure and may be called concurrently.
package frame

import (
	"fmt"
	"math/bits"
	"slices"
)

// MaxDepth is how deeply arrays and objects may nest, the frame's own object
// included. Python's parser gives up near 1,000 levels and Jackson's at 1,000, so
// a deeper frame could not be read by the peers it is relayed to.
const MaxDepth = 900

// A Frame holds the values of a scanned frame. From, To and Type are decoded
// strings; the others are the JSON text of the values. All may alias the
// scanned bytes, so they are valid as long as those are.
type Frame struct {
	From, To, Type []byte
	MsgID          []byte // JSON text
	Content        []byte // JSON text
	ContentAt      int    // where Content begins in the scanned bytes
	Timestamp      []byte // JSON text
	OSSKey         []byte // JSON text; nil if the key is missing
	Headers        []byte // JSON text of an object; nil if there are none, see [ScanAgreed]

	headers span // what is to be cut out to be rid of them
}

// span is a part of the scanned bytes.
type span struct{ begin, end int }

// An Error says why a text is no frame, or no JSON.
type Error struct {
	Offset int    // where in the text, in bytes; 0 also if it is about the whole
	Reason string // never holds more than a few bytes of the text
}

func (e *Error) Error() string {
	if e.Offset == 0 {
		return e.Reason
	}
	return fmt.Sprintf("%s at byte %d", e.Reason, e.Offset)
}

// The keys of a frame, in the order in which all known peers write them.
const (
	KeyMsgID     = "msg_id"
	KeyFrom      = "from_client_id"
	KeyTo        = "to_client_id"
	KeyType      = "msg_type"
	KeyContent   = "content"
	KeyTimestamp = "timestamp"
	KeyOSSKey    = "oss_key"
	KeyHeaders   = "headers" // on agreed connections only
)

// the keys of a frame, as bits of the set of those seen
const (
	bitMsgID = 1 << iota
	bitFrom
	bitTo
	bitType
	bitContent
	bitTimestamp
	bitOSSKey
	bitHeaders

	required = bitMsgID | bitFrom | bitTo | bitType | bitContent | bitTimestamp
)

var keyNames = [...]string{KeyMsgID, KeyFrom, KeyTo, KeyType, KeyContent, KeyTimestamp, KeyOSSKey}

// Scan validates data as one frame and returns its values. It returns an
// *[Error] if data is not valid UTF-8 JSON (in the sense of the package
// comment), is not an object, lacks a key other than oss_key, has any other
// key, or if from_client_id, to_client_id or msg_type is not a string.
// Whether msg_type is a known one is for the caller to say.
func Scan(data []byte) (Frame, error) { return ScanNested(data, MaxDepth) }

// ScanNested is Scan with another bound than [MaxDepth].
func ScanNested(data []byte, maxDepth int) (Frame, error) { return scan(data, maxDepth, false) }

// ScanAgreed is ScanNested for a connection that has agreed on headers: they may
// be there, once, and must be an object.
func ScanAgreed(data []byte, maxDepth int) (Frame, error) { return scan(data, maxDepth, true) }

func scan(data []byte, maxDepth int, agreed bool) (Frame, error) {
	s := scanner{data: data, maxDepth: maxDepth, agreed: agreed}
	var f Frame
	var from, to, typ value
	seen := 0

	s.space()
	if !s.take('{') {
		return Frame{}, s.fail("not a JSON object")
	}
	s.depth = 1
	s.space()
	for more, next, before := !s.take('}'), 0, 0; more; next++ {
		keyAt := s.pos
		key := s.usual(next)
		if key == 0 {
			start := s.pos
			raw, err := s.str()
			if err != nil {
				return Frame{}, err
			}
			if key = s.keyOf(raw); key == 0 {
				s.pos = start
				return Frame{}, s.fail("unknown key " + clip(raw))
			}
			if err := s.colon(); err != nil {
				return Frame{}, err
			}
		}
		s.escaped = false
		valueAt := s.pos
		val, err := s.value()
		if err != nil {
			return Frame{}, err
		}
		if key == bitHeaders && (seen&bitHeaders != 0 || val[0] != '{') {
			s.pos = valueAt
			return Frame{}, s.fail("headers must be one object")
		}
		seen |= key
		end := s.pos
		switch key {
		case bitMsgID:
			f.MsgID = val
		case bitFrom:
			from = value{val, s.escaped}
		case bitTo:
			to = value{val, s.escaped}
		case bitType:
			typ = value{val, s.escaped}
		case bitContent:
			f.Content, f.ContentAt = val, s.pos-len(val)
		case bitTimestamp:
			f.Timestamp = val
		case bitOSSKey:
			f.OSSKey = val
		case bitHeaders:
			f.Headers = val
		}
		if more, err = s.another('}'); err != nil {
			return Frame{}, err
		}
		if key == bitHeaders {
			if f.headers = (span{before, end}); next == 0 {
				f.headers = span{keyAt, s.pos} // with the comma behind them
			}
		}
		before = end
	}
	s.space()
	if s.pos != len(data) {
		return Frame{}, s.fail("text after the JSON object")
	}
	if missing := required &^ seen; missing != 0 {
		return Frame{}, &Error{Reason: "missing key " + keyNames[bits.TrailingZeros(uint(missing))]}
	}
	// Only now is it known which of duplicate keys counts.
	var ok [3]bool
	f.From, ok[0] = from.unquote()
	f.To, ok[1] = to.unquote()
	f.Type, ok[2] = typ.unquote()
	if ok != [3]bool{true, true, true} {
		return Frame{}, &Error{Reason: keyNames[1+slices.Index(ok[:], false)] + " is not a string"}
	}
	return f, nil
}

// AppendPlain appends the frame, which was scanned from data, without its headers.
func (f *Frame) AppendPlain(dst, data []byte) []byte {
	return append(append(dst, data[:f.headers.begin]...), data[f.headers.end:]...)
}

// PlainContentAt returns where Content begins in what AppendPlain appends.
func (f *Frame) PlainContentAt() int {
	if f.headers.end > f.ContentAt {
		return f.ContentAt
	}
	return f.ContentAt - (f.headers.end - f.headers.begin)
}

// value is the JSON text of one, and whether there are escapes in it.
type value struct {
	raw     []byte
	escaped bool
}

func (v value) unquote() ([]byte, bool) {
	if !v.escaped && len(v.raw) >= 2 && v.raw[0] == '"' {
		return v.raw[1 : len(v.raw)-1], true
	}
	return unquote(v.raw)
}

// usualKeys are the keys with their colons, in their usual order.
var usualKeys = [...]string{
	`"` + KeyMsgID + `":`,
	`"` + KeyFrom + `":`,
	`"` + KeyTo + `":`,
	`"` + KeyType + `":`,
	`"` + KeyContent + `":`,
	`"` + KeyTimestamp + `":`,
	`"` + KeyOSSKey + `":`,
	`"` + KeyHeaders + `":`,
}

// usual steps over the key of that place, its colon and space if this is how it
// is written, and returns its bit, or else 0: most frames are alike.
func (s *scanner) usual(place int) int {
	if place >= len(usualKeys) || 1<<place == bitHeaders && !s.agreed {
		return 0
	}
	key := usualKeys[place]
	if rest := s.data[s.pos:]; len(rest) < len(key) || string(rest[:len(key)]) != key {
		return 0
	}
	s.pos += len(key)
	s.space()
	return 1 << place
}

// keyOf returns the bit of a key given as JSON text, 0 for an unknown one.
func (s *scanner) keyOf(raw []byte) int {
	name, _ := unquote(raw)
	switch string(name) {
	case KeyMsgID:
		return bitMsgID
	case KeyFrom:
		return bitFrom
	case KeyTo:
		return bitTo
	case KeyType:
		return bitType
	case KeyContent:
		return bitContent
	case KeyTimestamp:
		return bitTimestamp
	case KeyOSSKey:
		return bitOSSKey
	case KeyHeaders:
		if s.agreed {
			return bitHeaders
		}
	}
	return 0
}

func clip(b []byte) string {
	if len(b) > 40 {
		b = b[:40]
	}
	return fmt.Sprintf("%q", b)
}

// Valid returns nil if data is exactly one JSON value in the sense of the
// package comment, with white space allowed around it, or else an *[Error].
func Valid(data []byte) error {
	s := scanner{data: data, maxDepth: MaxDepth}
	s.space()
	if _, err := s.value(); err != nil {
		return err
	}
	s.space()
	if s.pos != len(data) {
		return s.fail("text after the JSON value")
	}
	return nil
}

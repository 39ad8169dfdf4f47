package frame

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// scanner walks over JSON text once, validating it. Its methods leave pos
// behind what they accepted, and an error tells of the byte at pos.
type scanner struct {
	data     []byte
	pos      int
	depth    int
	maxDepth int
	agreed   bool // whether there may be headers
	escaped  bool // set by an escape
	comma    int  // where the last comma was, of whatever
}

func (s *scanner) fail(reason string) error {
	if s.pos >= len(s.data) {
		reason += " (the text ends here)"
	}
	return &Error{Offset: s.pos, Reason: reason}
}

// space skips what JSON calls white space.
func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// take steps over c if it is next.
func (s *scanner) take(c byte) bool {
	if s.pos < len(s.data) && s.data[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// colon steps over the colon after a key, and over space.
func (s *scanner) colon() error {
	s.space()
	if !s.take(':') {
		return s.fail("expected a colon after the key")
	}
	s.space()
	return nil
}

// another scans what follows an element: a comma, after which another must
// come, or the closing bracket.
func (s *scanner) another(closing byte) (bool, error) {
	s.space()
	if s.take(',') {
		s.comma = s.pos - 1
		s.space()
		return true, nil
	}
	if s.take(closing) {
		return false, nil
	}
	return false, s.fail("expected a comma or a closing bracket")
}

// value scans one value and returns its text.
func (s *scanner) value() ([]byte, error) {
	start := s.pos
	if s.pos >= len(s.data) {
		return nil, s.fail("expected a value")
	}
	var err error
	switch c := s.data[s.pos]; c {
	case '"':
		return s.str()
	case '{', '[':
		err = s.nested(c + 2) // in ASCII, '}' and ']' follow two after '{' and '['
	case 't':
		err = s.word("true")
	case 'f':
		err = s.word("false")
	case 'n':
		err = s.word("null")
	case 'N':
		err = s.word("NaN")
	case 'I':
		err = s.word("Infinity")
	default:
		err = s.number()
	}
	if err != nil {
		return nil, err
	}
	return s.data[start:s.pos], nil
}

// nested scans an object or an array.
func (s *scanner) nested(closing byte) error {
	if s.depth++; s.depth > s.maxDepth {
		return s.fail("nested too deeply")
	}
	s.pos++
	s.space()
	for more := !s.take(closing); more; {
		var err error
		if closing == '}' {
			if _, err = s.str(); err == nil {
				err = s.colon()
			}
		}
		if err == nil {
			_, err = s.value()
		}
		if err != nil {
			return err
		}
		if more, err = s.another(closing); err != nil {
			return err
		}
	}
	s.depth--
	return nil
}

func (s *scanner) word(w string) error {
	if end := s.pos + len(w); end <= len(s.data) && string(s.data[s.pos:end]) == w {
		s.pos = end
		return nil
	}
	return s.fail("unknown word")
}

func (s *scanner) number() error {
	start := s.pos
	negative := s.take('-')
	if negative && s.pos < len(s.data) && s.data[s.pos] == 'I' {
		return s.word("Infinity")
	}
	if !s.take('0') && !s.digits() {
		s.pos = start
		return s.fail("expected a value")
	}
	if s.take('.') && !s.digits() {
		return s.fail("expected a digit")
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		if !s.digits() {
			return s.fail("expected a digit")
		}
	}
	return nil
}

// digits reports whether there was at least one.
func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos]-'0' <= 9 {
		s.pos++
	}
	return s.pos > start
}

// str scans a string and returns its text, quotes included.
func (s *scanner) str() ([]byte, error) {
	start := s.pos
	if !s.take('"') {
		return nil, s.fail("expected a string")
	}
	for {
		s.pos += plain(s.data[s.pos:])
		if s.pos == len(s.data) {
			break
		}
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return s.data[start:s.pos], nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		case c < ' ':
			return nil, s.fail("control character in a string (it must be escaped)")
		default:
			r, size := utf8.DecodeRune(s.data[s.pos:])
			if r == utf8.RuneError && size == 1 {
				return nil, s.fail("invalid UTF-8")
			}
			s.pos += size
		}
	}
	return nil, s.fail("string without an end")
}

// plain returns how many bytes at the beginning are of a string and need no look:
// ASCII that is neither a control character, a quote nor a backslash. It looks at
// eight at once, since most of a frame is text.
func plain(b []byte) (n int) {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	// The highest bit of each byte of the result says something of that byte, and
	// is right for the lowest that has it set: a borrow goes upwards only.
	below := func(x, limit uint64) uint64 { return (x - ones*limit) &^ x }
	for ; len(b)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		special := (x | below(x, ' ') | below(x^ones*'"', 1) | below(x^ones*'\\', 1)) & high
		if special != 0 {
			return n + bits.TrailingZeros64(special)/8
		}
	}
	for ; n < len(b); n++ {
		if c := b[n]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return n
}

func (s *scanner) escape() error {
	s.escaped = true
	if s.pos+1 < len(s.data) {
		switch s.data[s.pos+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			s.pos += 2
			return nil
		case 'u':
			if _, ok := hex4(s.data[s.pos+2:]); ok {
				s.pos += 6
				return nil
			}
		}
	}
	return s.fail("invalid escape")
}

// hex4 reads the four hexadecimal digits of a \u escape.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

package frame

import (
	"bytes"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// Unquote decodes the JSON text of a string. It reports false if raw, which
// must be a value accepted by this package, is not a string.
//
// A lone surrogate, which has no place in UTF-8, is decoded to the three bytes
// that UTF-8's scheme would give it. So two strings are equal after decoding
// exactly if they are equal in Python and Java, and [utf8.Valid] tells whether
// the string has one.
func Unquote(raw []byte) (string, bool) {
	b, ok := unquote(raw)
	return string(b), ok
}

// AppendUnquoted appends what Unquote returns.
func AppendUnquoted(dst, raw []byte) ([]byte, bool) {
	b, ok := unquote(raw)
	return append(dst, b...), ok
}

// unquote is Unquote; the result aliases raw if there is no escape in it.
func unquote(raw []byte) ([]byte, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return nil, false
	}
	raw = raw[1 : len(raw)-1]
	i := bytes.IndexByte(raw, '\\')
	if i < 0 {
		return raw, true
	}
	out := make([]byte, 0, len(raw))
	for i >= 0 {
		out = append(out, raw[:i]...)
		c := raw[i+1]
		raw = raw[i+2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			var r rune
			r, raw = escaped(raw)
			out = appendRune(out, r)
			i = bytes.IndexByte(raw, '\\')
			continue
		}
		out = append(out, c)
		i = bytes.IndexByte(raw, '\\')
	}
	return append(out, raw...), true
}

// escaped decodes the digits after \u, and the escape after them if both make
// a surrogate pair. It returns what follows.
func escaped(raw []byte) (rune, []byte) {
	r, _ := hex4(raw)
	raw = raw[4:]
	if utf16.IsSurrogate(r) && len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
		if low, ok := hex4(raw[2:]); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, raw[6:]
			}
		}
	}
	return r, raw
}

func appendRune(b []byte, r rune) []byte {
	if utf16.IsSurrogate(r) {
		return append(b, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
	}
	return utf8.AppendRune(b, r)
}

// AppendString appends s as a JSON string. It escapes only what must be; what
// is not valid UTF-8 in s becomes U+FFFD, except that the bytes of a lone
// surrogate, as [Unquote] makes them, become its escape again.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(append(slices.Grow(dst, len(s)+2), '"'), s...)
	text := dst[len(dst)-len(s):]
	i := plain(text)
	if i == len(text) { // as nearly always
		return append(dst, '"')
	}
	dst = dst[:len(dst)-len(s)+i]
	for i < len(s) {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			switch {
			case r != utf8.RuneError || size > 1:
				dst = append(dst, s[i:i+size]...)
			case len(s)-i >= 3 && c == 0xED && s[i+1]&0xE0 == 0xA0 && s[i+2]&0xC0 == 0x80:
				size = 3
				dst = append(dst, '\\', 'u', 'd', hex[8|s[i+1]>>2&7], hex[s[i+1]&3<<2|s[i+2]>>4&3], hex[s[i+2]&15])
			default:
				dst = append(dst, "\uFFFD"...)
			}
			i += size
			continue
		}
		i++
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= ' ':
			dst = append(dst, c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(dst, '"')
}

// hasSpace reports whether there is white space, be it in strings.
func hasSpace(raw []byte) bool {
	for _, c := range []byte(" \t\n\r") {
		if bytes.IndexByte(raw, c) >= 0 {
			return true
		}
	}
	return false
}

// AppendCompact appends the valid JSON text raw without the white space
// between its tokens, so that it fits on a line.
func AppendCompact(dst, raw []byte) []byte {
	if raw[0] == '"' && raw[len(raw)-1] == '"' || !hasSpace(raw) { // one string, and nothing around it
		return append(dst, raw...)
	}
	inString := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '\\':
			// Only strings have one; the byte after it cannot end the string.
			dst = append(dst, c)
			if i++; i == len(raw) {
				return dst
			}
		case c == '"':
			inString = !inString
		case !inString && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		}
		dst = append(dst, raw[i])
	}
	return dst
}

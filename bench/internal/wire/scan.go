package wire

import (
	"bytes"
	"unicode/utf8"
	"unsafe"
)

// Scan finds what Decode does, many times faster, if the frame is written as
// frames are: it does not report ok where it would have to decode anything, and
// then Decode must. What is no part of the result is skipped and not checked: a
// frame that is not JSON may pass.
//
// The strings are parts of data, and no longer good than that.
func Scan(data []byte) (f Frame, ok bool) {
	i := space(data, 0)
	if i == len(data) || data[i] != '{' {
		return f, false
	}
	i = space(data, i+1)
	if i < len(data) && data[i] == '}' {
		return f, space(data, i+1) == len(data)
	}
	for {
		key, after, ok := text(data, i)
		if !ok {
			return f, false
		}
		if i = space(data, after); i == len(data) || data[i] != ':' {
			return f, false
		}
		i = space(data, i+1)
		field, ok := f.field(key)
		switch {
		case !ok || !plain(key):
			return f, false
		case field == nil:
			i, ok = skip(data, i)
		default:
			var value []byte
			if value, i, ok = text(data, i); ok && (plain(value) || clean(value)) {
				*field = unsafe.String(unsafe.SliceData(value), len(value))
			} else {
				ok = false
			}
		}
		if !ok {
			return f, false
		}
		if i = space(data, i); i == len(data) {
			return f, false
		}
		switch data[i] {
		case ',':
			i = space(data, i+1)
		case '}':
			return f, space(data, i+1) == len(data)
		default:
			return f, false
		}
	}
}

// field returns the field with the key, if there is one. It does not report ok
// for a key that is one only to encoding/json, which looks at no case.
func (f *Frame) field(key []byte) (field *string, ok bool) {
	var name string
	switch len(key) {
	case len("from_client_id"):
		name, field = "from_client_id", &f.From
	case len("to_client_id"):
		name, field = "to_client_id", &f.To
	case len("msg_type"):
		name, field = "msg_type", &f.Type
	default:
		return nil, true
	}
	if string(key) == name {
		return field, true
	}
	return nil, !bytes.EqualFold(key, []byte(name))
}

// plain reports whether a string is ASCII and means what is written.
func plain(s []byte) bool {
	for _, c := range s {
		if c < ' ' || c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// clean is plain for a string in any language.
func clean(s []byte) bool {
	for _, c := range s {
		if c < ' ' || c == '\\' {
			return false
		}
	}
	return utf8.Valid(s)
}

func space(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i
}

// text returns the inside of the string that begins at i, and where it has
// ended.
func text(data []byte, i int) (s []byte, after int, ok bool) {
	if i >= len(data) || data[i] != '"' {
		return nil, i, false
	}
	begin := i + 1
	for i = begin; ; i++ {
		n := bytes.IndexByte(data[i:], '"')
		if n < 0 {
			return nil, i, false
		}
		i += n
		// It is the end unless an odd number of backslashes are before it.
		backslashes := 0
		for j := i - 1; j >= begin && data[j] == '\\'; j-- {
			backslashes++
		}
		if backslashes%2 == 0 {
			return data[begin:i], i + 1, true
		}
	}
}

// skip returns where the value that begins at i has ended.
func skip(data []byte, i int) (after int, ok bool) {
	if i == len(data) {
		return i, false
	}
	if data[i] == '"' {
		_, after, ok = text(data, i)
		return after, ok
	}
	begin, depth := i, 0
	for i < len(data) {
		switch data[i] {
		case '"':
			if _, i, ok = text(data, i); !ok {
				return i, false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1, true
			}
			if depth < 0 { // what it is in ends
				return i, i > begin
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i, i > begin
			}
		}
		i++
	}
	return i, false
}

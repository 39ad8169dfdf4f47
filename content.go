package crosscomm

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// encodeContent returns the JSON text of content for a message of the type.
// The rules are the original's, so far as Go has the same values.
func encodeContent(t MsgType, content any) (json.RawMessage, error) {
	switch t {
	case TypeText:
		return encodeText(content)
	case TypeJSON:
		return encodeJSON(content)
	case TypeDict:
		return marshal(content)
	case TypeBytes:
		return encodeBytes(content)
	case TypeFile, TypeImage, TypeFolder:
		return encodeText(content) // the path
	}
	if t.Valid() {
		return nil, fmt.Errorf("type %s is the protocol's own", t)
	}
	return nil, fmt.Errorf("unknown type %q", string(t))
}

func encodeText(content any) (json.RawMessage, error) {
	var s string
	switch c := content.(type) {
	case nil:
		return nil, errors.New("the content is nil; TypeText needs a value")
	case string:
		s = c
	case []byte:
		s = string(c)
	default:
		s = fmt.Sprint(c)
	}
	if !utf8.ValidString(s) {
		return nil, errors.New("the text is not valid UTF-8; send it as TypeBytes")
	}
	return frame.AppendString(nil, s), nil
}

func encodeJSON(content any) (json.RawMessage, error) {
	var text []byte
	switch c := content.(type) {
	case string:
		text = []byte(c)
	case []byte:
		text = c
	case json.RawMessage:
		text = c
	default:
		var err error
		if text, err = marshal(content); err != nil {
			return nil, err
		}
	}
	if err := frame.Valid(text); err != nil {
		return nil, fmt.Errorf("the text is not JSON: %w", err)
	}
	return frame.AppendString(nil, string(text)), nil
}

func encodeBytes(content any) (json.RawMessage, error) {
	switch c := content.(type) {
	case nil:
		return json.RawMessage("null"), nil
	case []byte:
		return frame.AppendString(nil, base64.StdEncoding.EncodeToString(c)), nil
	case string:
		if !utf8.ValidString(c) {
			return nil, errors.New("a string is sent as base64, but this one is not valid UTF-8; pass []byte")
		}
		return frame.AppendString(nil, c), nil
	}
	return nil, fmt.Errorf("%T is not []byte", content)
}

// Text returns the content if it is a string, and else its JSON text.
//
// For TypeText that is the text, for TypeJSON the JSON document, for TypeBytes
// the base64, for files the sender's path.
func (m *Message) Text() string {
	if s, ok := frame.Unquote(m.Content); ok {
		return s
	}
	return string(m.Content)
}

// Bytes returns the content of a TypeBytes message, decoded from base64 as
// leniently as Python's b64decode. It returns an error for what Python leaves
// undecoded: a string that is no base64, or no string at all. [Message.Text]
// still gives it.
func (m *Message) Bytes() ([]byte, error) {
	s, ok := frame.Unquote(m.Content)
	if !ok {
		return nil, errors.New("crosscomm: the content is not a string of base64")
	}
	b, err := decodeBase64(s)
	if err != nil {
		return nil, fmt.Errorf("crosscomm: the content is not base64: %w", err)
	}
	return b, nil
}

// decodeBase64 does what binascii.a2b_base64 does when it is not strict: it
// skips characters outside of the alphabet, and stops at a complete padding.
func decodeBase64(s string) ([]byte, error) {
	digits := make([]byte, 0, len(s))
	pads := 0
scan:
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= utf8.RuneSelf:
			// b64decode refuses these already as a string.
			return nil, errors.New("it has characters that are not ASCII")
		case c == '=':
			if len(digits)%4 >= 2 {
				if pads++; len(digits)%4+pads >= 4 {
					break scan
				}
			}
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '+', c == '/':
			pads = 0
			digits = append(digits, c)
		}
	}
	if rest := len(digits) % 4; rest != 0 && rest+pads < 4 {
		return nil, errors.New("its length or its padding is wrong")
	}
	return base64.RawStdEncoding.DecodeString(string(digits))
}

// Decode decodes the content into v, which must be a pointer, as
// json.Unmarshal does; NaN, Infinity and -Infinity become floats. Only a type
// with an UnmarshalJSON of its own is given another number in their place,
// since encoding/json cannot hand it these.
//
// The content of a TypeJSON message is decoded twice: it is a string that holds
// the document. So is that of a TypeDict message from Java or Swift, which send
// the object as a string: it is decoded twice if v is not a *string and the
// string holds an object.
//
// An integer too large for a float64 keeps its digits if v is a json.Number or
// a *big.Int.
func (m *Message) Decode(v any) error {
	raw := []byte(m.Content)
	if inner, ok := frame.Unquote(raw); ok {
		_, wantsString := v.(*string)
		switch {
		case m.MsgType == TypeJSON:
			raw = []byte(inner)
		case m.MsgType == TypeDict && !wantsString && isObject(inner):
			raw = []byte(inner)
		}
	}
	if err := unmarshal(raw, v); err != nil {
		return fmt.Errorf("crosscomm: content of a %s message: %w", m.MsgType, err)
	}
	return nil
}

func isObject(text string) bool {
	for i := range len(text) {
		switch text[i] {
		case ' ', '\t', '\n', '\r':
			continue
		}
		return text[i] == '{' && frame.Valid([]byte(text)) == nil
	}
	return false
}

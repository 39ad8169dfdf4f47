package crosscomm

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// marshal is json.Marshal without escaping for HTML, and with NaN and
// infinities, which sensors produce, as Python writes them. encoding/json
// refuses those. So what it refuses is written in a second way, which
// knows maps, slices, pointers, plain structs and json.RawMessage, and refuses
// the rest of what encoding/json can do rather than do it differently.
func marshal(v any) (json.RawMessage, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	stdErr := enc.Encode(v)
	if stdErr == nil {
		return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
	}
	out, err := appendLenient(nil, reflect.ValueOf(v), 0)
	if err != nil {
		return nil, err
	}
	return out, nil
}

var (
	rawMessageType = reflect.TypeFor[json.RawMessage]()
	marshalerType  = reflect.TypeFor[json.Marshaler]()
	textType       = reflect.TypeFor[encoding.TextMarshaler]()
)

// marshalsItself reports whether encoding/json leaves the writing to t.
func marshalsItself(t reflect.Type) bool {
	return t.Implements(marshalerType) || t.Implements(textType)
}

func appendLenient(dst []byte, v reflect.Value, depth int) ([]byte, error) {
	if depth > frame.MaxDepth {
		return nil, errors.New("nested too deeply, or a cycle")
	}
	if !v.IsValid() {
		return append(dst, "null"...), nil
	}
	if v.Type() == rawMessageType && v.Len() > 0 {
		if err := frame.Valid(v.Bytes()); err != nil {
			return nil, fmt.Errorf("the JSON text is malformed: %w", err)
		}
		return frame.AppendCompact(dst, v.Bytes()), nil
	}
	if marshalsItself(v.Type()) {
		return appendStrict(dst, v)
	}
	if v.CanAddr() && marshalsItself(reflect.PointerTo(v.Type())) {
		return appendStrict(dst, v.Addr())
	}
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return appendNumber(dst, f), nil
		}
	case reflect.Interface, reflect.Pointer:
		return appendLenient(dst, v.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() != reflect.Uint8 && !(v.Kind() == reflect.Slice && v.IsNil()) {
			return appendElements(dst, v, depth)
		}
	case reflect.Map:
		if v.Type().Key().Kind() == reflect.String && !v.IsNil() {
			return appendMap(dst, v, depth)
		}
	case reflect.Struct:
		return appendStruct(dst, v, depth)
	}
	return appendStrict(dst, v)
}

func appendStrict(dst []byte, v reflect.Value) ([]byte, error) {
	b, err := json.Marshal(v.Interface())
	return append(dst, b...), err
}

func appendElements(dst []byte, v reflect.Value, depth int) (_ []byte, err error) {
	dst = append(dst, '[')
	for i := range v.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = appendLenient(dst, v.Index(i), depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

func appendMap(dst []byte, v reflect.Value, depth int) (_ []byte, err error) {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	dst = append(dst, '{')
	for i, key := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(frame.AppendString(dst, key.String()), ':')
		if dst, err = appendLenient(dst, v.MapIndex(key), depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// appendStruct knows names, "-" and omitempty of the json tag.
func appendStruct(dst []byte, v reflect.Value, depth int) (_ []byte, err error) {
	dst = append(dst, '{')
	names := map[string]bool{}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		tag := field.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-", !field.IsExported() && !field.Anonymous:
			continue
		case name == "":
			name = field.Name
		}
		if field.Anonymous || options != "" && options != "omitempty" || names[name] || !plainName(name) {
			return nil, fmt.Errorf("NaN or an infinity in %s, whose field %s with the tag %q is not plain: use a map", v.Type(), field.Name, tag)
		}
		if options == "omitempty" && isEmpty(v.Field(i)) {
			continue
		}
		if len(names) > 0 {
			dst = append(dst, ',')
		}
		names[name] = true
		dst = append(frame.AppendString(dst, name), ':')
		if dst, err = appendLenient(dst, v.Field(i), depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// plainName reports whether encoding/json surely takes the name from a tag.
func plainName(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && r != '-' })
}

// isEmpty is what omitempty means in encoding/json.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

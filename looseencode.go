package crosscomm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// Python writes and reads NaN, Infinity and -Infinity as JSON numbers, and
// sensors produce them. encoding/json refuses them in both directions, so both
// directions have a second way here, taken only if the first one fails.

// marshal is json.Marshal, without escaping for HTML, that can write NaN and
// infinities in floats, maps, slices, pointers, plain structs and
// json.RawMessage.
func marshal(v any) (json.RawMessage, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	stdErr := enc.Encode(v)
	if stdErr == nil {
		return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
	}
	out, err := appendLoose(nil, reflect.ValueOf(v), 0)
	if err != nil {
		return nil, err
	}
	return out, nil
}

var (
	rawMessageType = reflect.TypeFor[json.RawMessage]()
	marshalerType  = reflect.TypeFor[json.Marshaler]()
)

func appendLoose(dst []byte, v reflect.Value, depth int) ([]byte, error) {
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
	if v.Type().Implements(marshalerType) {
		return appendStrict(dst, v)
	}
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		return appendNumber(dst, v.Float()), nil
	case reflect.Interface, reflect.Pointer:
		return appendLoose(dst, v.Elem(), depth+1)
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
		if dst, err = appendLoose(dst, v.Index(i), depth+1); err != nil {
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
		if dst, err = appendLoose(dst, v.MapIndex(key), depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// appendStruct knows names, "-" and omitempty of the json tag. What needs more
// of encoding/json is refused rather than written in another way than usual.
func appendStruct(dst []byte, v reflect.Value, depth int) (_ []byte, err error) {
	dst = append(dst, '{')
	first := true
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "-" && options == "", !field.IsExported() && !field.Anonymous:
			continue
		case field.Anonymous, options != "" && options != "omitempty":
			return nil, fmt.Errorf("NaN or an infinity in %s, whose field %s is embedded or tagged %q: use a plain struct or a map", v.Type(), field.Name, options)
		case options == "omitempty" && v.Field(i).IsZero():
			continue
		case name == "":
			name = field.Name
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(frame.AppendString(dst, name), ':')
		if dst, err = appendLoose(dst, v.Field(i), depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

package crosscomm

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// placeholder is a number written in the place of a word that encoding/json does
// not know, and turned into what the word means after decoding. All are exact
// also as float32, and so odd that no one sends them by chance.
type placeholder struct {
	word    string
	number  float64
	meaning float64
}

// text is how the number is written.
func (p placeholder) text() string { return strconv.FormatFloat(p.number, 'g', -1, 64) }

var placeholders = []placeholder{
	{"-Infinity", float64(float32(-7.3136981e-33)), math.Inf(-1)},
	{"Infinity", float64(float32(7.3136981e-33)), math.Inf(1)},
	{"NaN", float64(float32(5.9177312e-33)), math.NaN()},
}

var numberType = reflect.TypeFor[json.Number]()

// unmarshal is json.Unmarshal for all that frame.Valid accepts.
func unmarshal(raw []byte, v any) error {
	err := json.Unmarshal(raw, v)
	if err == nil || json.Valid(raw) {
		return err
	}
	if err := frame.Valid(raw); err != nil {
		return err
	}
	err = json.Unmarshal(withPlaceholders(raw), v)
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		for _, p := range placeholders {
			te.Value = strings.ReplaceAll(te.Value, p.text(), p.word)
		}
	}
	restore(reflect.ValueOf(v), visited{})
	return err
}

// decodeExact decodes raw, an empty one as null, with json.Number for numbers.
func decodeExact(raw []byte) (any, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	if err := frame.Valid(raw); err != nil {
		return nil, err
	}
	if s, ok := frame.Unquote(raw); ok {
		return s, nil // with its lone surrogates, which encoding/json replaces
	}
	standard := json.Valid(raw)
	if !standard {
		raw = withPlaceholders(raw)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if !standard {
		restore(reflect.ValueOf(&v), visited{})
	}
	return v, nil
}

// withPlaceholders replaces the words outside of strings in valid text.
func withPlaceholders(raw []byte) []byte {
	out := make([]byte, 0, len(raw)+32)
next:
	for i := 0; i < len(raw); {
		switch raw[i] {
		case '"':
			end := i + 1
			for raw[end] != '"' {
				if raw[end] == '\\' {
					end++
				}
				end++
			}
			out = append(out, raw[i:end+1]...)
			i = end + 1
			continue
		case '-', 'I', 'N':
			for _, s := range placeholders {
				if bytes.HasPrefix(raw[i:], []byte(s.word)) {
					out = append(out, s.text()...)
					i += len(s.word)
					continue next
				}
			}
		}
		out = append(out, raw[i])
		i++
	}
	return out
}

// visited are the pointers and maps that restore has been at: what v had
// before may have cycles.
type visited map[visit]bool

type visit struct {
	at uintptr
	as reflect.Type // a struct and its first field have one address
}

// first reports whether v, a pointer or a map, is seen for the first time.
func (seen visited) first(v reflect.Value) bool {
	key := visit{v.Pointer(), v.Type()}
	was := seen[key]
	seen[key] = true
	return !was
}

// restore puts the meanings in the places of the placeholders, wherever
// json.Unmarshal may have written.
func restore(v reflect.Value, seen visited) {
	switch v.Kind() {
	case reflect.String:
		if v.Type() != numberType {
			return
		}
		for _, p := range placeholders {
			if v.String() == p.text() && v.CanSet() {
				v.SetString(p.word)
			}
		}
	case reflect.Float32, reflect.Float64:
		if f, ok := meaning(v.Float()); ok && v.CanSet() {
			v.SetFloat(f)
		}
	case reflect.Pointer:
		if !v.IsNil() && seen.first(v) {
			restore(v.Elem(), seen)
		}
	case reflect.Interface:
		restoreInterface(v, seen)
	case reflect.Slice, reflect.Array:
		if v.Type() == rawMessageType && v.CanSet() {
			raw := v.Bytes()
			for _, p := range placeholders {
				raw = bytes.ReplaceAll(raw, []byte(p.text()), []byte(p.word))
			}
			v.SetBytes(raw)
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		for i := range v.Len() {
			restore(v.Index(i), seen)
		}
	case reflect.Map:
		if v.IsNil() || !seen.first(v) {
			return
		}
		for _, key := range v.MapKeys() {
			elem := reflect.New(v.Type().Elem()).Elem()
			elem.Set(v.MapIndex(key))
			restore(elem, seen)
			v.SetMapIndex(key, elem)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Tag.Get("json") != "-" && (f.IsExported() || f.Anonymous && f.Type.Kind() == reflect.Struct) {
				restore(v.Field(i), seen)
			}
		}
	}
}

func restoreInterface(v reflect.Value, seen visited) {
	var number float64
	switch x := v.Interface().(type) {
	case float64:
		number = x
	case json.Number:
		number, _ = x.Float64()
	default:
		if v.Elem().IsValid() {
			restore(v.Elem(), seen)
		}
		return
	}
	if f, ok := meaning(number); ok && v.CanSet() {
		v.Set(reflect.ValueOf(f))
	}
}

func meaning(number float64) (float64, bool) {
	for _, s := range placeholders {
		if number == s.number {
			return s.meaning, true
		}
	}
	return 0, false
}

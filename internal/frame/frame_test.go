package frame_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

const plain = `{"msg_id": "m", "from_client_id": "a", "to_client_id": "b", "msg_type": "text", "content": "hi", "timestamp": 1.5, "oss_key": null}`

func TestScanFields(t *testing.T) {
	f, err := frame.Scan([]byte(" \t\r\n" + plain + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{string(f.MsgID), string(f.From), string(f.To), string(f.Type), string(f.Content), string(f.Timestamp), string(f.OSSKey)}
	want := []string{`"m"`, "a", "b", "text", `"hi"`, "1.5", "null"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("field %d: got %s, want %s", i, got[i], want[i])
		}
	}
}

func TestScanAcceptsWhatPythonAccepts(t *testing.T) {
	replace := func(old, new string) string { return strings.Replace(plain, old, new, 1) }
	for name, text := range map[string]string{
		"missing oss_key":   replace(`, "oss_key": null`, ""),
		"NaN":               replace(`"hi"`, `[NaN, Infinity, -Infinity]`),
		"big integer":       replace(`"hi"`, strings.Repeat("9", 500)),
		"lone surrogate":    replace(`"hi"`, `"\ud800"`),
		"raw UTF-8":         replace(`"hi"`, `"你好 😀"`),
		"DEL and U+2028":    replace(`"hi"`, "\"\x7f\u2028\""),
		"java timestamp":    replace("1.5", "1.795507384788E9"),
		"timestamp string":  replace("1.5", `"now"`),
		"duplicate, mended": replace(`"msg_type": "text"`, `"msg_type": 5, "msg_type": "text"`),
		"deep, just legal":  replace(`"hi"`, strings.Repeat("[", frame.MaxDepth-1)+strings.Repeat("]", frame.MaxDepth-1)),
	} {
		if _, err := frame.Scan([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestScanRefuses(t *testing.T) {
	replace := func(old, new string) string { return strings.Replace(plain, old, new, 1) }
	for name, tc := range map[string]struct{ text, reason string }{
		"empty":             {"", "not a JSON object"},
		"array":             {"[]", "not a JSON object"},
		"scalar":            {"5", "not a JSON object"},
		"empty object":      {"{}", "missing key msg_id"},
		"byte order mark":   {"\ufeff" + plain, "not a JSON object"},
		"trailing text":     {plain + "x", "text after"},
		"two objects":       {plain + plain, "text after"},
		"trailing comma":    {replace("null}", "null,}"), "expected a string"},
		"missing from":      {replace(`"from_client_id": "a", `, ""), "missing key from_client_id"},
		"extra key":         {replace(`"oss_key"`, `"extra": 1, "oss_key"`), `unknown key "\"extra\""`},
		"upper-case key":    {replace(`"msg_id"`, `"MSG_ID"`), "unknown key"},
		"from is a number":  {replace(`"a"`, "5"), "from_client_id is not a string"},
		"type is null":      {replace(`"text"`, "null"), "msg_type is not a string"},
		"last duplicate":    {replace(`"to_client_id": "b"`, `"to_client_id": "b", "to_client_id": 1`), "to_client_id is not a string"},
		"control character": {replace("hi", "h\ni"), "control character"},
		"bad UTF-8":         {replace("hi", "h\xffi"), "invalid UTF-8"},
		"encoded surrogate": {replace("hi", "\xed\xa0\x80"), "invalid UTF-8"},
		"bad escape":        {replace("hi", `\x`), "invalid escape"},
		"short escape":      {replace("hi", `\u12`), "invalid escape"},
		"leading zero":      {replace("1.5", "01"), "expected a comma"},
		"plus":              {replace("1.5", "+1"), "expected a value"},
		"bare point":        {replace("1.5", "1."), "expected a digit"},
		"bare exponent":     {replace("1.5", "1e"), "expected a digit"},
		"nan":               {replace("1.5", "nan"), "unknown word"},
		"single quotes":     {replace(`"hi"`, "'hi'"), "expected a value"},
		"comment":           {replace(`"hi"`, `"hi" /* */`), "expected a comma"},
		"too deep":          {replace(`"hi"`, strings.Repeat("[", frame.MaxDepth)+strings.Repeat("]", frame.MaxDepth)), "nested too deeply"},
		"cut":               {plain[:len(plain)-1], "the text ends here"},
	} {
		_, err := frame.Scan([]byte(tc.text))
		var fe *frame.Error
		if !errors.As(err, &fe) || !strings.Contains(err.Error(), tc.reason) {
			t.Errorf("%s: got error %v, want one with %q", name, err, tc.reason)
		}
	}
}

// Every prefix of a frame is refused, and none makes the scanner read too far.
func TestScanPrefixes(t *testing.T) {
	text := strings.Replace(plain, `"hi"`, `{"a\u0041\ud83d\ude00": [true, false, -1.5e+3, NaN, -Infinity, "é"]}`, 1)
	for i := range len(text) {
		if _, err := frame.Scan([]byte(text[:i])); err == nil {
			t.Errorf("prefix of %d bytes was accepted", i)
		}
	}
}

func TestWhichKeyWins(t *testing.T) {
	text := `{"msg_id":1,"from_client_id":"x","to_client_id":"all","msg_type":"text","content":0,"timestamp":1,` +
		`"from_client\u005fid":"y","\u0074o_client_id":"\u0061b\ud83d\ude00","content":{"from_client_id":"z"}}`
	f, err := frame.Scan([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if string(f.From) != "y" || string(f.To) != "ab😀" || string(f.Content) != `{"from_client_id":"z"}` {
		t.Errorf("from %q, to %q, content %s", f.From, f.To, f.Content)
	}
}

// Ids that differ only in lone surrogates must not be the same id: encoding/json
// would read both as U+FFFD.
func TestLoneSurrogatesStayApart(t *testing.T) {
	seen := map[string]string{}
	for _, raw := range []string{`"\ud800"`, `"\ud801"`, `"\udfff"`, `"\ufffd"`, `"\ud83d\ude00"`, `"\ude00\ud83d"`} {
		s, ok := frame.Unquote([]byte(raw))
		if !ok || seen[s] != "" {
			t.Errorf("%s reads as %q, like %s", raw, s, seen[s])
		}
		seen[s] = raw
		back, _ := frame.Unquote(frame.AppendString(nil, s))
		if back != s {
			t.Errorf("%s became %q", raw, back)
		}
		if raw := frame.AppendString(nil, s); frame.Valid(raw) != nil || !utf8.Valid(raw) {
			t.Errorf("%q was quoted as %q", s, raw)
		}
	}
}

func TestRecordedFrames(t *testing.T) {
	for _, name := range []string{"python", "java"} {
		lines, err := os.ReadFile("../../testdata/" + name + "-frames.jsonl")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(lines)) {
			var rec struct{ Name, Frame string }
			if err := json.Unmarshal([]byte(line), &rec); err != nil {
				t.Fatal(err)
			}
			f, err := frame.Scan([]byte(rec.Frame))
			if err != nil {
				t.Errorf("%s %s: %v", name, rec.Name, err)
				continue
			}
			if len(f.From) == 0 || len(f.Type) == 0 || len(f.Content) == 0 || len(f.MsgID) < 3 {
				t.Errorf("%s %s: %+v", name, rec.Name, f)
			}
		}
	}
}

// The words that encoding/json does not know are made null before comparing.
func withoutNaN(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for i := 0; i < len(data); {
		rest := data[i:]
		switch {
		case rest[0] == '"':
			n := 1
			for n < len(rest) && rest[n] != '"' {
				if rest[n] == '\\' {
					n++
				}
				n++
			}
			n = min(n+1, len(rest))
			out = append(out, rest[:n]...)
			i += n
			continue
		case strings.HasPrefix(string(rest), "NaN"):
			out, i = append(out, "null"...), i+3
			continue
		case strings.HasPrefix(string(rest), "-Infinity"):
			out, i = append(out, "null"...), i+9
			continue
		case strings.HasPrefix(string(rest), "Infinity"):
			out, i = append(out, "null"...), i+8
			continue
		}
		out, i = append(out, rest[0]), i+1
	}
	return out
}

func depth(data []byte) (most int) {
	d, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case !inString && (c == '{' || c == '['):
			d++
			most = max(most, d)
		case !inString && (c == '}' || c == ']'):
			d--
		}
	}
	return most
}

// replaceSurrogates makes of a decoded string what encoding/json makes of it.
func replaceSurrogates(b []byte) string {
	s := string(b)
	var out strings.Builder
	for len(s) > 0 {
		if s[0] == 0xED && len(s) >= 3 && s[1] >= 0xA0 {
			out.WriteRune(utf8.RuneError)
			s = s[3:]
			continue
		}
		r, size := utf8.DecodeRuneInString(s)
		out.WriteRune(r)
		s = s[size:]
	}
	return out.String()
}

// Headers are one object, wherever they stand, and what is left without them is the
// frame as it was.
func TestScanAgreed(t *testing.T) {
	const headers = `"headers": {"delivery": "handled", "x": [{"headers": 1}]}`
	if _, err := frame.Scan([]byte(strings.Replace(plain, "}", ", "+headers+"}", 1))); err == nil {
		t.Error("headers were accepted without an agreement")
	}
	for name, text := range map[string]string{
		"last":       strings.Replace(plain, "}", ", "+headers+"}", 1),
		"last, bare": strings.Replace(plain, "}", ","+headers+"}", 1),
		"first":      strings.Replace(plain, "{", "{"+headers+",  ", 1),
		"middle":     strings.Replace(plain, `, "content"`, " \n, "+headers+` , "content"`, 1),
		"escaped":    strings.Replace(plain, "}", ", "+strings.Replace(headers, "headers", `h\u0065aders`, 1)+"}", 1),
		"none":       plain,
	} {
		f, err := frame.ScanAgreed([]byte(text), frame.MaxDepth)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := strings.TrimPrefix(headers, `"headers": `); name != "none" && string(f.Headers) != want {
			t.Errorf("%s: headers %s", name, f.Headers)
		}
		got := f.AppendPlain(nil, []byte(text))
		if at := f.PlainContentAt(); !strings.HasPrefix(string(got[at:]), `"hi"`) {
			t.Errorf("%s: without headers the content is said to be %s", name, got[at:])
		}
		if without, err := frame.Scan(got); err != nil || string(without.Content) != `"hi"` || name != "middle" && string(got) != plain {
			t.Errorf("%s: without headers it is %s (%v)", name, got, err)
		}
	}
	for name, text := range map[string]string{
		"twice":  strings.Replace(plain, "}", ", "+headers+", "+headers+"}", 1),
		"string": strings.Replace(plain, "}", `, "headers": "x"}`, 1),
		"null":   strings.Replace(plain, "}", `, "headers": null}`, 1),
		"deep":   strings.Replace(plain, "}", `, "headers": {"a": `+strings.Repeat("[", frame.MaxDepth)+strings.Repeat("]", frame.MaxDepth)+`}}`, 1),
		"alone":  `{` + headers + `}`,
	} {
		if _, err := frame.ScanAgreed([]byte(text), frame.MaxDepth); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzScanAgreed checks that a frame without its headers is one of the plain wire,
// with the same values.
func FuzzScanAgreed(f *testing.F) {
	f.Add([]byte(strings.Replace(plain, "}", `, "headers": {"delivery": "accepted"}}`, 1)))
	f.Add([]byte(strings.Replace(plain, "{", `{"headers": {}  , `, 1)))
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		agreed, err := frame.ScanAgreed(data, frame.MaxDepth)
		if err != nil {
			if _, err := frame.Scan(data); err == nil {
				t.Fatalf("%q is refused only where headers are agreed on", data)
			}
			return
		}
		text := agreed.AppendPlain(nil, data)
		got, err := frame.Scan(text)
		if err != nil {
			t.Fatalf("%q became %q: %v", data, text, err)
		}
		for _, pair := range [][2][]byte{{got.From, agreed.From}, {got.To, agreed.To}, {got.Type, agreed.Type}, {got.MsgID, agreed.MsgID}, {got.Content, agreed.Content}, {got.Timestamp, agreed.Timestamp}, {got.OSSKey, agreed.OSSKey}} {
			if string(pair[0]) != string(pair[1]) {
				t.Fatalf("%q became %q", data, text)
			}
		}
	})
}

func addSeeds(f *testing.F) {
	f.Add([]byte(plain))
	f.Add([]byte(strings.ReplaceAll(plain, "_", `\u005f`)))
	f.Add([]byte(strings.Replace(plain, `"hi"`, `[NaN,{"a":-Infinity},1e400,"\ud83d\ude00\ud83d"]`, 1)))
	f.Add([]byte(strings.Replace(plain, `"a"`, `"b","from_client\u005fid":"\u0061"`, 1)))
}

// FuzzScan compares Scan with a full parse by encoding/json, which for a map
// also lets the last of duplicate keys win.
func FuzzScan(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := frame.Scan(data)
		var want map[string]json.RawMessage
		fullErr := json.Unmarshal(withoutNaN(data), &want)
		if err != nil {
			// Only refusals that encoding/json cannot know of are allowed.
			if fullErr != nil || want == nil || !utf8.Valid(data) || depth(data) > frame.MaxDepth {
				return
			}
			known := map[string]bool{"msg_id": true, "from_client_id": true, "to_client_id": true, "msg_type": true, "content": true, "timestamp": true, "oss_key": true}
			for key := range want {
				if !known[key] {
					return
				}
			}
			for key := range known {
				raw, ok := want[key]
				if !ok && key != "oss_key" {
					return
				}
				if (key == "from_client_id" || key == "to_client_id" || key == "msg_type") && raw[0] != '"' {
					return
				}
			}
			t.Fatalf("refused %q: %v", data, err)
		}
		if fullErr != nil {
			t.Fatalf("accepted %q, but encoding/json: %v", data, fullErr)
		}
		for key, val := range map[string][]byte{"from_client_id": got.From, "to_client_id": got.To, "msg_type": got.Type} {
			var s string
			if err := json.Unmarshal(want[key], &s); err != nil {
				t.Fatalf("%q: %s: %v", data, key, err)
			}
			if s != replaceSurrogates(val) {
				t.Fatalf("%q: %s is %q, want %q", data, key, val, s)
			}
		}
		for key, val := range map[string][]byte{"msg_id": got.MsgID, "content": got.Content, "timestamp": got.Timestamp, "oss_key": got.OSSKey} {
			if string(withoutNaN(val)) != string(want[key]) {
				t.Fatalf("%q: %s is %s, want %s", data, key, val, want[key])
			}
		}
	})
}

func FuzzValid(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		err := frame.Valid(data)
		std := json.Valid(withoutNaN(data))
		if err == nil && !std {
			t.Fatalf("accepted %q", data)
		}
		if err != nil && std && utf8.Valid(data) && depth(data) <= frame.MaxDepth {
			t.Fatalf("refused %q: %v", data, err)
		}
		if err != nil {
			return
		}
		compact := frame.AppendCompact(nil, data)
		if frame.Valid(compact) != nil || strings.ContainsAny(string(compact), "\n\r") {
			t.Fatalf("%q was compacted to %q", data, compact)
		}
	})
}

func FuzzString(f *testing.F) {
	f.Add("a\"\\\x00\n\u2028\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, s string) {
		raw := frame.AppendString(nil, s)
		if err := frame.Valid(raw); err != nil {
			t.Fatalf("%q was quoted as %q: %v", s, raw, err)
		}
		if back, ok := frame.Unquote(raw); utf8.ValidString(s) && (!ok || back != s) {
			t.Fatalf("%q came back as %q", s, back)
		}
	})
}

func BenchmarkScan(b *testing.B) {
	data := []byte(strings.Replace(plain, "hi", strings.Repeat("x", 256), 1))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := frame.Scan(data); err != nil {
			b.Fatal(err)
		}
	}
}

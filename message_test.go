package crosscomm_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/crosscomm/crosscomm-go"
)

func parse(t *testing.T, text string) *crosscomm.Message {
	t.Helper()
	m, err := crosscomm.ParseMessage([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}

// Every recorded frame goes through message, dict, JSON and back.
func TestRecordedMessagesRoundTrip(t *testing.T) {
	for _, r := range recordings(t) {
		m := parse(t, r.Frame)
		if string(m.Frame()) != r.Frame {
			t.Errorf("%s: the frame is %s", r.Name, m.Frame())
		}
		d, err := m.ToDict()
		if err != nil {
			t.Errorf("%s: ToDict: %v", r.Name, err)
			continue
		}
		if len(d) != 7 || d["msg_id"] != m.MsgID || d["msg_type"] != string(m.MsgType) {
			t.Errorf("%s: ToDict: %v", r.Name, d)
		}
		fromDict, err := crosscomm.FromDict(d)
		if err != nil {
			t.Errorf("%s: FromDict: %v", r.Name, err)
			continue
		}
		again, err := crosscomm.ParseMessage(m.AppendFrame(nil))
		if err != nil {
			t.Errorf("%s: AppendFrame: %v", r.Name, err)
			continue
		}
		for how, other := range map[string]*crosscomm.Message{"FromDict": fromDict, "AppendFrame": again} {
			if other.MsgID != m.MsgID || other.FromClientID != m.FromClientID || other.ToClientID != m.ToClientID ||
				other.MsgType != m.MsgType || other.Timestamp != m.Timestamp || other.OSSKey != m.OSSKey {
				t.Errorf("%s: %s gave %+v, want %+v", r.Name, how, other, m)
			}
			if got, err := other.ToDict(); err != nil || fmt.Sprintf("%#v", got["content"]) != fmt.Sprintf("%#v", d["content"]) {
				// encoding/json reads a lone surrogate as U+FFFD, as everybody
				// who decodes must.
				if !strings.Contains(r.Frame, `\ud800`) {
					t.Errorf("%s: %s gave the content %v, want %v", r.Name, how, got["content"], d["content"])
				}
			}
		}
		if strings.Contains(r.Frame, "NaN") && m.MsgType == crosscomm.TypeDict {
			continue
		}
		data, err := json.Marshal(m)
		if err != nil {
			t.Errorf("%s: Marshal: %v", r.Name, err)
			continue
		}
		var back crosscomm.Message
		if err := json.Unmarshal(data, &back); err != nil || compact(&back) != compact(m) {
			t.Errorf("%s: through JSON: %s, %v; want %s", r.Name, compact(&back), err, compact(m))
		}
	}
}

// compact is the message without what a way through JSON may change.
func compact(m *crosscomm.Message) string {
	content := regexp.MustCompile(`\s|\\u003[ce]|\\u0026|[<>&]|\\u202[89]|[\x{2028}\x{2029}]`).ReplaceAllString(string(m.Content), "")
	return fmt.Sprintf("%q %q %q %q %v %q %s", m.MsgID, m.FromClientID, m.ToClientID, m.MsgType, m.Timestamp, m.OSSKey, content)
}

func TestParseMessageErrors(t *testing.T) {
	for text, reason := range map[string]string{
		"":   "not a JSON object",
		"{}": "missing key msg_id",
		strings.Replace(frameOf("a", "b", "audio", "1"), "1", "2", 1):  `unknown msg_type "audio"`,
		strings.Replace(frameOf("a", "b", "text", "1"), "{", "[", 1):   "not a JSON object",
		strings.Replace(frameOf("a", "b", "text", "1"), "null", "", 1): "byte",
	} {
		if _, err := crosscomm.ParseMessage([]byte(text)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: got %v, want %q", text, err, reason)
		}
	}
	if _, err := crosscomm.FromDict(map[string]any{"msg_id": "x"}); err == nil || !strings.Contains(err.Error(), "missing key from_client_id") {
		t.Errorf("FromDict: %v", err)
	}
}

func TestTextAndBytes(t *testing.T) {
	for _, tc := range []struct{ content, text, bytes string }{
		{`"aGVsbG8="`, "aGVsbG8=", "hello"},
		{`""`, "", ""},
		{`"hello world!"`, "hello world!", "error"}, // as Python: 10 digits
		{`"aGVs\nbG8="`, "aGVs\nbG8=", "hello"},     // and Python skips what is no digit
		{`"aGVsbG8=tail"`, "aGVsbG8=tail", "hello"}, // and what follows the padding
		{`"aGVsbG8"`, "aGVsbG8", "error"},
		{`"a=GVsbG8="`, "a=GVsbG8=", "hello"},
		{`"aG=VsbG8="`, "aG=VsbG8=", "hello"},
		{`"é"`, "é", "error"},
		{`null`, "null", "error"},
		{`[1, 2]`, "[1, 2]", "error"},
	} {
		m := parse(t, frameOf("a", "b", "bytes", tc.content))
		if m.Text() != tc.text {
			t.Errorf("%s: text is %q", tc.content, m.Text())
		}
		b, err := m.Bytes()
		got := string(b)
		if err != nil {
			got = "error"
		}
		if got != tc.bytes {
			t.Errorf("%s: bytes are %q, %v; want %q", tc.content, b, err, tc.bytes)
		}
	}
}

func TestDecode(t *testing.T) {
	type reading struct {
		Name   string
		Range  float64
		Small  float32
		Opt    *float64
		Nested struct{ Values []float64 }
		Any    map[string]any
		Big    *big.Int
		Num    json.Number
	}
	text := `{"name": "NaN in a \"string\" -Infinity", "range": NaN, "small": -Infinity, "opt": Infinity,
		"nested": {"values": [1.5, NaN, -2]}, "any": {"x": [NaN, {"y": Infinity}], "z": -1}, "big": 123456789012345678901234567890, "num": 12345678901234567890}`
	for _, content := range []string{text, string(must(json.Marshal(text)))} { // Python's object; Java's and Swift's string
		m := parse(t, frameOf("a", "b", "dict", content))
		var r reading
		if err := m.Decode(&r); err != nil {
			t.Fatal(err)
		}
		y := r.Any["x"].([]any)[1].(map[string]any)["y"].(float64)
		if !math.IsNaN(r.Range) || !math.IsInf(float64(r.Small), -1) || !math.IsInf(*r.Opt, 1) ||
			r.Nested.Values[0] != 1.5 || !math.IsNaN(r.Nested.Values[1]) || !math.IsNaN(r.Any["x"].([]any)[0].(float64)) || !math.IsInf(y, 1) ||
			r.Name != `NaN in a "string" -Infinity` || r.Big.String() != "123456789012345678901234567890" || r.Num != "12345678901234567890" {
			t.Errorf("got %+v", r)
		}
	}
	var f float64
	if err := parse(t, frameOf("a", "b", "json", `"NaN"`)).Decode(&f); err != nil || !math.IsNaN(f) {
		t.Errorf("NaN as JSON: %v, %v", f, err)
	}
	var n int
	if err := parse(t, frameOf("a", "b", "dict", `NaN`)).Decode(&n); err == nil {
		t.Errorf("NaN as an int: %v", n)
	}
	var s string
	if err := parse(t, frameOf("a", "b", "dict", `"{\"a\": 1}"`)).Decode(&s); err != nil || s != `{"a": 1}` {
		t.Errorf("a dict that is a string, as a string: %q, %v", s, err)
	}
	if err := parse(t, frameOf("a", "b", "dict", `"plain"`)).Decode(&s); err != nil || s != "plain" {
		t.Errorf("got %q, %v", s, err)
	}
	if err := parse(t, frameOf("a", "b", "dict", `{"a": 1}`)).Decode(&s); err == nil {
		t.Error("an object was decoded into a string")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What Go values become on the wire; the rules are those of the package's doc.
func TestFromDictContent(t *testing.T) {
	type plain struct {
		A float64 `json:"a"`
		B []any   `json:"b,omitempty"`
		C string  `json:"-"`
		D *plain
		E float32 `json:"e,omitempty"`
		F big.Float
	}
	type embedding struct {
		plain
		X float64
	}
	type tagged struct {
		X float64
		Y int `json:",string"`
	}
	type twice struct {
		X float64 `json:"Y"`
		Y float64
	}
	nan := math.NaN()
	ip := netip.MustParseAddr("10.0.0.1")
	for _, tc := range []struct {
		content any
		want    string
	}{
		{map[string]any{"b": nan, "a": []float64{math.Inf(1), 1}}, `{"a":[Infinity,1],"b":NaN}`},
		{[2]float32{float32(math.Inf(-1)), 0.1}, `[-Infinity,0.1]`},
		{&plain{A: nan, B: []any{}, C: "hidden", E: 0.1, D: &plain{A: 1, B: []any{nil, true}}}, `{"a":NaN,"D":{"a":1,"b":[null,true],"D":null,"F":"0"},"e":0.1,"F":"0"}`},
		{map[string]any{"raw": json.RawMessage(`[NaN , 1]`), "bytes": []byte{1}, "nilmap": map[string]any(nil)}, `{"bytes":"AQ==","nilmap":null,"raw":[NaN,1]}`},
		{map[string]any{"ip": ip, "x": nan, "big": big.NewFloat(1.5), "t": time.Unix(0, 0).UTC()}, `{"big":"1.5","ip":"10.0.0.1","t":"1970-01-01T00:00:00Z","x":NaN}`},
		{json.RawMessage(`NaN`), `NaN`},
		{"<&>", `"<&>"`},
		{nil, "null"},
		{embedding{X: nan}, ""},
		{tagged{X: nan}, ""},
		{twice{X: nan}, ""},
		{map[int]float64{1: nan}, ""},
		{json.RawMessage(`{`), ""},
	} {
		m, err := crosscomm.FromDict(map[string]any{
			"msg_id": "m", "from_client_id": "a", "to_client_id": "b", "msg_type": crosscomm.TypeDict, "content": tc.content, "timestamp": 1,
		})
		if (err != nil) != (tc.want == "") || err == nil && string(m.Content) != tc.want {
			t.Errorf("%v: got %+v, %v; want %s", tc.content, m, err, tc.want)
		}
	}
}

// What NaN becomes where it does not fit, or fits in odd places.
func TestDecodeNaN(t *testing.T) {
	type inner struct{ X float64 }
	var v struct {
		inner
		Num json.Number
		Raw json.RawMessage
	}
	if err := parse(t, frameOf("a", "b", "dict", `{"x": NaN, "num": -Infinity, "raw": [NaN, 1, "NaN"]}`)).Decode(&v); err != nil {
		t.Fatal(err)
	}
	if !math.IsNaN(v.X) || v.Num != "-Infinity" || string(v.Raw) != `[NaN, 1, "NaN"]` {
		t.Errorf("got %+v, %s", v, v.Raw)
	}
	var n struct{ X int }
	if err := parse(t, frameOf("a", "b", "dict", `{"x": NaN}`)).Decode(&n); err == nil || !strings.Contains(err.Error(), "number NaN") {
		t.Errorf("NaN as an int: %v", err)
	}
}

// What v had before may be large, shared or a cycle.
func TestDecodeNaNIntoATree(t *testing.T) {
	type node struct {
		Parent   *node `json:"-"`
		Children []*node
		Next     *node
		Value    float64
		Shared   map[string]float64 `json:"-"`
	}
	parent := &node{}
	for range 20 {
		parent.Children = append(parent.Children, &node{Parent: parent, Children: []*node{parent, parent}})
	}
	v := node{Parent: parent, Next: &node{}}
	v.Next.Next = v.Next
	if err := parse(t, frameOf("a", "b", "dict", `{"Value": NaN, "Children": [{"Value": -Infinity}]}`)).Decode(&v); err != nil {
		t.Fatal(err)
	}
	if !math.IsNaN(v.Value) || !math.IsInf(v.Children[0].Value, -1) {
		t.Errorf("got %+v", v)
	}
}

func TestJSONOfValues(t *testing.T) {
	m := parse(t, frameOf("a", "b", "text", `"hi"`))
	data, err := json.Marshal([]crosscomm.Message{*m})
	if err != nil || !strings.Contains(string(data), `"from_client_id":"a"`) {
		t.Errorf("a Message by value: %s, %v", data, err)
	}
	list := crosscomm.ClientList{TotalCount: 1, Clients: []crosscomm.ClientInfo{{ClientID: "c", Online: true, LastHeartbeat: time.UnixMicro(1500000), LoginTime: time.UnixMicro(1250000)}}}
	data, err = json.Marshal(list)
	if want := `{"clients":[{"client_id":"c","status":"online","last_heartbeat":1.5,"login_time":1.25}],"total_count":1,"only_show_online":false}`; err != nil || string(data) != want {
		t.Errorf("a list: %s, %v", data, err)
	}
	var back crosscomm.ClientList
	if err := json.Unmarshal(data, &back); err != nil || len(back.Clients) != 1 || back.Clients[0] != list.Clients[0] {
		t.Errorf("the list came back as %+v, %v", back, err)
	}
}

// Content that is not JSON is an application's mistake, and no reason to panic.
func TestBadContentOfAMessage(t *testing.T) {
	for _, content := range []string{`"\`, `{`, ``} {
		m := crosscomm.Message{MsgType: crosscomm.TypeText, Content: json.RawMessage(content)}
		m.AppendFrame(nil)
		m.Text()
		if _, err := json.Marshal(m); (err == nil) != (content == "") {
			t.Errorf("%q: %v", content, err)
		}
		if _, err := m.ToDict(); (err == nil) != (content == "") {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestTime(t *testing.T) {
	for ts, want := range map[string]string{"1795508069.140345": "2026-11-24T08:14:29.140345Z", "1.795507384788E9": "2026-11-24T08:03:04.788Z", "0": "1970-01-01T00:00:00Z", "NaN": "", "1e300": "", `"x"`: "1970-01-01T00:00:00Z"} {
		m := parse(t, strings.Replace(frameOf("a", "b", "text", `""`), "1795508069.140345", ts, 1))
		got := ""
		if !m.Time().IsZero() {
			got = m.Time().UTC().Format("2006-01-02T15:04:05.999999Z07:00")
		}
		if got != want {
			t.Errorf("%s is %s, want %s", ts, got, want)
		}
	}
}

// FuzzMessage: what is parsed can be written and parsed again, and no accessor
// panics.
func FuzzMessage(f *testing.F) {
	for _, content := range []string{`"hi"`, `{"a": [NaN, -Infinity, "x\ud800"]}`, `"{\"a\": NaN}"`, "1e999", "null"} {
		for _, typ := range []string{"text", "json", "dict", "bytes"} {
			f.Add([]byte(frameOf("a", "b", typ, content)))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := crosscomm.ParseMessage(data)
		if err != nil {
			return
		}
		m.Text()
		m.Time()
		if b, err := m.Bytes(); err == nil {
			if _, err := base64.StdEncoding.DecodeString(base64.StdEncoding.EncodeToString(b)); err != nil {
				t.Fatal(err)
			}
		}
		for _, v := range []any{new(any), new(map[string]float64), new(string), new([]json.Number), new(struct{ A, B any })} {
			_ = m.Decode(v)
		}
		line := m.AppendFrame(nil)
		if strings.ContainsAny(string(line), "\n\r") || !utf8.Valid(line) {
			t.Fatalf("%q was written as %q", data, line)
		}
		again, err := crosscomm.ParseMessage(line)
		if err != nil {
			t.Fatalf("%q was written as %q: %v", data, line, err)
		}
		if again.MsgID != m.MsgID || again.FromClientID != m.FromClientID || again.ToClientID != m.ToClientID || again.OSSKey != m.OSSKey {
			t.Fatalf("%+v became %+v", m, again)
		}
		if d, err := m.ToDict(); err == nil {
			if _, err := crosscomm.FromDict(d); err != nil {
				t.Fatalf("%q: %v", data, err)
			}
		}
	})
}

// FuzzBase64 puts what is no base64 between the digits, which must not matter.
func FuzzBase64(f *testing.F) {
	f.Add([]byte("hello"), "-_ \n")
	f.Add([]byte{}, "a==b")
	f.Fuzz(func(t *testing.T, data []byte, noise string) {
		text := base64.StdEncoding.EncodeToString(data)
		noise = strings.Map(func(r rune) rune {
			if r >= utf8.RuneSelf || r == '=' || r == '+' || r == '/' || unicode.IsLetter(r) || unicode.IsDigit(r) {
				return -1
			}
			return r
		}, noise)
		noisy := ""
		for i, digit := range text {
			noisy += string(digit) + noise[:min(i%3, len(noise))]
		}
		noisy += noise
		m := crosscomm.Message{MsgType: crosscomm.TypeBytes, Content: must(json.Marshal(noisy))}
		if b, err := m.Bytes(); err != nil || string(b) != string(data) {
			t.Fatalf("%q became %q, %v", noisy, b, err)
		}
		if len(data)%3 != 0 {
			m.Content = must(json.Marshal(strings.ReplaceAll(noisy, "=", "")))
			if b, err := m.Bytes(); err == nil {
				t.Fatalf("without padding %q became %q", noisy, b)
			}
		}
	})
}

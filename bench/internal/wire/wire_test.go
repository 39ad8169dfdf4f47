package wire

import (
	"encoding/json"
	"strings"
	"testing"
)

// What is written as clients write it is scanned, and gives what encoding/json
// does.
func TestScan(t *testing.T) {
	frame := func(content string) string {
		return `{"msg_id": "m", "from_client_id": "a", "to_client_id": "all", "msg_type": "text", "content": ` + content + `, "timestamp": 1.5e9, "oss_key": null}`
	}
	for _, text := range []string{
		frame(`"x"`), frame(`""`), frame(`"\"msg_type\": \"login\""`), frame(`"\\"`), frame(`"\\\""`), frame(`-1`), frame(`true`), frame(`null`),
		frame(`{"msg_type": "login", "a": ["}", {"]": 1}]}`), frame(`[]`), frame(`{}`), frame(`[[1, 2], "\\\"]"]`), frame(`"` + strings.Repeat("好", 100) + `"`),
		`{}`, ` { } `, `{"to_client_id":"设备","msg_type":"text"}`, "{\n\t\"msg_type\" : \"a\" ,\r\n \"msg_type\":\"b\"}\n", `{"msg_type":""}`,
	} {
		want, err := Decode([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got, ok := Scan([]byte(text)); !ok || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, ok, want)
		}
	}
}

// What takes more than scanning is left to Decode, and so is what has no end.
func TestScanLeaves(t *testing.T) {
	for _, text := range []string{
		``, ` `, `[]`, `"a"`, `1`, `{`, `{"`, `{"a"`, `{"a":`, `{"a":}`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a":[}`, `{"a":"}`, `{"a":"\"}`, `{} {}`, `{"a":1}]`, `{"a":1 2}`, `{1:2}`, `{"a" 1}`,
		`{"msg_type": 1}`, `{"msg_type": null}`, `{"msg_type": "a\u0062"}`, `{"MSG_TYPE": "a"}`, `{"msg\u005ftype": "a"}`, "{\"m\u017fg_type\": \"a\"}", "{\"msg_type\": \"\xff\"}", "{\"msg_type\": \"a\nb\"}",
	} {
		if got, ok := Scan([]byte(text)); ok {
			t.Errorf("%s: got %+v", text, got)
		}
	}
}

// What is scanned of a frame that is JSON is what encoding/json has of it.
func FuzzScan(f *testing.F) {
	for _, text := range []string{`{"from_client_id": "a", "to_client_id": "b", "msg_type": "text", "content": {"a": ["\\", "\""]}}`, `{"Msg_Type": "x", "msg_type": "y"}`, `{"msg_type": null}`, ` {} `, string(LoginResponse("a"))} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok := Scan(data)
		if !ok || !json.Valid(data) {
			return
		}
		if want, err := Decode(data); err != nil || got != want {
			t.Fatalf("%q: got %+v, want %+v, %v", data, got, want, err)
		}
	})
}

func TestLoginResponse(t *testing.T) {
	var got map[string]any
	if err := json.Unmarshal(LoginResponse(`a"b`), &got); err != nil {
		t.Fatal(err)
	}
	content, _ := got["content"].(map[string]any)
	if len(got) != 7 || got["to_client_id"] != `a"b` || got["from_client_id"] != "server" || got["msg_type"] != "login_response" || content["status"] != "success" {
		t.Errorf("got %v", got)
	}
	for typ, want := range map[string]bool{"text": true, "login": false, "heartbeat": false, "": false} {
		if (Frame{Type: typ}).Relayed() != want {
			t.Errorf("%q: relayed is %v", typ, !want)
		}
	}
}

func BenchmarkScan(b *testing.B) { benchmark(b, func(data []byte) { Scan(data) }) }

func BenchmarkDecode(b *testing.B) { benchmark(b, func(data []byte) { _, _ = Decode(data) }) }

func benchmark(b *testing.B, read func(data []byte)) {
	data := []byte(`{"msg_id": "bench", "from_client_id": "bench_1_1_1", "to_client_id": "bench_1_1_2", "msg_type": "text", "content": "` + strings.Repeat("x", 80) + `", "timestamp": 1.0, "oss_key": null}`)
	b.ReportAllocs()
	for b.Loop() {
		read(data)
	}
}

package crosscomm

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

const plainFrame = `{"msg_id": "m", "from_client_id": "a", "to_client_id": "b", "msg_type": "text", "content": "hi", "timestamp": 1.5, "oss_key": null}`

// FuzzHeaders checks that what the server tracks, a receiver counts, and that headers can
// be cut off again.
func FuzzHeaders(f *testing.F) {
	for _, text := range []string{`{}`, `{"delivery":"handled"}`, ` { "x" : [1] } `, `{"delivery": "accepted", "delivery": "written"}`, `{"Delivery": "x"}`, `{"request": true, "timeout_ms": 5, "reply_to": "é"}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		data := []byte(strings.TrimSuffix(plainFrame, "}") + `, "headers": ` + text + `}`)
		fr, err := frame.ScanAgreed(data, frame.MaxDepth)
		if err != nil {
			return
		}
		h, err := parseHeaders(fr)
		if err != nil {
			return
		}
		var all map[string]any
		if err := json.Unmarshal(fr.Headers, &all); err != nil {
			t.Fatalf("%q was parsed, and is no JSON: %v", fr.Headers, err)
		}
		if got, _ := all["delivery"].(string); got != h.Delivery {
			t.Fatalf("%q was parsed as %+v", fr.Headers, h)
		}
		if h.Delivery != "" {
			return // it is tracked as it is
		}
		tracked := appendTracked(nil, data, fr, "x1")
		again, err := frame.ScanAgreed(tracked, frame.MaxDepth)
		if err != nil {
			t.Fatalf("%q became %q: %v", data, tracked, err)
		}
		if with, err := parseHeaders(again); err != nil || with.Delivery == "" || with != (headers{Delivery: Accepted.String(), QueuedAs: "x1"}) {
			t.Fatalf("%q became %q, with %+v, %v", data, tracked, with, err)
		}
		if got := string(again.AppendPlain(nil, tracked)); string(fr.AppendPlain(nil, data)) != got {
			t.Fatalf("%q became %q, without headers %q", data, tracked, got)
		}
	})
}

// FuzzReport has a mailbox take what a client may report.
func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"received": 7, "handled": [[1, 3], [5, 5]], "failed": [{"number": 4, "error": "listener_error", "reason": "no"}]}`))
	f.Add([]byte(`{"received": 18446744073709551615, "handled": [[0, 18446744073709551615]]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := parseReport(content)
		if err != nil {
			return
		}
		p := &peer{numbered: 19}
		b := &mailbox{to: p, office: &deliveries{}}
		from := &member{id: "a"}
		for number := uint64(10); number < 20; number++ {
			l := &letter{sender: sender{from: from, msgID: []byte(`"m"`), want: Handled}}
			if number%4 == 0 {
				l = nil // as if it had been spent
			}
			b.letters.Push(sentLetter{letter: l, number: number})
		}
		var n notices
		b.report(p, r, &n)
		for number := uint64(10); number < 20; number++ {
			handled := slices.ContainsFunc(r.Handled, func(pair [2]uint64) bool { return pair[0] <= number && number <= pair[1] })
			failed := slices.ContainsFunc(r.Failed, func(f reportFailure) bool { return f.Number == number })
			i := slices.IndexFunc(b.letters.All(), func(s sentLetter) bool { return s.number == number })
			if i < 0 {
				if !handled && !failed {
					t.Fatalf("%q: number %d is gone", content, number)
				}
				continue
			}
			sent := b.letters.All()[i]
			if sent.done != (handled || failed) {
				t.Fatalf("%q: number %d is %+v", content, number, sent)
			}
			if l := sent.letter; l != nil && (l.handled != handled || l.done != sent.done || l.told != l.done) {
				t.Fatalf("%q: number %d is %+v", content, number, l)
			}
		}
		if b.letters.Len() > 0 && b.letters.All()[0].done {
			t.Fatalf("%q: what is done is still there", content)
		}
		content, err = json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseReport(content); err != nil {
			t.Fatalf("%q: %v", content, err)
		}
	})
}

// FuzzReceipt has a client take what a server may tell, and checks what ours tells.
func FuzzReceipt(f *testing.F) {
	f.Add([]byte(`{"accepted": ["m"], "failed": [{"msg_id": "n", "error": "offline", "reason": "x"}], "broadcasts": [{"msg_id": "m", "receivers": 3}]}`), "é\"\x00", "offline")
	f.Fuzz(func(t *testing.T, content []byte, id, reason string) {
		var o outbox
		m := &outboxMessage{msgID: "m", want: Written, told: make(chan told, 1)}
		o.byID = map[string]*outboxMessage{"m": m}
		_ = o.settle(content)
		if len(m.told) > 0 {
			if result := <-m.told; result.err == nil && result.receipt.Reached < Written {
				t.Fatalf("%q told %+v", content, result)
			}
		}
		id = strings.ToValidUTF8(id, "")
		raw := frame.AppendString(nil, id)
		list := []notice{{msgID: raw, stage: Accepted}, {msgID: raw, stage: Handled}, {msgID: raw, failure: failedListener, reason: limitReason(reason)}, {msgID: raw, stage: Written, counts: &Receipt{Receivers: 2}}}
		text := appendReceipt(nil, list)
		var r receiptContent
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if len(r.Accepted) != 1 || r.Accepted[0] != id || len(r.Handled) != 1 || len(r.Written) != 0 || len(r.Failed) != 1 || r.Failed[0].MsgID != id || len(r.Broadcasts) != 1 || r.Broadcasts[0].MsgID != id {
			t.Fatalf("%s was read as %+v", text, r)
		}
	})
}

package loadgen

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// receiptOf is a text with this content.
func receiptOf(content string) []byte {
	return message("1", "server", "a", "receipt", content)
}

func idOf(number int) string { return fmt.Sprintf(`"%s%016x"`, idPrefix, number) }

// Each message has one receipt, in whatever order they come and however they are
// written.
func TestLedger(t *testing.T) {
	l := newLedger("accepted")
	l.sent(6)
	for _, c := range []struct {
		content string
		n       int
		missing uint64
		err     string
	}{
		{`{"accepted":[` + idOf(0) + `,` + idOf(2) + `]}`, 2, 5, ""},
		{`{ "accepted" : [` + idOf(1) + `] }`, 1, 3, ""},
		{`{"accepted":[` + idOf(1) + `]}`, 0, 3, "second one"},
		{`{"accepted":[` + idOf(6) + `]}`, 0, 3, "for no message"},
		{`{"accepted":["bench_3"]}`, 0, 3, "for no message"},
		{`{"accepted":[` + idOf(4) + `],"failed":[]}`, -1, 0, `receipt of "failed" in place`},
		{`{"accepted":7}`, 0, 3, "cannot be read"},
	} {
		n, err := l.read(receiptOf(c.content))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got %v", c.content, err)
			}
			continue
		}
		if err != nil || n != c.n || l.missing() != c.missing {
			t.Errorf("%s: got %d, %v, and %d are missing", c.content, n, err, l.missing())
		}
	}
	if n, err := l.read(message("1", "server", "a", "list_clients_response", "{}")); n != 0 || err != nil {
		t.Errorf("no receipt: got %d, %v", n, err)
	}
	if l := newLedger("accepted"); l.limit(MaxAhead+1) != MaxAhead {
		t.Error("more may be sent ahead than is allowed")
	}
}

// A message with a msg_id of its own is checked as one without, also if its JSON is
// written anew.
func TestTrackedSeries(t *testing.T) {
	const size = 300
	s := newSeries("a", "b", size, false, "handled")
	texts := make([][]byte, 4)
	for i := range texts {
		frame := s.append(nil)
		texts[i] = frame[len(frame)-size-len(headers("handled")):]
		if texts[i][0] != '{' || !strings.Contains(string(texts[i]), idOf(i)) {
			t.Fatalf("got %q", frame)
		}
	}
	var anew map[string]any
	if err := json.Unmarshal(texts[1], &anew); err != nil {
		t.Fatal(err)
	}
	texts[1], _ = json.Marshal(anew)
	other := strings.Replace(string(texts[2]), idOf(2), idOf(3), 1)
	c := s.checker()
	for i, text := range []string{string(texts[0]), string(texts[1]), other, string(texts[2]), string(texts[0])} {
		_, err := c.check([]byte(text))
		want := []error{nil, nil, errChanged, nil, errOrder}[i]
		if !errors.Is(err, want) {
			t.Errorf("%d: got %v, want %v", i, err, want)
		}
	}
	if len(wsframe.AppendUnmasked(nil, wsframe.OpText, texts[3])) != len(s.frame) {
		t.Error("messages differ in size")
	}
}

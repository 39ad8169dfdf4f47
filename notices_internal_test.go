package crosscomm

import (
	"testing"

	"github.com/crosscomm/crosscomm-go/internal/dedup"
)

// A message that was handled, and is dropped from disk before it can be deleted there, has
// not expired: its sender gets one answer.
func TestOneAnswer(t *testing.T) {
	from := &member{id: "a"}
	s := sender{from: from, msgID: []byte(`"m"`), key: dedup.Of(`"m"`), want: Handled}
	s.place, _ = from.outgoing.begin(s.key, 0)
	var n notices
	n.settle(&letter{sender: s, handled: true})
	s.place = 0 // as it is restored from disk
	n.fail(&letter{sender: s}, failedExpired, "")
	if told := n.of[0].list.notices; len(told) != 1 || told[0].stage != Handled {
		t.Errorf("it is told %+v", told)
	}
	if _, again := from.outgoing.begin(s.key, 0); again == nil || again.stage != Handled || again.failure != "" {
		t.Errorf("who asks again is told %+v", again)
	}
}

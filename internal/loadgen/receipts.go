package loadgen

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// ledger knows which messages of a sender have their receipts. A nil one is that of a
// sender who wants none. It must not be used concurrently.
type ledger struct {
	usual []byte // with which the content begins of what tells of nothing but that stage
	stage string

	first, next uint64         // number of the first message without a receipt, and of the next one
	had         [MaxAhead]bool // of those from first on, by their number modulo MaxAhead
}

func newLedger(stage string) *ledger {
	return &ledger{usual: fmt.Appendf(nil, `{"%s":[`, stage), stage: stage}
}

// sent notes that n more messages are sent.
func (l *ledger) sent(n int) {
	if l != nil {
		l.next += uint64(n)
	}
}

// limit returns how many of n messages may be sent ahead of receipts.
func (l *ledger) limit(n int) int {
	if l == nil {
		return n
	}
	return min(n, MaxAhead-int(l.next-l.first))
}

// missing is how many messages have no receipt yet, and perhaps some that have come
// out of order.
func (l *ledger) missing() uint64 {
	if l == nil {
		return 0
	}
	return l.next - l.first
}

// isComplete reports whether no receipt is missing.
func (l *ledger) isComplete() bool { return l.missing() == 0 }

// count is how many receipts have come in order.
func (l *ledger) count() uint64 {
	if l == nil {
		return 0
	}
	return l.first
}

// read takes the receipts of a text, and returns how many there were; others have
// none.
func (l *ledger) read(text []byte) (n int, err error) {
	f, err := frame.ScanAgreed(text, frame.MaxDepth)
	if err != nil || string(f.Type) != "receipt" {
		return 0, err
	}
	if ids, ok := bytes.CutPrefix(f.Content, l.usual); ok {
		if ids, ok = bytes.CutSuffix(ids, []byte("]}")); ok && bytes.IndexByte(ids, ']') < 0 {
			for id := range bytes.SplitSeq(ids, []byte(",")) {
				if err := l.take(bytes.Trim(id, `"`)); err != nil {
					return n, err
				}
				n++
			}
			return n, nil
		}
	}
	return l.readAny(f.Content)
}

// readAny reads a receipt however it is written.
func (l *ledger) readAny(content []byte) (n int, err error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(content, &all); err != nil {
		return 0, fmt.Errorf("the receipt cannot be read: %w", err)
	}
	for stage, list := range all {
		var ids []string
		switch {
		case stage != l.stage:
			return n, fmt.Errorf("a receipt of %.20q in place of %s: %.200s", stage, l.stage, list)
		case json.Unmarshal(list, &ids) != nil:
			return n, fmt.Errorf("the receipt cannot be read: %.200s", list)
		}
		for _, id := range ids {
			if err := l.take([]byte(id)); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

var errReceipt = errors.New("a receipt is for no message, or the second one for it")

// take notes the receipt of one message.
func (l *ledger) take(id []byte) error {
	digits, ok := bytes.CutPrefix(id, []byte(idPrefix))
	var raw [numberSize / 2]byte
	if ok = ok && len(digits) == numberSize; ok {
		_, err := hex.Decode(raw[:], digits)
		ok = err == nil
	}
	number := binary.BigEndian.Uint64(raw[:])
	if !ok || number < l.first || number >= l.next || l.had[number%MaxAhead] {
		return fmt.Errorf("%w: %.200q", errReceipt, id)
	}
	l.had[number%MaxAhead] = true
	for l.first < l.next && l.had[l.first%MaxAhead] {
		l.had[l.first%MaxAhead] = false
		l.first++
	}
	return nil
}

// reportEvery is how often a receiver reports at most, as our client does.
const reportEvery = time.Millisecond

// reportTogether is the same if more than one message has come since, as with our client.
const reportTogether = 5 * time.Millisecond

// reports tell the server what has come to a receiver, of which each message is
// handled at once. A nil one tells nothing.
type reports struct {
	conn *conn

	mu       sync.Mutex
	received uint64 // messages that have come
	told     uint64 // and of how many the server knows
	last     time.Time
	timer    *time.Timer
	timed    bool // whether it runs
	waited   bool // whether it runs for the second time
	out      []byte
}

// arrived counts messages that have come at once. They are reported now if the last
// report was a while ago, else a little later.
func (r *reports) arrived(n int) {
	if r == nil || n == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received += uint64(n)
	switch {
	case r.received == r.told+1 && time.Since(r.last) >= reportEvery:
		r.send()
	case r.timed:
	case r.timer == nil:
		r.timer = time.AfterFunc(reportEvery, r.flush)
		r.timed = true
	default:
		r.timer.Reset(reportEvery)
		r.timed = true
	}
}

func (r *reports) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.received > r.told+1 && !r.waited {
		r.waited = true
		r.timer.Reset(reportTogether - reportEvery)
		return
	}
	r.timed, r.waited = false, false
	r.send()
}

// send reports what was not reported yet; with mu held.
func (r *reports) send() {
	if r.told == r.received {
		return
	}
	content := fmt.Sprintf(`{"received":%d,"handled":[[%d,%d]]}`, r.received, r.told+1, r.received)
	r.told, r.last = r.received, time.Now()
	r.out = r.conn.appendText(r.out[:0], message(plainID, r.conn.id, "server", "report", content))
	_, _ = r.conn.Write(r.out) // if it fails, the connection ends, of which its reader tells
}

// close reports the last ones.
func (r *reports) close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
	r.send()
}

package crosscomm

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// The types by which receivers report and senders are told, on connections that have
// agreed on more than the original's wire. Listeners never see them.
const (
	typeReceipt MsgType = "receipt" // server to client
	typeReport  MsgType = "report"  // client to server
)

const (
	// maxAhead is how many messages a client sends ahead of what it is told of them.
	// It must be less than maxRemembered.
	maxAhead = 1_000
	// maxRemembered is how many tracked messages a server remembers of each sender,
	// and a client of all, and rememberFor how long.
	maxRemembered = 4_096
	// maxReason bounds the bytes of the reason of a failure.
	maxReason = 512
	// maxTrackedID bounds the bytes of the msg_id of a tracked message.
	maxTrackedID = 512
)

// notice is what a sender is told of a message.
type notice struct {
	msgID   []byte // JSON text
	stage   Stage  // that was reached, if there is no failure
	failure failure
	reason  string
	counts  *Receipt // of a message to all; nil for others
}

// receiptContent is the content of a receipt. The server writes it without this.
type receiptContent struct {
	Accepted   []string           `json:"accepted"`
	Written    []string           `json:"written"`
	Handled    []string           `json:"handled"`
	Failed     []receiptFailure   `json:"failed"`
	Broadcasts []broadcastReceipt `json:"broadcasts"`
}

type receiptFailure struct {
	MsgID  string  `json:"msg_id"`
	Error  failure `json:"error"`
	Reason string  `json:"reason"`
}

type broadcastReceipt struct {
	MsgID     string `json:"msg_id"`
	Receivers int    `json:"receivers"`
	Accepted  int    `json:"accepted"`
	Written   int    `json:"written"`
	Handled   int    `json:"handled"`
	Failed    int    `json:"failed"`
}

// appendReceipt appends the content of a receipt.
func appendReceipt(dst []byte, notices []notice) []byte {
	dst = append(dst, '{')
	list := func(name string, member func(*notice) bool, write func(*notice)) {
		open := false
		for i := range notices {
			if !member(&notices[i]) {
				continue
			}
			if !open {
				if dst[len(dst)-1] != '{' {
					dst = append(dst, ',')
				}
				dst = append(append(append(dst, '"'), name...), `":[`...)
				open = true
			} else {
				dst = append(dst, ',')
			}
			write(&notices[i])
		}
		if open {
			dst = append(dst, ']')
		}
	}
	for s := Accepted; s <= Handled; s++ {
		list(s.String(), func(n *notice) bool { return n.stage == s && n.failure == "" && n.counts == nil }, func(n *notice) {
			dst = append(dst, n.msgID...)
		})
	}
	list("failed", func(n *notice) bool { return n.failure != "" }, func(n *notice) {
		dst = append(append(dst, `{"msg_id":`...), n.msgID...)
		dst = append(append(append(dst, `,"error":"`...), n.failure...), `","reason":`...)
		dst = append(frame.AppendString(dst, n.reason), '}')
	})
	list("broadcasts", func(n *notice) bool { return n.counts != nil }, func(n *notice) {
		id, _ := frame.Unquote(n.msgID)
		text, err := json.Marshal(broadcastReceipt{id, n.counts.Receivers, n.counts.Accepted, n.counts.Written, n.counts.Handled, n.counts.Failed})
		if err != nil {
			panic(err) // strings and numbers can always be written
		}
		dst = append(dst, text...)
	})
	return append(dst, '}')
}

// report is what a receiver tells of the tracked messages of a connection: the
// content of a typeReport. Their numbers begin with 1.
type report struct {
	Received uint64          `json:"received"`
	Handled  [][2]uint64     `json:"handled,omitempty"` // first and last ones; at a server by the first ones
	Failed   []reportFailure `json:"failed,omitempty"`
}

// reportFailure is one message that was not handled.
type reportFailure struct {
	Number uint64  `json:"number"`
	Error  failure `json:"error"`
	Reason string  `json:"reason"`
}

// parseReport reads the content of a typeReport.
func parseReport(content []byte) (report, error) {
	if r, ok := parseUsualReport(content); ok {
		return r, nil
	}
	return parseAnyReport(content)
}

// parseUsualReport reads it as our client writes it, with one range and no failures.
// There are as many reports as milliseconds, if there is anything to report.
func parseUsualReport(content []byte) (report, bool) {
	var numbers [3]uint64
	for i, before := range [...]string{`{"received":`, `,"handled":[[`, `,`} {
		rest, ok := bytes.CutPrefix(content, []byte(before))
		digits := 0
		for digits < len(rest) && digits < 19 && '0' <= rest[digits] && rest[digits] <= '9' {
			numbers[i] = 10*numbers[i] + uint64(rest[digits]-'0')
			digits++
		}
		if !ok || digits == 0 || rest[0] == '0' {
			return report{}, false
		}
		content = rest[digits:]
	}
	return report{Received: numbers[0], Handled: [][2]uint64{{numbers[1], numbers[2]}}}, string(content) == "]]}"
}

// parseAnyReport reads it however it is written.
func parseAnyReport(content []byte) (r report, err error) {
	if err := json.Unmarshal(content, &r); err != nil {
		return report{}, fmt.Errorf("the report is malformed: %w", err)
	}
	slices.SortFunc(r.Handled, func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	for i, f := range r.Failed {
		switch f.Error {
		case failedUnheard, failedListener, failedTooLarge, failedReply, failedExpired:
		default: // of later versions, or nonsense: all that matters is that it was not handled
			r.Failed[i].Error = failedListener
		}
		r.Failed[i].Reason = limitReason(f.Reason)
	}
	return r, nil
}

// add puts a handled message into the report.
func (r *report) add(number uint64) {
	if last := len(r.Handled) - 1; last >= 0 && r.Handled[last][1]+1 == number {
		r.Handled[last][1] = number
		return
	}
	r.Handled = append(r.Handled, [2]uint64{number, number})
}

// limitReason cuts a reason to what may be told.
func limitReason(reason string) string {
	return strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")
}

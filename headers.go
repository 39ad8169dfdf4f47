package crosscomm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// headers are what a frame may have beyond the original's wire, on connections that
// have agreed on it: see docs/protocol.md.
type headers struct {
	// Delivery is the name of the Stage of which the sender wants to be told. At
	// a receiver it says that the message is tracked, whatever its value.
	Delivery string `json:"delivery,omitempty"`
	// Request says that the sender waits for a message with this one's msg_id in
	// ReplyTo, and Timeout for how many milliseconds, if not 0.
	Request bool   `json:"request,omitempty"`
	ReplyTo string `json:"reply_to,omitempty"`
	Timeout int64  `json:"timeout_ms,omitempty"`
	// QueuedAs tells messages apart that a server has kept: their senders, who want no
	// receipts, need not have ids that do.
	QueuedAs string `json:"queued_as,omitempty"`
}

// parseHeaders reads the headers of a frame, which may have none.
func parseHeaders(f frame.Frame) (h headers, err error) {
	if f.Headers == nil {
		return headers{}, nil
	}
	for s := Accepted; s <= Handled; s++ { // as our client writes it, and most frames are
		if bytes.Equal(f.Headers, deliveryHeaders[s]) {
			return headers{Delivery: s.String()}, nil
		}
	}
	return parseAnyHeaders(f)
}

// parseAnyHeaders reads them however they are written. It is a function of its own
// because encoding/json has what it fills escape.
func parseAnyHeaders(f frame.Frame) (h headers, err error) {
	// Both ends must agree on which frames are tracked. So the names count as they
	// are written, which encoding/json does with a map only.
	var all map[string]json.RawMessage
	if err := json.Unmarshal(f.Headers, &all); err != nil {
		return headers{}, fmt.Errorf("the headers are malformed: %w", err)
	}
	for name, field := range map[string]any{"delivery": &h.Delivery, "request": &h.Request, "reply_to": &h.ReplyTo, "timeout_ms": &h.Timeout, "queued_as": &h.QueuedAs} {
		raw, ok := all[name]
		if ok && (json.Unmarshal(raw, field) != nil || name == "delivery" && stageNamed(h.Delivery) == Sent) {
			return headers{}, fmt.Errorf("the header %s cannot be %.40q", name, raw)
		}
	}
	return h, nil
}

// lasts returns for how long the sender of a request waits; 0 for no end.
func (h headers) lasts() time.Duration {
	if h.Timeout <= 0 || h.Timeout > math.MaxInt64/int64(time.Millisecond) {
		return 0
	}
	return time.Duration(h.Timeout) * time.Millisecond
}

// deliveryHeaders are those that have nothing but the delivery, by its stage.
var deliveryHeaders = func() (all [Handled + 1][]byte) {
	for s := Accepted; s <= Handled; s++ {
		all[s] = []byte(`{"delivery":"` + s.String() + `"}`)
	}
	return all
}()

// appendHeaders appends a frame that has no headers with these.
func appendHeaders(dst, data []byte, h headers) []byte {
	text := deliveryHeaders[stageNamed(h.Delivery)]
	if h != (headers{Delivery: h.Delivery}) || text == nil {
		var err error
		if text, err = json.Marshal(h); err != nil {
			panic(err) // strings can always be written
		}
	}
	end := bytes.LastIndexByte(data, '}')
	dst = append(append(dst, data[:end]...), `,"`+frame.KeyHeaders+`":`...)
	return append(append(dst, text...), '}')
}

// appendTracked appends a frame whose sender wants no receipt, so that whoever gets it
// counts it as tracked, and tells it from others by queuedAs. The headers that mean
// something only with a receipt mean nothing then, either. The others stay.
func appendTracked(dst, data []byte, f frame.Frame, queuedAs string) []byte {
	if f.Headers == nil {
		return appendHeaders(dst, data, headers{Delivery: Accepted.String(), QueuedAs: queuedAs})
	}
	all := map[string]json.RawMessage{}
	_ = json.Unmarshal(f.Headers, &all) // parseHeaders has done so
	for _, name := range []string{"request", "timeout_ms", "reply_to"} {
		delete(all, name)
	}
	all["delivery"], all["queued_as"] = json.RawMessage(`"accepted"`), frame.AppendString(nil, queuedAs)
	text, err := marshal(all)
	if err != nil {
		panic(err) // it was JSON
	}
	dst = f.AppendPlain(dst, data)
	end := bytes.LastIndexByte(dst, '}')
	return append(append(append(dst[:end], `,"`+frame.KeyHeaders+`":`...), text...), '}')
}

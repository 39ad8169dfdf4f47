package crosscomm

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// Message is one message. Its fields are the seven keys of the wire, by the
// names of the original.
//
// A Message given to a listener belongs to that listener. Its methods do not
// change it.
type Message struct {
	MsgID        string
	FromClientID string
	ToClientID   string
	MsgType      MsgType
	// Content is the JSON text of the content, exactly as it was received. It
	// may hold what Python writes and encoding/json does not know: NaN,
	// Infinity, -Infinity. [Message.Text], [Message.Bytes] and [Message.Decode]
	// read it.
	Content json.RawMessage
	// Timestamp is when the sender made the message, in seconds since 1970 by
	// the sender's clock.
	Timestamp float64
	OSSKey    string // where a file lies in object storage; "" stands for null
}

// Time returns the Timestamp as a time, to the microsecond. It returns the zero
// time if the timestamp is not a number.
func (m *Message) Time() time.Time {
	if math.IsNaN(m.Timestamp) || math.Abs(m.Timestamp) > math.MaxInt64/1e6 {
		return time.Time{}
	}
	return time.UnixMicro(int64(math.Round(m.Timestamp * 1e6)))
}

// ParseMessage reads a frame of the wire. It accepts what the original accepts:
// see [Message.Content] for how that exceeds JSON; oss_key may be missing, any
// other key may not, and there may be no further ones. The error says where
// the frame is wrong.
func ParseMessage(data []byte) (*Message, error) {
	f, err := frame.Scan(data)
	if err == nil && !MsgType(f.Type).Valid() {
		err = fmt.Errorf("unknown msg_type %.40q", f.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("crosscomm: not a message: %w", err)
	}
	return newMessage(f), nil
}

// newMessage copies what it takes from the frame.
func newMessage(f frame.Frame) *Message {
	m := &Message{
		FromClientID: string(f.From),
		ToClientID:   string(f.To),
		MsgType:      MsgType(f.Type),
		Content:      append(json.RawMessage(nil), f.Content...),
		MsgID:        lenientString(f.MsgID),
	}
	if string(f.OSSKey) != "null" {
		m.OSSKey = lenientString(f.OSSKey)
	}
	m.Timestamp, _ = strconv.ParseFloat(string(f.Timestamp), 64)
	return m
}

// lenientString decodes a string. What is none stays JSON text: a relay passes
// on a msg_id that is a number, and a listener is better served with its text
// than without the message.
func lenientString(raw []byte) string {
	if s, ok := frame.Unquote(raw); ok {
		return s
	}
	return string(raw)
}

// AppendFrame appends the message as a frame of the wire, on one line. It is
// MarshalJSON for content with NaN or an infinity, which encoding/json takes
// from nobody.
func (m *Message) AppendFrame(dst []byte) []byte {
	dst = frame.AppendString(append(dst, `{"msg_id":`...), m.MsgID)
	dst = frame.AppendString(append(dst, `,"from_client_id":`...), m.FromClientID)
	dst = frame.AppendString(append(dst, `,"to_client_id":`...), m.ToClientID)
	dst = frame.AppendString(append(dst, `,"msg_type":`...), string(m.MsgType))
	dst = append(dst, `,"content":`...)
	if len(m.Content) == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = frame.AppendCompact(dst, m.Content)
	}
	dst = appendNumber(append(dst, `,"timestamp":`...), m.Timestamp)
	dst = append(dst, `,"oss_key":`...)
	if m.OSSKey == "" {
		return append(dst, "null}"...)
	}
	return append(frame.AppendString(dst, m.OSSKey), '}')
}

// appendNumber writes a number as Python reads it.
func appendNumber(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	format := byte('f')
	if abs := math.Abs(f); abs >= 1e21 || abs != 0 && abs < 1e-6 {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, 64)
}

// MarshalJSON returns the message as a JSON object with the seven keys. It
// returns an error if Content is not JSON.
func (m *Message) MarshalJSON() ([]byte, error) {
	if len(m.Content) > 0 {
		if err := frame.Valid(m.Content); err != nil {
			return nil, fmt.Errorf("crosscomm: message content: %w", err)
		}
	}
	return m.AppendFrame(nil), nil
}

// UnmarshalJSON is [ParseMessage]. Through json.Unmarshal it never sees NaN,
// which encoding/json refuses before.
func (m *Message) UnmarshalJSON(data []byte) error {
	parsed, err := ParseMessage(data)
	if err != nil {
		return err
	}
	*m = *parsed
	return nil
}

// ToDict returns the message as a map with the seven keys, the content decoded
// as by [Message.Decode] into an any, except that its numbers are json.Number,
// so that nothing is lost, and NaN and the infinities float64. oss_key is nil
// or a string. Content that is not JSON is an error.
func (m *Message) ToDict() (map[string]any, error) {
	content, err := decodeExact(m.Content)
	if err != nil {
		return nil, fmt.Errorf("crosscomm: message content: %w", err)
	}
	d := map[string]any{
		"msg_id":         m.MsgID,
		"from_client_id": m.FromClientID,
		"to_client_id":   m.ToClientID,
		"msg_type":       string(m.MsgType),
		"content":        content,
		"timestamp":      m.Timestamp,
		"oss_key":        nil,
	}
	if m.OSSKey != "" {
		d["oss_key"] = m.OSSKey
	}
	return d, nil
}

// FromDict makes a message of a map as [Message.ToDict] returns it. The content
// may be anything that can be written as JSON; msg_type may be a string or a
// MsgType, timestamp any number. As in the original every key but oss_key must
// be there, and no other may be.
func FromDict(d map[string]any) (*Message, error) {
	raw, err := marshal(d)
	if err != nil {
		return nil, fmt.Errorf("crosscomm: not a message: %w", err)
	}
	return ParseMessage(raw)
}

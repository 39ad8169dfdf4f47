package crosscomm

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
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

	received []byte // the frame that it was parsed from, or nil

	path string // where its file or folder is
	err  error  // why that could not be downloaded

	inquiry *inquiry // nil if nobody waits for a reply
}

// Path returns where the image, the file or the folder is that came with the
// message and was downloaded, since a listener that matches it has a
// [ListenerOptions.DownloadDirectory]. It is whole then. Else it is "".
func (m *Message) Path() string { return m.path }

// Err returns why an image, a file or a folder should have been downloaded but
// could not be: a *[TransferError], or [ErrNoObjectStore], or, if the link was
// lost before that was known, [ErrNotConnected]. Else it is nil.
// [Service.DownloadFileManually] can try again.
func (m *Message) Err() error { return m.err }

// Frame returns the frame as it was received, to the byte, but without the headers
// that Go programs add to it among themselves, and nil for a Message that did not
// come from one. It must not be changed.
func (m *Message) Frame() json.RawMessage { return m.received }

// Time returns the Timestamp as a time, to the microsecond. It returns the zero
// time if the timestamp is NaN or out of the range of years that have four
// digits. A timestamp that is no number on the wire counts as 0.
func (m *Message) Time() time.Time { return fromSeconds(m.Timestamp) }

// toSeconds returns the time as the wire and the state file have it.
func toSeconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// fromSeconds is the opposite of toSeconds; it returns the zero time for what
// is none.
func fromSeconds(s float64) time.Time {
	const year10000 = 253402300800
	if !(math.Abs(s) < year10000) { // so written, it is true for NaN too
		return time.Time{}
	}
	return time.UnixMicro(int64(math.Round(s * 1e6)))
}

// ParseMessage reads a frame of the wire. It accepts what the original accepts:
// see [Message.Content] for how that exceeds JSON; oss_key may be missing, any
// other key may not, and there may be no further ones. The error says where
// the frame is wrong.
func ParseMessage(data []byte) (*Message, error) {
	f, err := frame.Scan(data)
	if err == nil && !msgTypeOf(f.Type).Valid() {
		err = fmt.Errorf("unknown msg_type %.40q", f.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("crosscomm: not a message: %w", err)
	}
	return newMessage(data, f), nil
}

// newMessage makes a Message of a frame that was scanned from data. It copies
// what it takes: data is shared with others.
func newMessage(data []byte, f frame.Frame) *Message {
	m := new(Message)
	m.set(data, msgTypeOf(f.Type), f)
	return m
}

// set is newMessage for one that is there.
func (m *Message) set(data []byte, t MsgType, f frame.Frame) {
	m.received = f.AppendPlain(make([]byte, 0, len(data)), data)
	begin := f.PlainContentAt()
	end := begin + len(f.Content)
	m.Content = json.RawMessage(m.received[begin:end:end])
	m.MsgType = t
	m.Timestamp, _ = strconv.ParseFloat(string(f.Timestamp), 64)

	// The short ones share the memory of one string.
	var room [256]byte
	texts := append(append(room[:0], f.From...), f.To...)
	from, to := len(f.From), len(texts)
	texts = appendString(texts, f.MsgID)
	id := len(texts)
	if string(f.OSSKey) != "null" {
		texts = appendString(texts, f.OSSKey)
	}
	all := string(texts)
	m.FromClientID, m.ToClientID, m.MsgID, m.OSSKey = all[:from], all[from:to], all[to:id], all[id:]
}

// appendString appends a decoded string. What is none stays JSON text: a relay passes
// on a msg_id that is a number, and a listener is better served with its text
// than without the message.
func appendString(dst, raw []byte) []byte {
	if decoded, ok := frame.AppendUnquoted(dst, raw); ok {
		return decoded
	}
	return append(dst, raw...)
}

// AppendFrame appends the message, made anew of its fields, as a frame of the
// wire, on one line. It is for content that has NaN or an infinity, which
// encoding/json takes from nobody. Content that is not JSON is appended as it
// is, and makes a malformed frame.
func (m *Message) AppendFrame(dst []byte) []byte {
	const others = 200 // bytes of the keys, the type and the timestamp
	dst = slices.Grow(dst, len(m.MsgID)+len(m.FromClientID)+len(m.ToClientID)+len(m.Content)+len(m.OSSKey)+others)
	dst = frame.AppendString(append(dst, `{"`+frame.KeyMsgID+`":`...), m.MsgID)
	dst = frame.AppendString(append(dst, `,"`+frame.KeyFrom+`":`...), m.FromClientID)
	dst = frame.AppendString(append(dst, `,"`+frame.KeyTo+`":`...), m.ToClientID)
	dst = frame.AppendString(append(dst, `,"`+frame.KeyType+`":`...), string(m.MsgType))
	dst = append(dst, `,"`+frame.KeyContent+`":`...)
	if len(m.Content) == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = frame.AppendCompact(dst, m.Content)
	}
	dst = appendNumber(append(dst, `,"`+frame.KeyTimestamp+`":`...), m.Timestamp)
	dst = append(dst, `,"`+frame.KeyOSSKey+`":`...)
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
func (m Message) MarshalJSON() ([]byte, error) {
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

// ToDict returns the message as a map with the seven keys. The content is
// decoded as json.Unmarshal decodes into an any, except that numbers are
// json.Number, so that they keep all their digits, and NaN and the infinities
// float64. Lone surrogates inside of the content become U+FFFD, unless it is a
// string. oss_key is nil or a string. It returns an error if Content is not
// JSON.
func (m *Message) ToDict() (map[string]any, error) {
	content, err := decodeExact(m.Content)
	if err != nil {
		return nil, fmt.Errorf("crosscomm: message content: %w", err)
	}
	d := map[string]any{
		frame.KeyMsgID:     m.MsgID,
		frame.KeyFrom:      m.FromClientID,
		frame.KeyTo:        m.ToClientID,
		frame.KeyType:      string(m.MsgType),
		frame.KeyContent:   content,
		frame.KeyTimestamp: m.Timestamp,
		frame.KeyOSSKey:    nil,
	}
	if m.OSSKey != "" {
		d[frame.KeyOSSKey] = m.OSSKey
	}
	return d, nil
}

// FromDict makes a message of a map as [Message.ToDict] returns it. The content
// may be anything that can be written as JSON; msg_type may be a string or a
// MsgType, timestamp any number. As in the original every key but oss_key must
// be there, and no other may be.
func FromDict(d map[string]any) (*Message, error) {
	raw := []byte{'{'}
	for i, key := range slices.Sorted(maps.Keys(d)) {
		if i > 0 {
			raw = append(raw, ',')
		}
		raw = append(frame.AppendString(raw, key), ':')
		if s, ok := d[key].(string); ok {
			raw = frame.AppendString(raw, s)
			continue
		}
		value, err := marshal(d[key])
		if err != nil {
			return nil, fmt.Errorf("crosscomm: not a message: %s: %w", key, err)
		}
		raw = append(raw, value...)
	}
	return ParseMessage(append(raw, '}'))
}

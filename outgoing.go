package crosscomm

import (
	"fmt"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// compose makes the frame of a message that an application sends. Its errors
// are those of SendMessage that do not depend on the link.
func (s *Service) compose(from string, content any, t MsgType, to string) ([]byte, error) {
	if to != All && to != ServerID {
		if err := checkID(to); err != nil {
			return nil, fmt.Errorf("crosscomm: SendMessage: %w: %w", ErrReceiver, err)
		}
	}
	raw, err := encodeContent(t, content)
	if err != nil {
		if !t.file() {
			err = fmt.Errorf("%w: %w", ErrContent, err)
		}
		return nil, fmt.Errorf("crosscomm: SendMessage: %w", err)
	}
	data := s.newFrame(from, t, to, raw)
	// What user code wrote as JSON may still be nested too deeply for the peers.
	if _, err := frame.Scan(data); err != nil {
		return nil, fmt.Errorf("crosscomm: SendMessage: %w: %w", ErrContent, err)
	}
	if len(data) > s.cfg.MaxMessageSize {
		return nil, fmt.Errorf("crosscomm: SendMessage: %w: it has %d bytes on the wire, and receivers take %d", ErrTooLarge, len(data), s.cfg.MaxMessageSize)
	}
	return data, nil
}

// newFrame makes a frame of our own, content being JSON text.
func (s *Service) newFrame(from string, t MsgType, to string, content []byte) []byte {
	now := time.Now()
	m := Message{
		// The original's server too makes its message ids of its own client id.
		MsgID:        newMessageID(s.cfg.ClientID, now),
		FromClientID: from,
		ToClientID:   to,
		MsgType:      t,
		Content:      content,
		Timestamp:    float64(now.UnixMicro()) / 1e6,
	}
	return m.AppendFrame(nil)
}

var emptyContent = []byte("{}")

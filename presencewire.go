package crosscomm

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// The types of presence. They pass only on connections that agreed on more than the
// original's wire, and listeners never see them.
const (
	typePresenceWatch MsgType = "presence_watch" // client to server: {"watch": true} or false
	typePresence      MsgType = "presence"       // server to client: a presenceReport
)

// presenceReport is the content of a presence frame.
type presenceReport struct {
	Snapshot bool // whether the events tell who is there, and not what has happened
	More     bool // whether another frame of the snapshot follows
	Events   []PresenceEvent
}

// wantsPresence reads the content of presence_watch.
func wantsPresence(content []byte) (bool, error) {
	var request struct{ Watch *bool }
	if err := json.Unmarshal(content, &request); err != nil {
		return false, err
	}
	if request.Watch == nil {
		return false, errors.New(`it does not have "watch"`)
	}
	return *request.Watch, nil
}

// parsePresence reads the content of presence. It leaves out events of unknown kinds,
// which a newer server may send.
func parsePresence(content []byte) (presenceReport, error) {
	var wire struct {
		Snapshot, More bool
		Events         []struct {
			ClientID string `json:"client_id"`
			Event    PresenceKind
			Time     float64
		}
	}
	if err := json.Unmarshal(content, &wire); err != nil {
		return presenceReport{}, err
	}
	r := presenceReport{Snapshot: wire.Snapshot, More: wire.More}
	for _, e := range wire.Events {
		if err := checkID(e.ClientID); err != nil {
			return presenceReport{}, err
		}
		if e.Event.known() {
			r.Events = append(r.Events, PresenceEvent{Kind: e.Event, ClientID: e.ClientID, Time: fromSeconds(e.Time)})
		}
	}
	return r, nil
}

// appendPresenceEvent appends an event as it stands on the wire.
func appendPresenceEvent(b []byte, e PresenceEvent) []byte {
	b = frame.AppendString(append(b, `{"client_id":`...), e.ClientID)
	b = frame.AppendString(append(b, `,"event":`...), string(e.Kind))
	b = strconv.AppendFloat(append(b, `,"time":`...), toSeconds(e.Time), 'f', -1, 64)
	return append(b, '}')
}

// presenceContents returns the events as contents of at most so many bytes. An event that
// alone exceeds that is left out. Of a snapshot there is one content at least.
func presenceContents(events []PresenceEvent, snapshot bool, most int) (contents [][]byte) {
	head := fmt.Appendf(nil, `{"snapshot":%t,"events":[`, snapshot)
	const last, another = `],"more":false}`, `],"more":true}`
	content, begun := append([]byte(nil), head...), false
	var room []byte
	for _, e := range events {
		room = appendPresenceEvent(room[:0], e)
		if len(head)+len(room)+len(last) > most {
			continue
		}
		if begun && len(content)+1+len(room)+len(last) > most {
			end := last
			if snapshot {
				end = another
			}
			contents = append(contents, append(content, end...))
			content, begun = append([]byte(nil), head...), false
		}
		if begun {
			content = append(content, ',')
		}
		content, begun = append(content, room...), true
	}
	if begun || snapshot {
		contents = append(contents, append(content, last...))
	}
	return contents
}

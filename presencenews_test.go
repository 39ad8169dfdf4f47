package crosscomm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func newsOf(kinds ...PresenceKind) (n presenceNews) {
	for _, kind := range kinds {
		n.add(PresenceEvent{Kind: kind, ClientID: "c"})
	}
	return n
}

// Of what has happened to a client, the first event is told, and then how it is now.
func TestPresenceNews(t *testing.T) {
	const (
		here, joined, replaced, back = PresenceHere, PresenceJoined, PresenceReplaced, PresenceBack
		timedOut, left               = PresenceTimedOut, PresenceLeft
	)
	type kinds = []PresenceKind
	for _, tc := range []struct{ happened, told kinds }{
		{kinds{joined}, kinds{joined}},
		{kinds{here, left}, kinds{here, left}},
		{kinds{joined, left, joined}, kinds{joined, replaced}},
		{kinds{left, joined, left}, kinds{left}},
		{kinds{left, joined, left, joined}, kinds{left, joined}},
		{kinds{left, joined, replaced}, kinds{left, joined}},
		{kinds{replaced, replaced, replaced}, kinds{replaced, replaced}},
		{kinds{timedOut, left, joined}, kinds{timedOut, replaced}},
		{kinds{timedOut, back, timedOut}, kinds{timedOut}},
		{kinds{timedOut, back, timedOut, back}, kinds{timedOut, back}},
		{kinds{timedOut, back, timedOut, left}, kinds{timedOut, left}},
	} {
		n := newsOf(tc.happened...)
		var told kinds
		for _, e := range n.take() {
			told = append(told, e.Kind)
		}
		if !slices.Equal(told, tc.told) {
			t.Errorf("%v is told as %v, want %v", tc.happened, told, tc.told)
		}
	}

	// What was told does not wait any more.
	n := newsOf(left, joined, left)
	if e, ok := n.next(); !ok || e.Kind != left {
		t.Errorf("got %v, %v", e, ok)
	}
	n.add(PresenceEvent{Kind: joined, ClientID: "c"})
	n.add(PresenceEvent{Kind: joined, ClientID: "d"})
	if got := n.take(); len(got) != 2 || got[0].Kind != joined || got[1].ClientID != "d" {
		t.Errorf("got %v", got)
	}
}

// What waits does not grow with the visits of ever new clients; nothing that says how
// somebody is now is lost.
func TestPresenceNewsOfManyVisits(t *testing.T) {
	var n presenceNews
	add := func(kind PresenceKind, id string) { n.add(PresenceEvent{Kind: kind, ClientID: id}) }
	for i := range 10 * fewNews {
		id := fmt.Sprint("visitor ", i)
		add(PresenceJoined, id)
		if i%1000 == 0 {
			add(PresenceReplaced, id) // stays
		} else {
			add(PresenceLeft, id)
		}
		if i%1000 == 1 {
			add(PresenceLeft, fmt.Sprint("known ", i))
			add(PresenceJoined, fmt.Sprint("known ", i))
			add(PresenceLeft, fmt.Sprint("known ", i))
		}
		if n.queue.Len() > 2*fewNews {
			t.Fatalf("%d events wait", n.queue.Len())
		}
	}
	stay, gone := 0, 0
	for _, e := range n.take() {
		if e.Kind == PresenceReplaced {
			stay++
		} else if strings.HasPrefix(e.ClientID, "known") {
			gone++
		}
	}
	if stay != 10*fewNews/1000 || gone != stay {
		t.Errorf("of %d that stay %d are told, and of as many that went %d", 10*fewNews/1000, stay, gone)
	}
}

// Whatever happens, and whenever the next event is told: each is told in a state in which
// it can happen, and the last one says how the client is. The bytes are clients and what
// happens to them; one of 7 tells the next event.
func FuzzPresenceNews(f *testing.F) {
	for _, text := range []string{"", "\x00\x01\x02\x07\x00", "\x00\x10\x00\x17\x11\x01\x01", "\x00\x02\x03\x02\x03\x07\x02\x01\x07\x07"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var n presenceNews
		now, told := map[string]PresenceKind{}, map[string]PresenceKind{} // without those that are gone
		tell := func() {
			e, ok := n.next()
			if !ok {
				return
			}
			before, was := told[e.ClientID]
			if was && e.Kind == PresenceJoined || !was && e.Kind != PresenceJoined && e.Kind != PresenceTimedOut {
				t.Fatalf("%s is told of one who was %q", e.Kind, before)
			}
			if told[e.ClientID] = e.Kind; e.Kind == PresenceLeft {
				delete(told, e.ClientID)
			}
		}
		for _, b := range data {
			id := fmt.Sprint(b >> 4)
			state, is := now[id]
			kind := PresenceKind("")
			switch b & 7 {
			case 0:
				if kind = PresenceJoined; is {
					kind = PresenceReplaced
				}
			case 1:
				if is {
					kind = PresenceLeft
				}
			case 2:
				if state.Online() {
					kind = PresenceTimedOut
				}
			case 3:
				if state == PresenceTimedOut {
					kind = PresenceBack
				}
			case 7:
				tell()
			}
			if kind == "" {
				continue
			}
			n.add(PresenceEvent{Kind: kind, ClientID: id})
			if now[id] = kind; kind == PresenceLeft {
				delete(now, id)
			}
			if n.queue.Len() > 3*16 {
				t.Fatalf("%d events of 16 clients wait", n.queue.Len())
			}
		}
		for !n.empty() {
			tell()
		}
		for id := range 16 {
			id := fmt.Sprint(id)
			if now[id].Online() != told[id].Online() || (now[id] == "") != (told[id] == "") {
				t.Errorf("%s is %q, and was told %q", id, now[id], told[id])
			}
		}
		if len(n.of) != 0 {
			t.Errorf("%v is kept", n.of)
		}
	})
}

// Whatever comes as the content of the two frames is an error, or has only what makes
// sense; written again, in as many parts as it takes, it is the same.
func FuzzPresenceContent(f *testing.F) {
	for _, text := range []string{
		`{"watch":true}`, `{"watch":1}`, `{"watch":null}`, `[]`, `null`, `"{}"`,
		`{"snapshot":true,"more":true,"events":[{"client_id":"a","event":"present","time":1795508069.140345}]}`,
		`{"events":[{"client_id":"\u202ea","event":"left","time":1}]}`, `{"events":[{"client_id":"a","event":"soared"}]}`,
		`{"events":[{"client_id":"a","event":"left","time":1e300},{"client_id":"\"\\","event":"back","time":-1}]}`,
		`{"events":null}`, `{"events":[null]}`, `{"events":{}}`,
	} {
		f.Add([]byte(text), uint16(100))
	}
	f.Fuzz(func(t *testing.T, content []byte, most uint16) {
		_, _ = wantsPresence(content)
		report, err := parsePresence(content)
		if err != nil {
			return
		}
		var again []PresenceEvent
		for i, e := range report.Events {
			if checkID(e.ClientID) != nil || !e.Kind.known() {
				t.Errorf("it has %+v", e)
			}
			if e.Time.IsZero() {
				report.Events[i].Time = time.Unix(0, 0) // no time has no place on the wire
			}
		}
		contents := presenceContents(report.Events, report.Snapshot, int(most))
		if report.Snapshot && len(contents) == 0 {
			t.Error("a snapshot has no end")
		}
		for i, content := range contents {
			part, err := parsePresence(content)
			if err != nil || !json.Valid(content) || part.Snapshot != report.Snapshot || part.More != (report.Snapshot && i < len(contents)-1) {
				t.Fatalf("part %d of %d is %s: %v", i, len(contents), content, err)
			}
			if len(content) > int(most) && len(part.Events) > 0 {
				t.Errorf("a part has %d bytes, of %d", len(content), most)
			}
			again = append(again, part.Events...)
		}
		left := report.Events
		for _, e := range again {
			i := slices.IndexFunc(left, func(other PresenceEvent) bool {
				return other.ClientID == e.ClientID && other.Kind == e.Kind && other.Time.Equal(e.Time)
			})
			if i < 0 {
				t.Fatalf("%+v was not written, or before; %+v were", e, report.Events)
			}
			left = left[i+1:]
		}
		if most > 2000 && len(again) != len(report.Events) {
			t.Errorf("of %d events %d were written", len(report.Events), len(again))
		}
	})
}

// A server of very many clients needs few frames, and none is larger than may be.
func TestPresenceContents(t *testing.T) {
	events := make([]PresenceEvent, 20_000)
	for i := range events {
		events[i] = PresenceEvent{Kind: PresenceHere, ClientID: fmt.Sprint("client ", i), Time: time.Unix(1795508069, 140345000)}
	}
	for _, snapshot := range []bool{true, false} {
		contents := presenceContents(events, snapshot, mostPresence)
		n := 0
		for _, content := range contents {
			report, err := parsePresence(content)
			if err != nil || len(content) > mostPresence {
				t.Fatalf("%d bytes, %v", len(content), err)
			}
			for _, e := range report.Events {
				if e.ClientID != events[n].ClientID || !e.Time.Equal(events[n].Time) {
					t.Fatalf("event %d is %+v", n, e)
				}
				n++
			}
		}
		if n != len(events) || len(contents) > 30 {
			t.Errorf("%d events in %d frames", n, len(contents))
		}
	}
	if got := presenceContents(nil, false, mostPresence); got != nil {
		t.Errorf("of nothing: %s", got)
	}
}

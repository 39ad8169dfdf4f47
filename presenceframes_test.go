package crosscomm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// agreedOn logs a bare client of ours in on the pipes, which takes so many bytes.
func agreedOn(t *testing.T, p *testkit.Pipes, id string, takes int) *rawPeer {
	t.Helper()
	conn, _, err := (&websocket.Dialer{NetDialContext: p.Dial, Subprotocols: []string{"crosscomm.v3"}}).Dial("ws://server/", nil)
	if err != nil {
		t.Fatal(err)
	}
	peer := &rawPeer{Conn: conn, t: t, id: id}
	peer.write(frameOf(id, "server", "login", fmt.Sprintf(`{"max_message_size": %d}`, takes)))
	for !strings.Contains(peer.read(), `"login_response"`) {
	}
	return peer
}

// report is the content of a presence frame.
type report struct {
	Snapshot, More bool
	Events         []struct {
		ClientID string `json:"client_id"`
		Event    string
		Time     float64
	}
}

// readReport reads the next frame, which must be one of presence.
func (p *rawPeer) readReport() (r report, size int) {
	p.t.Helper()
	text := p.read()
	var frame struct {
		From    string `json:"from_client_id"`
		Type    string `json:"msg_type"`
		Content report
	}
	if err := json.Unmarshal([]byte(text), &frame); err != nil || frame.Type != "presence" || frame.From != "server" {
		p.t.Fatalf("got %s, %v", text, err)
	}
	return frame.Content, len(text)
}

// Hundreds who come at once are told of in one frame, 50 ms later. A list that does not fit
// into what a client takes comes in parts. What is no request is refused.
func TestPresenceFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		server, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true})
		defer stop()
		watchers := []*rawPeer{agreedOn(t, network, "w1", 1<<20), agreedOn(t, network, "w2", 1<<20), agreedOn(t, network, "w3", 1<<20)}
		for _, w := range watchers {
			defer w.Close()
			w.write(frameOf(w.id, "server", "presence_watch", `{"watch": true}`))
			if r, _ := w.readReport(); !r.Snapshot || r.More || len(r.Events) != 3 {
				t.Errorf("got %+v", r)
			}
		}
		const count = 300
		began := time.Now()
		for i := range count {
			raw := rawOn(t, network, fmt.Sprint("raw ", i))
			defer raw.Close()
			go raw.discard()
		}
		if time.Since(began) != 0 {
			t.Fatal("it took time")
		}
		for _, w := range watchers {
			r, _ := w.readReport()
			if r.Snapshot || len(r.Events) != count || r.Events[7].ClientID != "raw 7" || r.Events[7].Event != "joined" || time.Since(began) != 50*time.Millisecond {
				t.Errorf("after %v: %d events", time.Since(began), len(r.Events))
			}
		}

		small := agreedOn(t, network, "small", 600)
		defer small.Close()
		for _, w := range watchers {
			w.readReport()
		}
		for range 2 { // whoever asks again is told again
			small.write(frameOf("small", "server", "presence_watch", `{"watch": true}`))
			told, parts := map[string]bool{}, 0
			for more := true; more; parts++ {
				r, size := small.readReport()
				if size > 600 || !r.Snapshot {
					t.Fatalf("a part has %d bytes: %+v", size, r)
				}
				for _, e := range r.Events {
					told[e.ClientID] = e.Event == "present" && e.Time > 1e8
				}
				more = r.More
			}
			if len(told) != count+4 || !told["raw 299"] || !told["w1"] || parts < count/6 {
				t.Errorf("%d are told in %d parts", len(told), parts)
			}
		}

		refused := server.Stats().Refused
		for _, content := range []string{`{}`, `[]`, `"watch"`, `{"watch": 1}`, `NaN`} {
			small.write(frameOf("small", "server", "presence_watch", content))
		}
		small.write(frameOf("small", "small", "presence", `{"events": []}`))
		small.write(frameOf("small", "server", "presence_watch", `{"watch": false}`))
		small.write(frameOf("small", "server", "presence_watch", `{"watch": false}`))
		synctest.Wait()
		if n := server.Stats().Refused - refused; n != 6 {
			t.Errorf("%d frames were refused", n)
		}
		watchers[2].write(frameOf("w3", "server", "logout", "{}"))
		watchers[0].readReport()
		last := rawOn(t, network, "last")
		defer last.Close()
		watchers[0].readReport()
		watchers[2].write(frameOf("w3", "server", "login", "{}"))
		if got := watchers[2].read(); !strings.Contains(got, "object_store") {
			t.Errorf("after a logout: %s", got)
		}
		watchers[0].readReport()
		delivered := server.Stats().Delivered
		small.write(frameOf("small", "small", "text", `"nothing came"`))
		if got := small.read(); !strings.Contains(got, "nothing came") || server.Stats().Delivered != delivered+1 {
			t.Errorf("got %s", got)
		}
	})
}

// A request costs as much as one for the list of clients.
func TestPresenceIsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		server, stop := serveOn(t, network, crosscomm.Config{NoStateFile: true, Limits: crosscomm.Limits{MessagesPerSecond: 50}})
		defer stop()
		for i := range 20 {
			raw := rawOn(t, network, fmt.Sprint("raw ", i))
			defer raw.Close()
			go raw.discard()
		}
		w := agreedOn(t, network, "w", 1<<20)
		defer w.Close()
		began := time.Now()
		go func() {
			for range 10 {
				w.write(frameOf("w", "server", "presence_watch", `{"watch": true}`))
			}
		}()
		for range 10 {
			w.readReport()
		}
		if d := time.Since(began); d < 2*time.Second || server.Stats().Throttled == 0 {
			t.Errorf("10 lists of 21 came within %v", d)
		}
	})
}

// What a server says that is malformed, or was not asked for, changes nothing. Of requests
// that cross each other's answers only the last one counts.
func TestPresenceOfABadServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		logs := new(logBuffer)
		c := clientOn(t, network, "c", crosscomm.Config{Logger: logs.logger()})
		onC := collect(c, crosscomm.ListenerOptions{Type: "presence"})
		server := agreedServer(t, network, c)
		requests := make(chan string, 100)
		serve := func() {
			for {
				_, data, err := server.ReadMessage()
				if err != nil {
					return
				}
				if _, content, ok := strings.Cut(string(data), `"presence_watch","content":`); ok {
					requests <- content[:strings.Index(content, "}")+1]
				}
			}
		}
		go serve()
		asked := func(want string) {
			t.Helper()
			if got := testkit.Receive(t, requests); got != want {
				t.Fatalf("it asks %s, want %s", got, want)
			}
		}
		tell := func(content string) { server.write(frameOf("server", "all", "presence", content)) }
		event := func(kind, id string) string {
			return `{"events": [{"client_id": "` + id + `", "event": "` + kind + `", "time": 1}]}`
		}
		here := func(id string, more bool) string {
			return fmt.Sprintf(`{"snapshot": true, "more": %t, "events": [{"client_id": "%s", "event": "present", "time": 1}]}`, more, id)
		}
		tell(here("unasked", false))
		o := observe(t, c)
		asked(`{"watch":true}`)
		tell(event("joined", "early"))
		tell(here("one", true))
		o.nothing()
		o.stop()
		asked(`{"watch":false}`)
		tell(event("joined", "unwatched"))
		o = observe(t, c)
		asked(`{"watch":true}`)
		tell(here("two", false)) // the end of the first answer
		tell(event("joined", "early"))
		tell(here("three", true))
		tell(here("four", false))
		if e := o.next(crosscomm.PresenceHere, "four"); e.Time.Unix() != 1 {
			t.Errorf("got %v", e.Time)
		}
		o.next(crosscomm.PresenceHere, "three")
		for _, bad := range []string{`"x"`, `{"events": 1}`, `{"events": [{"event": "left"}]}`, `{"events": [{"client_id": "a\u001b", "event": "left"}]}`, `{"events": NaN}`} {
			tell(bad)
		}
		tell(here("unasked", false))
		tell(event("soared", "three"))
		tell(event("joined", "c"))
		server.write(frameOf("evil", "c", "presence", event("left", "four")))
		o.nothing()
		tell(event("timed_out", "three"))
		if e := o.next(crosscomm.PresenceTimedOut, "three"); e.Kind.Online() || e.Time.Unix() != 1 {
			t.Errorf("got %+v", e)
		}
		o.stop()
		asked(`{"watch":false}`)
		first, second := observe(t, c), observe(t, c)
		asked(`{"watch":true}`) // once
		tell(here("five", false))
		first.next(crosscomm.PresenceHere, "five")
		second.next(crosscomm.PresenceHere, "five")
		o.nothing()

		// Who has timed out, or has come back from that, while the link was down.
		tell(`{"events": [{"client_id": "six", "event": "joined"}, {"client_id": "six", "event": "timed_out"}, {"client_id": "seven", "event": "joined"}]}`)
		first.next(crosscomm.PresenceJoined, "six")
		first.next(crosscomm.PresenceTimedOut, "six")
		first.next(crosscomm.PresenceJoined, "seven")
		server.Close()
		server = agreedServer(t, network, c)
		go serve()
		asked(`{"watch":true}`)
		tell(`{"snapshot": true, "events": [{"client_id": "seven", "event": "timed_out"}, {"client_id": "six", "event": "present"}, {"client_id": "eight", "event": "timed_out"}]}`)
		first.next(crosscomm.PresenceLeft, "five")
		first.next(crosscomm.PresenceTimedOut, "eight")
		first.next(crosscomm.PresenceTimedOut, "seven")
		first.next(crosscomm.PresenceBack, "six")
		first.nothing()
		if len(requests)+len(onC) > 0 || !strings.Contains(logs.String(), "who comes and goes is not understood") {
			t.Errorf("there are %d more requests, %d presence frames for listeners; the log has %s", len(requests), len(onC), logs)
		}
		if err := c.Logout(context.Background()); err != nil {
			t.Error(err)
		}
		server.Close()
	})
}

// agreedServer is fakeServer with the answer of a server of ours.
func agreedServer(t *testing.T, network *testkit.Pipes, c *crosscomm.Service) *rawPeer {
	t.Helper()
	return fakeServerWith(t, network, c, `{"status": "success"}`, "crosscomm.v3")
}

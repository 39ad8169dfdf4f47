package crosscomm_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// clientParts are the connections of conversations whose clients' side our client takes.
// The others have something that our client never does.
var clientParts = map[string][]string{
	"plain":           {"robot"},
	"types":           {"desk"},
	"receipts":        {"caller", "robot", "small"},
	"lost-link":       {"caller"},
	"queue-agreed":    {"caller", "robot"},
	"queue-plain":     {"caller"},
	"request":         {"caller", "robot"},
	"request-expired": {"robot"},
	"presence":        {"watcher"},
	"take-over":       {"robot"},
	"tokens":          {"robot with another", "thief"},
	"closed":          {"robot"},
	"busy":            {"robot"},
	"slow":            {"robot"},
	"silent":          {"robot", "phone"},
	"queue-full":      {"caller", "robot"},
	"queue-expired":   {"caller", "robot"},
	"memory-full":     {"caller", "robot"},
}

// Our client, at the other end of what the server brings in a conversation, brings what
// the conversation has: by itself what the protocol asks for, and by its methods the rest.
func TestConversationClient(t *testing.T) {
	played := 0
	for _, c := range conversations(t) {
		for _, who := range clientParts[c.name] {
			played++
			t.Run(c.name+"/"+who, func(t *testing.T) {
				t.Parallel()
				var lines []conversationLine
				for _, l := range c.lines {
					if l.who == who {
						lines = append(lines, l)
					}
				}
				if len(lines) == 0 {
					t.Fatal("it has no lines")
				}
				playServer(t, lines)
			})
		}
	}
	want := 0
	for _, parts := range clientParts {
		want += len(parts)
	}
	if played != want {
		t.Errorf("%d parts of %d were played", played, want)
	}
}

// clientPart is a run of such a part.
type clientPart struct {
	t       *testing.T
	lines   []conversationLine
	values  placeholders
	client  *crosscomm.Service
	shakes  chan handshakeTurn // those that the server shall make
	conns   chan *wireConn     // what comes of them
	login   chan error         // the outcome of a Login; nil when that was looked at
	out     *partCall          // a Logout after which nothing has come
	calls   map[any]*partCall  // by the msg_id as the conversation has it
	listing *partCall          // ListClients
	stop    func()             // of WatchPresence

	conn    *wireConn   // nil while there is none
	tracked int         // frames on it
	reports partReports // what the client has reported on it, and shall have
	lost    bool        // whether it has ended in the middle

	mu       sync.Mutex
	outcomes map[string]partOutcome // of the listeners, by msg_id
	heard    []string               // msg_ids
	presence []any
}

// handshakeTurn is a handshake whose turn has come.
type handshakeTurn struct {
	connecting
	refused int // the status of the answer that refuses it, or 0
}

// partReports are what the received frames of a connection have told, and shall tell.
type partReports struct {
	received, wantReceived float64
	handled, wantHandled   map[float64]bool
	failed, wantFailed     map[string]bool
}

func newReports() partReports {
	return partReports{handled: map[float64]bool{}, wantHandled: map[float64]bool{}, failed: map[string]bool{}, wantFailed: map[string]bool{}}
}

// addReport adds the content of a frame.
func addReport(content any, received *float64, handled map[float64]bool, failed map[string]bool) {
	c, _ := content.(map[string]any)
	highest, _ := c["received"].(float64)
	*received = max(*received, highest)
	pairs, _ := c["handled"].([]any)
	for _, pair := range pairs {
		for n := pair.([]any)[0].(float64); n <= pair.([]any)[1].(float64); n++ {
			handled[n] = true
		}
	}
	failures, _ := c["failed"].([]any)
	for _, f := range failures {
		failed[string(mustJSON(f))] = true
	}
}

// complete reports whether all was reported that shall have been.
func (r *partReports) complete() bool {
	for n := range r.wantHandled {
		if !r.handled[n] {
			return false
		}
	}
	for f := range r.wantFailed {
		if !r.failed[f] {
			return false
		}
	}
	return r.received >= r.wantReceived
}

// playServer plays the server to our client.
func playServer(t *testing.T, lines []conversationLine) {
	p := &clientPart{t: t, lines: lines, values: placeholders{}, shakes: make(chan handshakeTurn), conns: make(chan *wireConn, 1),
		calls: map[any]*partCall{}, outcomes: map[string]partOutcome{}, reports: newReports()}
	web := httptest.NewServer(http.HandlerFunc(p.shakeHands))
	t.Cleanup(func() {
		close(p.shakes)
		web.Close()
	})
	p.start(strings.TrimPrefix(web.URL, "http://"))
	for i, l := range lines {
		if err := p.play(i, l); err != nil {
			t.Fatalf("%v: %v", l, err)
		}
	}
	p.end()
}

// shakeHands answers a handshake when the conversation comes to it.
func (p *clientPart) shakeHands(w http.ResponseWriter, r *http.Request) {
	with, ok := <-p.shakes
	if !ok {
		http.Error(w, "the conversation is over", http.StatusServiceUnavailable)
		return
	}
	for name := range with.header {
		if r.Header.Get(name) != with.header.Get(name) {
			p.t.Errorf("%s is %q", name, r.Header.Get(name))
		}
	}
	if with.refused != 0 {
		http.Error(w, "the conversation has it so", with.refused)
		return
	}
	upgrader := websocket.Upgrader{}
	if with.agreed {
		upgrader.Subprotocols = []string{"crosscomm.v3"}
	}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil || (ws.Subprotocol() == "crosscomm.v3") != with.agreed {
		p.t.Errorf("%v, %v", r.Header, err)
		return
	}
	p.conns <- newWireConn(p.t, ws)
}

// refusal returns the status with which the line behind this one refuses a handshake, 0
// if it does not.
func (p *clientPart) refusal(i int) int {
	if i+1 == len(p.lines) {
		return 0
	}
	status, _ := p.lines[i+1].is("<", "http")
	code, _ := strconv.Atoi(status)
	return code
}

// start makes the client, whose id is that of its first frame.
func (p *clientPart) start(addr string) {
	id := "nobody"
	for _, l := range p.lines {
		if from, ok := l.at("from_client_id").(string); ok && l.way == ">" {
			id = from
			break
		}
	}
	cfg := crosscomm.Config{RetryLogin: true} // else it gives up where others come back
	with, _ := p.lines[0].connects()
	if token, ok := strings.CutPrefix(with.header.Get("Authorization"), "Bearer "); ok {
		cfg.Token = crosscomm.Token(token)
	}
	for _, l := range p.lines {
		if l.way == "<" && l.at("from_client_id") == "server" && l.at("msg_type") == "login_response" {
			if size, ok := l.at("content", "max_message_size").(float64); ok && size != crosscomm.DefaultMaxMessageSize {
				p.t.Fatalf("%v has another size", l)
			}
		}
		if size, ok := l.at("content", "max_message_size").(float64); ok && l.way == ">" {
			cfg.MaxMessageSize = int(size)
		}
	}
	p.client = newClient(p.t, addr, id, cfg)
	for _, kind := range listenedTo(id) {
		p.client.MessageListener(p.listen, crosscomm.ListenerOptions{Type: crosscomm.MsgType(kind)})
	}
}

// play has one line happen. A report of the client may come sooner than others of its
// frames, and tell more or less than the conversation has; in all it must tell the same.
func (p *clientPart) play(i int, l conversationLine) error {
	if with, ok := l.connects(); ok {
		if p.out != nil {
			if err := testkit.Receive(p.t, p.out.done); err != nil {
				return fmt.Errorf("Logout: %v", err)
			}
		}
		if i == 0 || p.out != nil { // else it comes back by itself
			login := make(chan error, 1)
			p.out, p.login = nil, login
			go func() { login <- p.client.Login(testContext(p.t)) }()
		}
		shake := handshakeTurn{with, p.refusal(i)}
		select {
		case p.shakes <- shake:
		case <-time.After(testkit.Patience):
			return errors.New("the client does not come")
		}
		if shake.refused == 0 {
			p.conn = testkit.Receive(p.t, p.conns)
		}
		p.tracked, p.reports, p.lost = 0, newReports(), false
		return nil
	}
	switch {
	case l.way == ":" && l.text == "loses its link":
		p.lost = true
		return p.conn.NetConn().Close()
	case l.way == ":": // our client never fails to read, or to answer pings
		return nil
	case l.way == "<":
		return p.bring(i, l)
	case l.frame == nil:
		return heard(l, p.read("heartbeat"), p.values)
	}
	if err := p.call(i, l); err != nil {
		return err
	}
	if l.at("msg_type") == "report" {
		addReport(l.at("content"), &p.reports.wantReceived, p.reports.wantHandled, p.reports.wantFailed)
		for !p.reports.complete() {
			if e := p.next("heartbeat"); !p.isReport(e) {
				return fmt.Errorf("got %v, want a report", e)
			}
		}
		return nil
	}
	left := "heartbeat"
	if l.at("msg_type") == "heartbeat" {
		left = ""
	}
	return heard(l, p.read(left), p.values)
}

// bring writes what the server brings.
func (p *clientPart) bring(i int, l conversationLine) error {
	if status, ok := l.is("<", "http"); ok {
		if status != fmt.Sprint(http.StatusUnauthorized) {
			return nil // it comes again, or nothing takes the next handshake
		}
		if err := testkit.Receive(p.t, p.login); !errors.Is(err, crosscomm.ErrLoginRejected) {
			return fmt.Errorf("Login: %v", err)
		}
		return nil
	}
	if code, ok := l.is("<", "close"); ok {
		p.lost = true
		if prior := p.lines[i-1]; prior.way == ">" && prior.frame == nil {
			return nil // it is the answer to the client's, which gorilla has written
		}
		if err := p.conn.say(l, p.values); err != nil {
			return err
		}
		if e := p.read("heartbeat"); e.kind != "close" {
			return fmt.Errorf("got %v, want the answer to the close", e)
		}
		p.conn = nil
		if strings.HasPrefix(code, fmt.Sprint(crosscomm.CloseLoginRejected)) {
			if err := testkit.Receive(p.t, p.login); !errors.Is(err, crosscomm.ErrLoginRejected) {
				return fmt.Errorf("Login: %v", err)
			}
		}
		return nil
	}
	if l.frame != nil {
		p.expect(i, l)
	}
	if err := p.conn.say(l, p.values); err != nil {
		return err
	}
	switch login := p.login; {
	case l.at("msg_type") == "login_response" && login != nil:
		p.login = nil
		return testkit.Receive(p.t, login)
	case l.at("msg_type") == "list_clients_response":
		return testkit.Receive(p.t, p.listing.done)
	case l.at("msg_type") == "presence": // if more came meanwhile, it might be told less
		testkit.Eventually(p.t, "it was told", func() bool { return p.wasTold(i) })
	}
	return nil
}

func (p *clientPart) heardSoFar() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard)
}

// next returns what the client brings next that is of another type.
func (p *clientPart) next(but string) wireEvent {
	for {
		e := testkit.Receive(p.t, p.conn.events)
		if but == "" || e.kind != "text" || !strings.Contains(e.data, `"msg_type":"`+but+`"`) {
			return e
		}
	}
}

// isReport takes a report.
func (p *clientPart) isReport(e wireEvent) bool {
	var frame struct {
		Type    string `json:"msg_type"`
		To      string `json:"to_client_id"`
		Content any
	}
	if e.kind != "text" || json.Unmarshal([]byte(e.data), &frame) != nil || frame.Type != "report" || frame.To != "server" {
		return false
	}
	addReport(frame.Content, &p.reports.received, p.reports.handled, p.reports.failed)
	return true
}

// read is next without reports.
func (p *clientPart) read(but string) wireEvent {
	for {
		if e := p.next(but); !p.isReport(e) {
			return e
		}
	}
}

// end logs the client out, and compares what it has done in all.
func (p *clientPart) end() {
	for key, call := range p.calls {
		if err := testkit.Receive(p.t, call.done); !errors.Is(err, call.want) || call.want == nil && err != nil {
			p.t.Errorf("the call for %v returned %v, want %v", key, err, call.want)
		}
	}
	var want []string
	listened := listenedTo(p.client.ClientID())
	for _, l := range p.lines {
		id, _ := p.values.fill(l.at("msg_id")).(string)
		kind, _ := l.at("msg_type").(string)
		if l.way == "<" && slices.Contains(listened, kind) && l.at("headers", "reply_to") == nil && !slices.Contains(want, id) {
			want = append(want, id)
		}
	}
	testkit.Eventually(p.t, "the listeners have heard all", func() bool { return len(p.heardSoFar()) >= len(want) })
	if heard := p.heardSoFar(); !slices.Equal(slices.Sorted(slices.Values(heard)), slices.Sorted(slices.Values(want))) {
		p.t.Errorf("the listeners have heard %q, want %q", heard, want)
	}
	if p.lost || p.conn == nil {
		return
	}
	// Who has come back by himself may have reported before he knows that he is there, and
	// says no goodbye until then.
	testkit.Eventually(p.t, "the client is connected", p.client.IsConnected)
	if err := p.client.Logout(testContext(p.t)); err != nil {
		p.t.Error(err)
	}
	for _, kind := range []string{"logout", "close"} {
		if e := p.read("heartbeat"); e.kind != kind && !strings.Contains(e.data, `"msg_type":"`+kind+`"`) {
			p.t.Errorf("it has brought more than the conversation has: %v", e)
		}
	}
	if r := p.reports; r.received != r.wantReceived || !reflect.DeepEqual(r.handled, r.wantHandled) || !reflect.DeepEqual(r.failed, r.wantFailed) {
		p.t.Errorf("in all it has reported %+v", r)
	}
}

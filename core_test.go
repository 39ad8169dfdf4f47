package crosscomm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

func TestEveryType(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	onServer := collect(server.Service, crosscomm.ListenerOptions{})
	a, b := login(t, server.addr, "a"), login(t, server.addr, "b")
	onB := collect(b, crosscomm.ListenerOptions{})
	onA := collect(a, crosscomm.ListenerOptions{})
	ctx := testContext(t)

	for _, tc := range []struct {
		content any
		typ     crosscomm.MsgType
		check   func(m *crosscomm.Message) any
		want    any
	}{
		{"hello", crosscomm.TypeText, func(m *crosscomm.Message) any { return m.Text() }, "hello"},
		{"你好 \x00\n\"\\😀", crosscomm.TypeText, func(m *crosscomm.Message) any { return m.Text() }, "你好 \x00\n\"\\😀"},
		{42, crosscomm.TypeText, func(m *crosscomm.Message) any { return m.Text() }, "42"},
		{[]byte("abc"), crosscomm.TypeText, func(m *crosscomm.Message) any { return m.Text() }, "abc"},
		{`{"a": 1}`, crosscomm.TypeJSON, func(m *crosscomm.Message) any { return m.Text() }, `{"a": 1}`},
		{map[string]int{"a": 1}, crosscomm.TypeJSON, func(m *crosscomm.Message) any { return m.Text() }, `{"a":1}`},
		{map[string]any{"a": []int{1}}, crosscomm.TypeDict, func(m *crosscomm.Message) any { return string(m.Content) }, `{"a":[1]}`},
		{map[string]float64{"x": math.Inf(-1)}, crosscomm.TypeDict, func(m *crosscomm.Message) any {
			var v map[string]float64
			if err := m.Decode(&v); err != nil {
				return err
			}
			return v["x"]
		}, math.Inf(-1)},
		{[]byte{0, 1, 255}, crosscomm.TypeBytes, func(m *crosscomm.Message) any { b, err := m.Bytes(); return fmt.Sprint(b, err) }, "[0 1 255] <nil>"},
		{"AAH/", crosscomm.TypeBytes, func(m *crosscomm.Message) any { b, err := m.Bytes(); return fmt.Sprint(b, err) }, "[0 1 255] <nil>"},
	} {
		for _, to := range []string{crosscomm.All, "b"} {
			before := time.Now()
			if err := a.SendMessage(ctx, tc.content, tc.typ, to); err != nil {
				t.Fatalf("%v as %s: %v", tc.content, tc.typ, err)
			}
			m := testkit.Receive(t, onB)
			if got := tc.check(m); got != tc.want {
				t.Errorf("%v as %s: got %v, want %v", tc.content, tc.typ, got, tc.want)
			}
			if m.FromClientID != "a" || m.ToClientID != to || m.MsgType != tc.typ || m.OSSKey != "" || !regexp.MustCompile(`^a_\d{13}_[0-9a-f]{8}$`).MatchString(m.MsgID) {
				t.Errorf("got %+v", m)
			}
			if d := m.Time().Sub(before); d < -time.Second || d > time.Minute {
				t.Errorf("timestamp is %v", m.Time())
			}
		}
		testkit.Receive(t, onServer) // once, for "all"
	}
	if len(onServer) != 0 || len(onA) != 0 {
		t.Errorf("%d messages too many on the server, %d on the sender", len(onServer), len(onA))
	}
}

func TestServerSendsAndListens(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	onServer := collect(server.Service, crosscomm.ListenerOptions{From: "a", Type: crosscomm.TypeText})
	a, b := login(t, server.addr, "a"), login(t, server.addr, "b")
	onA, onB := collect(a, crosscomm.ListenerOptions{From: crosscomm.ServerID}), collect(b, crosscomm.ListenerOptions{})
	ctx := testContext(t)

	for _, err := range []error{
		b.SendMessage(ctx, "not from a", crosscomm.TypeText, crosscomm.ServerID),
		a.SendMessage(ctx, "{}", crosscomm.TypeJSON, crosscomm.ServerID),
		a.SendMessage(ctx, "for the server", crosscomm.TypeText, crosscomm.ServerID),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if m := testkit.Receive(t, onServer); m.Text() != "for the server" {
		t.Errorf("the server's listener got %+v", m)
	}
	if err := server.SendMessage(ctx, "for a", crosscomm.TypeText, "a"); err != nil {
		t.Fatal(err)
	}
	if err := server.SendMessage(ctx, []int{1}, crosscomm.TypeDict, crosscomm.All); err != nil {
		t.Fatal(err)
	}
	if m := testkit.Receive(t, onA); m.Text() != "for a" || m.FromClientID != "server" {
		t.Errorf("a got %+v", m)
	}
	testkit.Receive(t, onA)
	if m := testkit.Receive(t, onB); string(m.Content) != "[1]" {
		t.Errorf("b got %+v", m)
	}
	if err := server.SendMessage(ctx, "x", crosscomm.TypeText, "nobody"); !errors.Is(err, crosscomm.ErrOffline) {
		t.Errorf("to nobody: %v", err)
	}
}

func TestSendErrors(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	a := login(t, server.addr, "a")
	ctx := testContext(t)
	cyclic := map[string]any{}
	cyclic["self"] = cyclic
	for name, tc := range map[string]struct {
		content any
		typ     crosscomm.MsgType
		to      string
		want    error
	}{
		"nil text":           {nil, crosscomm.TypeText, "b", crosscomm.ErrContent},
		"text of bad UTF-8":  {"\xff", crosscomm.TypeText, "b", crosscomm.ErrContent},
		"empty JSON":         {"", crosscomm.TypeJSON, "b", crosscomm.ErrContent},
		"JSON with a tail":   {"{} x", crosscomm.TypeJSON, "b", crosscomm.ErrContent},
		"channel in a dict":  {map[string]any{"c": make(chan int)}, crosscomm.TypeDict, "b", crosscomm.ErrContent},
		"cycle":              {cyclic, crosscomm.TypeDict, "b", crosscomm.ErrContent},
		"bytes of an int":    {5, crosscomm.TypeBytes, "b", crosscomm.ErrContent},
		"protocol type":      {"x", crosscomm.TypeLogin, "b", crosscomm.ErrContent},
		"unknown type":       {"x", "TEXT", "b", crosscomm.ErrContent},
		"no receiver":        {"x", crosscomm.TypeText, "", crosscomm.ErrReceiver},
		"receiver with line": {"x", crosscomm.TypeText, "a\nb", crosscomm.ErrReceiver},
		"too large":          {strings.Repeat("x", 1<<20), crosscomm.TypeText, "b", crosscomm.ErrTooLarge},
		"file":               {"/etc/hosts", crosscomm.TypeFile, "b", crosscomm.ErrNoObjectStore},
		"too deep":           {json.RawMessage(strings.Repeat("[", 2000) + strings.Repeat("]", 2000)), crosscomm.TypeDict, "b", crosscomm.ErrContent},
	} {
		if err := a.SendMessage(ctx, tc.content, tc.typ, tc.to); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
	if n := server.Stats().Received; n > 2 { // the login and the first heartbeat
		t.Errorf("the server received %d frames", n)
	}
	if err := a.StartServer(ctx); !errors.Is(err, crosscomm.ErrRole) {
		t.Errorf("StartServer of a client: %v", err)
	}
	if err := server.Login(ctx); !errors.Is(err, crosscomm.ErrRole) {
		t.Errorf("Login of a server: %v", err)
	}
	if _, err := server.ListClients(ctx, true); !errors.Is(err, crosscomm.ErrRole) {
		t.Errorf("ListClients of a server: %v", err)
	}
	b := newClient(t, server.addr, "b", crosscomm.Config{})
	if err := b.SendMessage(ctx, "x", crosscomm.TypeText, "a"); !errors.Is(err, crosscomm.ErrNotConnected) {
		t.Errorf("before login: %v", err)
	}
	if err := b.Login(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.Logout(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.SendMessage(ctx, "x", crosscomm.TypeText, "a"); !errors.Is(err, crosscomm.ErrNotConnected) {
		t.Errorf("after logout: %v", err)
	}
}

// The largest message that passes, and the next larger one, for the frame as a
// whole.
func TestSizeLimit(t *testing.T) {
	server := startServer(t, crosscomm.Config{MaxMessageSize: 1000})
	a, b := loginRaw(t, server.addr, "a"), loginRaw(t, server.addr, "b")
	overhead := len(frameOf("a", "b", "text", `""`))
	fits := frameOf("a", "b", "text", `"`+strings.Repeat("x", 1000-overhead)+`"`)
	a.write(fits)
	if got := b.read(); got != fits {
		t.Errorf("got %d bytes", len(got))
	}
	a.write(fits + " ")
	a.closedWith(websocket.CloseMessageTooBig, "")
	// Compressed it is small enough on the wire, and must be refused all the
	// same.
	dialer := websocket.Dialer{EnableCompression: true}
	deflating := startServer(t, crosscomm.Config{MaxMessageSize: 1000, Compression: true})
	conn, resp, err := dialer.Dial(deflating.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if !strings.Contains(resp.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate") {
		t.Error("deflate was not agreed")
	}
	c := &rawPeer{Conn: conn, t: t}
	c.write(frameOf("c", "server", "login", "{}"))
	c.read()
	c.write(fits + " ")
	c.closedWith(websocket.CloseMessageTooBig, "")
}

func TestListClients(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	a := login(t, server.addr, "a")
	b := login(t, server.addr, "b")
	ctx := testContext(t)
	if err := b.Logout(ctx); err != nil {
		t.Fatal(err)
	}
	online, err := a.ListClients(ctx, true)
	if err != nil {
		t.Fatal(err)
	}
	if len(online.Clients) != 1 || online.TotalCount != 1 || !online.OnlyShowOnline || online.Clients[0].ClientID != "a" || !online.Clients[0].Online {
		t.Errorf("online: %+v", online)
	}
	all, err := a.ListClients(context.Background(), false)
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Clients) != 2 || all.Clients[1].ClientID != "b" || all.Clients[1].Online || all.Clients[1].LoginTime.IsZero() {
		t.Errorf("all: %+v", all)
	}
	if got := server.GetOnlineClients(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("GetOnlineClients: %v", got)
	}
	if got := server.Clients(); len(got) != 2 || got[1].Online {
		t.Errorf("Clients: %+v", got)
	}

	raw := loginRaw(t, server.addr, "raw")
	for content, only := range map[string]bool{
		`"{\"only_show_online\": true}"`: true, `{"only_show_online": true}`: true,
		`"nonsense"`: false, `null`: false, `5`: false, `"{\"only_show_online\": false}"`: false,
	} {
		raw.write(frameOf("raw", "server", "list_clients", content))
		var response struct {
			Type    string `json:"msg_type"`
			Content string
		}
		if err := json.Unmarshal([]byte(raw.read()), &response); err != nil {
			t.Fatalf("%s: %v", content, err)
		}
		var list map[string]any
		if err := json.Unmarshal([]byte(response.Content), &list); err != nil || list["only_show_online"] != only {
			t.Errorf("%s: %s, %v", content, response.Content, err)
		}
	}
}

// Concurrent calls get each the answer to its own request, although the
// answers carry no id.
func TestListClientsConcurrently(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	a := login(t, server.addr, "a")
	login(t, server.addr, "b")
	errs := make(chan error, 100)
	for i := range cap(errs) {
		go func() {
			only := i%2 == 0
			list, err := a.ListClients(context.Background(), only)
			if err == nil && (list.OnlyShowOnline != only || list.TotalCount != 2) {
				err = fmt.Errorf("asked for %v, got %+v", only, list)
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := testkit.Receive(t, errs); err != nil {
			t.Error(err)
		}
	}
}

// A listener that blocks holds up neither reading nor other listeners, and may
// use the service; one that panics or fails changes nothing.
func TestListenersDoNotHoldUpOthers(t *testing.T) {
	logs := new(logBuffer)
	server := startServer(t, crosscomm.Config{})
	a := login(t, server.addr, "a")
	b := newClient(t, server.addr, "b", crosscomm.Config{Logger: logs.logger()})
	release := make(chan struct{})
	var blocked []string
	done := make(chan struct{})
	b.MessageListener(func(ctx context.Context, m *crosscomm.Message) error {
		<-release
		if list, err := b.ListClients(ctx, true); err != nil || list.TotalCount != 2 {
			t.Errorf("ListClients in a listener: %+v, %v", list, err)
		}
		if err := b.SendMessage(ctx, "got "+m.Text(), crosscomm.TypeText, "a"); err != nil {
			t.Errorf("SendMessage in a listener: %v", err)
		}
		if blocked = append(blocked, m.Text()); len(blocked) == 10 {
			close(done)
		}
		return nil
	}, crosscomm.ListenerOptions{})
	b.MessageListener(func(context.Context, *crosscomm.Message) error { panic("oh dear") }, crosscomm.ListenerOptions{})
	b.MessageListener(func(context.Context, *crosscomm.Message) error { return errors.New("no use") }, crosscomm.ListenerOptions{})
	free := collect(b, crosscomm.ListenerOptions{})
	onA := collect(a, crosscomm.ListenerOptions{})
	ctx := testContext(t)
	if err := b.Login(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := a.SendMessage(ctx, fmt.Sprint(i), crosscomm.TypeText, "b"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		if m := testkit.Receive(t, free); m.Text() != fmt.Sprint(i) {
			t.Errorf("message %d is %q", i, m.Text())
		}
	}
	close(release)
	testkit.Receive(t, done)
	for i := range 10 {
		if m := testkit.Receive(t, onA); blocked[i] != fmt.Sprint(i) || m.Text() != fmt.Sprint("got ", i) {
			t.Errorf("%d: the listener got %q, the answer is %q", i, blocked[i], m.Text())
		}
	}
	testkit.Eventually(t, "failures are logged", func() bool {
		return strings.Count(logs.String(), "oh dear") >= 10 && strings.Count(logs.String(), "no use") >= 10
	})
}

func TestRemoveListener(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	a, b := login(t, server.addr, "a"), login(t, server.addr, "b")
	ctx := testContext(t)
	calls := make(chan string, 10)
	remove := b.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		calls <- m.Text()
		return nil
	}, crosscomm.ListenerOptions{})
	other := collect(b, crosscomm.ListenerOptions{})
	send := func(text string) {
		if err := a.SendMessage(ctx, text, crosscomm.TypeText, "b"); err != nil {
			t.Fatal(err)
		}
		testkit.Receive(t, other)
	}
	send("one")
	testkit.Receive(t, calls)
	remove()
	remove() // does nothing
	send("two")
	if len(calls) != 0 {
		t.Error("a removed listener was called")
	}
}

// The login response reaches only a listener that asks for it, and what another
// client claims to be one is none.
func TestProtocolMessagesAndListeners(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	c := newClient(t, server.addr, "c", crosscomm.Config{})
	all := collect(c, crosscomm.ListenerOptions{})
	responses := collect(c, crosscomm.ListenerOptions{Type: crosscomm.TypeLoginResponse})
	if err := c.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if m := testkit.Receive(t, responses); m.FromClientID != "server" || !strings.HasPrefix(string(m.Content), `{"status":"success"`) {
		t.Errorf("got %+v", m)
	}
	evil := loginRaw(t, server.addr, "evil")
	evil.write(frameOf("evil", "c", "list_clients_response", `"{}"`))
	evil.write(frameOf("evil", "c", "text", `"after"`))
	if m := testkit.Receive(t, all); m.Text() != "after" {
		t.Errorf("got %+v", m)
	}
}

func TestLogoutFromListener(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	a, b := login(t, server.addr, "a"), login(t, server.addr, "b")
	done := make(chan error, 1)
	b.MessageListener(func(context.Context, *crosscomm.Message) error {
		done <- b.Logout(context.Background())
		return nil
	}, crosscomm.ListenerOptions{})
	if err := a.SendMessage(testContext(t), "quit", crosscomm.TypeText, "b"); err != nil {
		t.Fatal(err)
	}
	if err := testkit.Receive(t, done); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "b is offline", func() bool { return slices.Equal(server.GetOnlineClients(), []string{"a"}) })
}

package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// Reports that make no sense do no harm.
func TestHostileReports(t *testing.T) {
	server := startServer(t, dirConfig(t))
	sender, receiver := login(t, server.addr, "sender"), agreedPeer(t, server.addr, "receiver")
	report := func(content string) { receiver.write(frameOf("receiver", "server", "report", content)) }
	junk := []string{
		`{"received": 18446744073709551615, "handled": [[0, 18446744073709551615], [5, 1], [18446744073709551615, 18446744073709551615]]}`,
		`{"received": -1}`, `[]`, `"x"`, `{"handled": [[1]]}`, `{"failed": [{"number": 0, "error": "offline"}]}`, `{"failed": [{"number": "x"}]}`, `{"failed": [[1, "x", "y"]]}`, `{"failed": [[]]}`, `{"failed": [null]}`,
	}
	heard := collect(sender, crosscomm.ListenerOptions{})
	reportAll := func() { // and waits until the server has them
		for _, content := range junk {
			report(content)
		}
		receiver.write(frameOf("receiver", "sender", "text", `"done"`))
		testkit.Receive(t, heard)
	}
	reportAll()
	told := make(chan error, 1)
	go func() {
		told <- sender.SendMessage(context.Background(), "x", crosscomm.TypeText, "receiver", crosscomm.Handled)
	}()
	receiver.readType("text")
	report(`{"received": 1}`)
	report(`{"failed": [{"number": 1, "error": "listener_error", "reason": "` + strings.Repeat("é", 2000) + `"}]}`)
	err := <-told
	if !errors.Is(err, crosscomm.ErrListener) || len(err.Error()) > 1000 {
		t.Error(err)
	}
	reportAll()
	go func() {
		told <- sender.SendMessage(context.Background(), "y", crosscomm.TypeText, "receiver", crosscomm.Handled)
	}()
	receiver.readType("text")
	report(`{"received": 18446744073709551615, "handled": [[0, 18446744073709551615]]}`)
	if err := <-told; err != nil {
		t.Error(err)
	}
}

// A sender that takes only short messages is told of failures without their reasons.
func TestReceiptsOfShortMessages(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	receiver := agreedPeer(t, server.addr, "receiver")
	dialer := websocket.Dialer{Subprotocols: []string{"crosscomm.v3"}}
	conn, _, err := dialer.DialContext(testContext(t), server.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	sender := &rawPeer{Conn: conn, t: t}
	sender.write(frameOf("sender", "server", "login", `{"max_message_size": 512}`))
	for i := range 3 {
		sender.write(tracked("sender", "receiver", fmt.Sprint("id", i), "x", "handled"))
		receiver.readType("text")
	}
	var failed []string
	for i := range 3 {
		failed = append(failed, fmt.Sprintf(`{"number": %d, "error": "listener_error", "reason": "%s"}`, i+1, strings.Repeat("x", 500)))
	}
	receiver.write(frameOf("receiver", "server", "report", `{"received": 3, "failed": [`+strings.Join(failed, ",")+`]}`))
	for told := 0; told < 3; {
		got := sender.readType("receipt")
		if len(got) > 512 {
			t.Errorf("it gets %d bytes", len(got))
		}
		told += strings.Count(got, `"listener_error"`)
	}
}

// A report that tells the same again and again costs no more than another one of its size.
func TestRepetitiveReport(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	filler, slow := agreedPeer(t, server.addr, "filler"), agreedPeer(t, server.addr, "slow")
	go filler.discard()
	for i := range 10_000 {
		filler.write(tracked("filler", "slow", fmt.Sprint("id", i), fmt.Sprint(i), "accepted"))
	}
	for range 10_000 {
		slow.readType("text")
	}
	began := time.Now()
	slow.write(frameOf("slow", "server", "report", `{"received":10000,"handled":[[2,10000]`+strings.Repeat(`,[2,10000]`, 90_000)+`]}`))
	slow.write(frameOf("slow", "slow", "text", `"done"`))
	slow.readType("text")
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}

// What is wrong with a message that wants a receipt is refused, and the connection stays.
func TestBadHeaders(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	sender := agreedPeer(t, server.addr, "sender")
	receiver := agreedPeer(t, server.addr, "receiver")
	for _, headers := range []string{`{"delivery": "soon"}`, `{"delivery": 1}`, `{"delivery": null}`, `{"request": "yes"}`, `{"reply_to": 1}`, `{"timeout_ms": "x"}`, `{"x": NaN}`} {
		sender.write(strings.Replace(frameOf("sender", "receiver", "text", `"bad"`), `null}`, `null, "headers": `+headers+`}`, 1))
	}
	sender.write(strings.Replace(tracked("sender", "receiver", "x", "bad", "handled"), `"x"`, `5`, 1))
	sender.write(strings.Replace(tracked("sender", "receiver", "x", "bad", "handled"), `"x"`, `"`+strings.Repeat("x", 600)+`"`, 1))
	plain := loginRaw(t, server.addr, "plain")
	plain.write(tracked("plain", "receiver", "x", "bad", "handled"))
	// Names count as they are written, and unknown ones pass.
	sender.write(strings.Replace(frameOf("sender", "receiver", "text", `"good"`), `null}`, `null, "headers": {"Delivery": 1, "x": {}}}`, 1))
	if got := receiver.readType("text"); !strings.Contains(got, `"good"`) || !strings.Contains(got, `"headers": {"Delivery": 1, "x": {}}`) {
		t.Errorf("got %s", got)
	}
	testkit.Eventually(t, "ten are refused", func() bool { return server.Stats().Refused == 10 })
	// And are cut off for a plain receiver, alone and among others.
	for _, to := range []string{"plain", "all"} {
		sender.write(strings.Replace(frameOf("sender", to, "text", `"good"`), `null}`, `null, "headers": {"x": {}}}`, 1))
		if got := plain.readType("text"); got != frameOf("sender", to, "text", `"good"`) {
			t.Errorf("got %s", got)
		}
	}
}

// A message that has waited is what it would have been without: one that asks for no
// receipt is no reply and no request.
func TestHeadersOfWhatWaited(t *testing.T) {
	cfg := dirConfig(t)
	cfg.Queues.Clients = []string{"away", "plain"}
	server := startServer(t, cfg)
	sender := agreedPeer(t, server.addr, "sender")
	send := func(to, text, headers string) {
		sender.write(strings.Replace(frameOf("sender", to, "text", `"`+text+`"`), `null}`, `null, "headers": `+headers+`}`, 1))
	}
	for _, to := range []string{"away", "plain"} {
		send(to, "one", `{"reply_to": "x"}`)
		send(to, "two", `{"request": true, "timeout_ms": 1}`)
		send(to, "three", `{"x": 1}`)
	}
	testkit.Eventually(t, "all wait", func() bool { return server.Stats().Kept == 6 })
	away := newClient(t, server.addr, "away", crosscomm.Config{})
	got := collect(away, crosscomm.ListenerOptions{})
	if err := away.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	plain := loginRaw(t, server.addr, "plain")
	for _, want := range []string{"one", "two", "three"} {
		if m := testkit.Receive(t, got); m.Text() != want || m.IsRequest() {
			t.Errorf("got %s, want %s; is a request: %v", m.Text(), want, m.IsRequest())
		}
		if text := plain.readType("text"); !strings.Contains(text, want) {
			t.Errorf("got %s, want %s", text, want)
		}
	}
}

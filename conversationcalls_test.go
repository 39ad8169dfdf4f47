package crosscomm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

// What an application of our client does in a conversation: the calls that have it bring
// what the conversation has, and the listeners.

// partCall is a call of a method that sends, and what it is to return.
type partCall struct {
	cancel context.CancelFunc
	done   chan error
	want   error
}

// call calls the method that has the client bring the line's frame, if that is not what
// it does by itself.
func (p *clientPart) call(i int, l conversationLine) error {
	kind, _ := l.at("msg_type").(string)
	to, _ := l.at("to_client_id").(string)
	ctx, cancel := context.WithCancel(context.Background()) // a deadline would be in a request
	p.t.Cleanup(cancel)
	call := &partCall{cancel: cancel, done: make(chan error, 1)}
	run := func(f func() error) { go func() { call.done <- f() }() }
	content := contentOf(l)
	switch {
	case kind == "login", kind == "report", kind == "heartbeat", p.calls[l.at("msg_id")] != nil, l.at("headers", "reply_to") != nil:
		return nil
	case kind == "logout":
		run(func() error { return p.client.Logout(ctx) })
		p.out = call
		return nil
	case kind == "list_clients":
		only, _ := l.at("content", "$json", "only_show_online").(bool)
		run(func() error { return p.list(ctx, only) })
		p.listing = call
		return nil
	case kind == "presence_watch" && l.at("content", "watch") == true:
		stop, err := p.client.WatchPresence(p.told, crosscomm.PresenceOptions{})
		p.stop = stop
		return err
	case kind == "presence_watch":
		p.stop()
		return nil
	case kind == "cancel":
		asked := p.calls[l.at("content", "msg_id")]
		asked.want = context.Canceled
		asked.cancel()
		return nil
	case l.at("headers", "request") == true:
		if l.at("headers", "timeout_ms") != nil {
			ctx, cancel = context.WithTimeout(ctx, time.Minute)
			p.t.Cleanup(cancel)
		}
		run(func() error {
			_, err := p.client.Request(ctx, content, crosscomm.MsgType(kind), to)
			return err
		})
	case l.at("headers", "delivery") != nil:
		stage := map[any]crosscomm.Stage{"accepted": crosscomm.Accepted, "written": crosscomm.Written, "handled": crosscomm.Handled}[l.at("headers", "delivery")]
		run(func() error {
			_, err := p.client.Deliver(ctx, content, crosscomm.MsgType(kind), to, stage)
			return err
		})
	default:
		run(func() error { return p.client.SendMessage(ctx, content, crosscomm.MsgType(kind), to) })
	}
	call.want = p.failureOf(i, l.at("msg_id"))
	key := l.at("msg_id")
	if key == "$any" {
		key = i
	}
	p.calls[key] = call
	return nil
}

// failureOf returns the error that the lines that follow have for a message, nil for none.
func (p *clientPart) failureOf(i int, msgID any) error {
	for _, l := range p.lines[i+1:] {
		failures, _ := l.at("content", "failed").([]any)
		for _, f := range failures {
			if f, _ := f.(map[string]any); f["msg_id"] == msgID {
				return map[any]error{
					"unknown_client": crosscomm.ErrUnknownClient, "offline": crosscomm.ErrOffline, "too_large": crosscomm.ErrTooLarge, "expired": crosscomm.ErrExpired, "queue_full": crosscomm.ErrQueueFull,
					"no_listener": crosscomm.ErrNoListener, "listener_error": crosscomm.ErrListener, "no_reply": crosscomm.ErrNoReply,
				}[f["error"]]
			}
		}
	}
	return nil
}

// list asks for the clients, and compares them with what the conversation tells.
func (p *clientPart) list(ctx context.Context, only bool) error {
	list, err := p.client.ListClients(ctx, only)
	if err != nil {
		return err
	}
	for _, l := range p.lines {
		if clients, ok := l.at("content", "$json", "clients").([]any); ok && len(clients) == len(list.Clients) && list.TotalCount == len(clients) {
			return nil
		}
	}
	return fmt.Errorf("got %+v", list)
}

func (p *clientPart) told(e crosscomm.PresenceEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.presence = append(p.presence, []any{e.ClientID, string(e.Kind)})
}

// wasTold reports whether the presence was told that the conversation has up to a line,
// but the client's own.
func (p *clientPart) wasTold(i int) bool {
	var want []any
	for _, l := range p.lines[:i+1] {
		events, _ := l.at("content", "events").([]any)
		for _, e := range events {
			if e := e.(map[string]any); e["client_id"] != p.client.ClientID() {
				want = append(want, []any{e["client_id"], e["event"]})
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return reflect.DeepEqual(p.presence, want)
}

// contentOf returns what to send for the content of a line's frame.
func contentOf(l conversationLine) any {
	if text, ok := l.at("content").(string); ok {
		return text
	}
	return json.RawMessage(mustJSON(l.at("content")))
}

// partOutcome is what a listener makes of a message.
type partOutcome struct {
	reply  any    // the frame of one, or nil
	reason string // of a failure
	waits  bool   // until nobody waits for the reply
}

// expect says what the listeners make of a frame, as the lines that follow have it.
func (p *clientPart) expect(i int, l conversationLine) {
	if l.at("headers", "delivery") == nil {
		return
	}
	p.tracked++
	var what partOutcome
	for _, after := range p.lines[i+1:] {
		if _, ok := after.connects(); ok {
			break
		}
		switch {
		case after.at("headers", "reply_to") == l.at("msg_id"):
			what.reply = after.frame
		case after.at("msg_type") == "cancel" && after.at("content", "msg_id") == l.at("msg_id"):
			what.waits = true
		case after.at("msg_type") == "report":
			failures, _ := after.at("content", "failed").([]any)
			for _, f := range failures {
				if f := f.(map[string]any); f["number"] == float64(p.tracked) {
					what.reason = f["reason"].(string)
					what.waits = what.waits || f["error"] == "expired"
				}
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	id, _ := p.values.fill(l.at("msg_id")).(string)
	p.outcomes[id] = what
}

// listenedTo are the types that a client has listeners for.
func listenedTo(id string) []string {
	switch id {
	case "small":
		return nil
	case "desk":
		return []string{"text", "json", "dict", "bytes", "image", "file", "folder"}
	}
	return []string{"text", "dict"}
}

func (p *clientPart) listen(ctx context.Context, m *crosscomm.Message) error {
	p.mu.Lock()
	p.heard = append(p.heard, m.MsgID)
	what := p.outcomes[m.MsgID]
	p.mu.Unlock()
	if what.waits {
		<-ctx.Done()
	}
	switch {
	case what.reply != nil:
		reply := conversationLine{frame: what.reply}
		return m.Reply(ctx, contentOf(reply), crosscomm.MsgType(reply.at("msg_type").(string)))
	case what.reason != "":
		return errors.New(what.reason)
	}
	return nil
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// printer prints whole lines; it may be used concurrently. After an error it
// prints nothing more.
type printer struct {
	w      io.Writer
	failed func(error) // is told of the error, if not nil

	mu  sync.Mutex
	err error
}

func (p *printer) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return
	}
	if _, err := fmt.Fprintf(p.w, format+"\n", args...); err != nil {
		p.err = fmt.Errorf("standard output: %w", err)
		if p.failed != nil {
			p.failed(p.err)
		}
	}
}

// event prints {"event": name, …} with the pairs of keys and strings.
func (p *printer) event(name string, pairs ...string) {
	var b strings.Builder
	fmt.Fprintf(&b, `{"event": %s`, quote(name))
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(&b, `, %s: %s`, quote(pairs[i]), quote(pairs[i+1]))
	}
	p.line("%s}", b.String())
}

// presence prints the event of a client that has come or gone.
func (p *printer) presence(e crosscomm.PresenceEvent) {
	p.line(`{"event": %s, "client_id": %s, "time": %s}`, quote(string(e.Kind)), quote(e.ClientID), strconv.FormatFloat(float64(e.Time.UnixMicro())/1e6, 'f', -1, 64))
}

// progress prints the event of a transfer.
func (p *printer) progress(now crosscomm.Progress) {
	failure := ""
	if now.Err != nil {
		failure = ", \"error\": " + quote(now.Err.Error())
	}
	p.line(`{"event": "progress", "op": %s, "key": %s, "path": %s, "bytes": %d, "total": %d, "file": %d, "files": %d, "done": %t%s}`,
		quote(string(now.Op)), quote(now.Key), quote(now.Path), now.Bytes, now.Total, now.FilesDone, now.Files, now.Done, failure)
}

// message prints the event of a message: its seven keys, with the values as
// they came, and what became of its file.
func (p *printer) message(m *crosscomm.Message) {
	f, err := frame.Scan(m.Frame())
	if err != nil {
		panic(err) // a Message given to a listener has a frame
	}
	line := []byte(`{"event": "message"`)
	for _, pair := range []struct {
		key   string
		value []byte
	}{
		{frame.KeyMsgID, f.MsgID},
		{frame.KeyFrom, []byte(quote(m.FromClientID))},
		{frame.KeyTo, []byte(quote(m.ToClientID))},
		{frame.KeyType, []byte(quote(string(m.MsgType)))},
		{frame.KeyContent, f.Content},
		{frame.KeyTimestamp, f.Timestamp},
		{frame.KeyOSSKey, f.OSSKey},
	} {
		if pair.value == nil { // Swift leaves out an oss_key that is null
			pair.value = []byte("null")
		}
		line = fmt.Appendf(line, `, "%s": `, pair.key)
		line = frame.AppendCompact(line, pair.value)
	}
	if m.Path() != "" {
		line = fmt.Appendf(line, `, "path": %s`, quote(m.Path()))
	}
	if m.Err() != nil {
		line = fmt.Appendf(line, `, "error": %s`, quote(m.Err().Error()))
	}
	p.line("%s}", line)
}

// receipt prints the event of a message that was sent, or was not.
func (p *printer) receipt(r crosscomm.Receipt, content string, toAll bool, err error) {
	event, more := r.Reached.String(), ""
	if toAll {
		more = fmt.Sprintf(`, "receivers": %d, "accepted": %d, "written": %d, "handled": %d, "failed": %d`, r.Receivers, r.Accepted, r.Written, r.Handled, r.Failed)
	}
	if err != nil {
		event, more = "failed", more+`, "error": `+quote(err.Error())
	}
	p.line(`{"event": %s, "msg_id": %s, "content": %s%s}`, quote(event), quote(r.MsgID), quote(content), more)
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string can always be written
	}
	return string(b)
}

// describe is a message for people, on a line.
func describe(m *crosscomm.Message) string {
	text := m.Text()
	if m.MsgType == crosscomm.TypeBytes {
		if b, err := m.Bytes(); err == nil {
			text = fmt.Sprintf("%d bytes: %.32x", len(b), b)
			if len(b) > 32 {
				text += "…"
			}
		}
	}
	switch {
	case m.Path() != "":
		text += ", saved as " + m.Path()
	case m.Err() != nil:
		text += ", not saved: " + m.Err().Error()
	case m.OSSKey != "": // for crosscomm download
		text += ", key " + m.OSSKey
	}
	return fmt.Sprintf("%s  %s → %s  %s: %s", m.Time().Local().Format("15:04:05"), printable(m.FromClientID), printable(m.ToClientID), m.MsgType, printable(text))
}

// printable keeps what comes from the network from steering the terminal.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) || r == '\t' {
			b.WriteRune(r)
		} else {
			q := fmt.Sprintf("%q", r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// readLoop returns when reading is over: the peer closed, the socket broke, or
// the peer broke the rules, in which case it was told so.
func (l *Link) readLoop(handle func(data []byte, text bool) bool) error {
	// This limit is for the bytes on the wire, and readMessage's for what they
	// inflate to; deflate may add a little to what it cannot compress.
	l.conn.SetReadLimit(int64(l.opts.MaxMessage) + int64(l.opts.MaxMessage>>8) + 64)
	l.conn.SetPingHandler(func(payload string) error {
		l.mu.Lock()
		if !l.closing.Load() {
			l.pong = &payload
		}
		l.mu.Unlock()
		l.write()
		return nil
	})
	l.conn.SetPongHandler(func(string) error {
		if l.opts.OnPong != nil {
			l.opts.OnPong()
		}
		return nil
	})
	l.conn.SetCloseHandler(func(code int, text string) error {
		answer := code
		if code == websocket.CloseNoStatusReceived {
			answer = websocket.CloseNormalClosure
		}
		l.refuse(&CloseError{Code: code, Reason: text, ByPeer: true}, closeFrame(answer, ""))
		return nil
	})
	for {
		kind, r, err := l.conn.NextReader()
		if err == nil {
			err = l.readMessage(kind, r, handle)
		}
		if err != nil {
			return l.readFailed(err)
		}
	}
}

// beforeWait is called by the reading goroutine before it waits for input.
func (l *Link) beforeWait() {
	l.Flush()
	switch {
	case l.burst == nil:
	case l.burst.partial:
		l.burst.shrink(fewTouched)
	default:
		l.endBurst()
	}
}

// readFailed tells the peer why it is not read any more, if that is its fault,
// and returns the reason.
func (l *Link) readFailed(err error) error {
	l.Flush()
	var network net.Error
	var closed *websocket.CloseError
	var ours *CloseError
	switch {
	case errors.As(err, &network):
		return err
	case errors.As(err, &closed), errors.As(err, &ours), errors.Is(err, io.EOF):
	case errors.Is(err, websocket.ErrReadLimit):
		err = l.tooBig()
	case l.socket.lastWords != nil: // malformed frames
		l.refuse(err, message{op: wsframe.OpClose, framed: true, data: l.socket.lastWords})
	default: // or malformed deflate
		l.refuse(err, closeFrame(websocket.CloseInvalidFramePayloadData, "malformed data"))
	}
	l.mu.Lock()
	l.closeLocked(asCloseError(err))
	drained := l.end.drained
	l.mu.Unlock()
	l.discardInput(drained)
	return err
}

// readMessage reads a message, and has it handled.
func (l *Link) readMessage(kind int, r io.Reader, handle func([]byte, bool) bool) error {
	b := l.beginBurst()
	b.partial = true
	defer b.endMessage()
	data, err := l.readAll(b, r)
	if err != nil {
		return err
	}
	if len(data) > l.opts.MaxMessage {
		return l.tooBig()
	}
	if l.closing.Load() {
		return nil
	}
	text := kind == websocket.TextMessage
	if !handle(data, text) && text && !utf8.Valid(data) {
		end := &CloseError{Code: websocket.CloseInvalidFramePayloadData, Reason: "invalid UTF-8"}
		l.refuse(end, closeFrame(end.Code, end.Reason))
		return end
	}
	return nil
}

// readAll reads a message, of which one too many bytes is the most. It lies in the
// burst if it fits in there.
func (l *Link) readAll(b *burst, r io.Reader) (data []byte, err error) {
	room := b.small[:]
	n := 0
	for {
		if n == len(room) {
			room = b.larger(room, l.opts.MaxMessage+1)
		}
		got, err := r.Read(room[n:min(len(room), l.opts.MaxMessage+1)])
		n += got
		if errors.Is(err, io.EOF) || n > l.opts.MaxMessage {
			return room[:n], nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// tooBig ends the link, and returns why.
func (l *Link) tooBig() error {
	end := &CloseError{Code: websocket.CloseMessageTooBig, Reason: fmt.Sprintf("message over %d bytes", l.opts.MaxMessage)}
	l.refuse(end, closeFrame(end.Code, end.Reason))
	return end
}

// discardInput reads on for a moment after the end of the conversation, of which
// the last is written when drained is closed: see lingerTime.
func (l *Link) discardInput(drained <-chan struct{}) {
	over := time.NewTimer(lingerTime)
	defer over.Stop()
	select {
	case <-drained:
	case <-over.C:
		return
	}
	raw := l.conn.NetConn()
	_ = raw.SetReadDeadline(time.Now().Add(lingerTime))
	if half, ok := raw.(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
		return
	}
	_, _ = io.Copy(io.Discard, raw)
}

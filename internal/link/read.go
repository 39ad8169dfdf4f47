package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
	"unicode/utf8"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// Close codes of RFC 6455 7.4.
const (
	closeNormal      = 1000
	closeProtocol    = 1002
	closeNoStatus    = 1005 // stands for a close frame without a code, and is never sent
	closeInvalidData = 1007
	closeTooBig      = 1009

	closeTryAgainLater = 1013 // registered with IANA
)

// errCutOff is the end of a link whose peer goes without a close frame.
var errCutOff = fmt.Errorf("the connection has ended without a close frame: %w", io.ErrUnexpectedEOF)

// reader reads the frames of a link. It belongs to the reading goroutine.
type reader struct {
	*Link
	handle func(data []byte, text bool) bool

	// Of the message whose parts are coming; op is 0 if there is none.
	op       byte
	deflated bool
	size     int64 // of the parts that have been announced
}

// LimitMessages sets Options.MaxMessage anew, for the messages that come after the one
// that is being handled. Who may call it is who may call NewFrame.
func (l *Link) LimitMessages(bytes int) { l.opts.MaxMessage = bytes }

// readLoop returns when reading is over: the peer closed, the socket broke, or
// the peer broke the rules, in which case it was told so.
func (l *Link) readLoop(handle func(data []byte, text bool) bool) error {
	r := reader{Link: l, handle: handle}
	for {
		h, err := r.readHeader()
		if err == nil {
			err = r.check(h)
		}
		switch {
		case err != nil:
		case h.First&wsframe.Op >= wsframe.OpClose:
			err = r.readControl(h)
		default:
			err = r.readData(h)
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
	case len(l.burst.parts) > 0:
		l.burst.shrink(fewTouched)
	default:
		l.endBurst()
	}
	if l.frames > 0 && l.opts.Throttle != nil {
		pause := l.opts.Throttle(l.frames, l.octets)
		l.frames, l.octets = 0, 0
		l.Pause(pause)
	}
}

// Pause waits, but not longer than until the link is closing. The handle function may
// call it, after a Flush.
func (l *Link) Pause(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.Closing():
	}
}

// readFailed tells the peer why it is not read any more, if that is its fault,
// and returns the reason.
func (l *Link) readFailed(err error) error {
	l.Flush()
	var end *CloseError
	switch {
	case errors.As(err, &end) && !end.ByPeer:
		l.refuse(err, closeFrame(end.Code, end.Reason))
	case end != nil:
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errCutOff
	default:
		return err
	}
	l.mu.Lock()
	l.closeLocked(err)
	drained := l.end.drained
	l.mu.Unlock()
	l.input.release()
	l.endBurst()
	l.discardInput(drained)
	return err
}

// against is the end of a link whose peer breaks the rules of WebSocket.
func against(rule string) error { return &CloseError{Code: closeProtocol, Reason: rule} }

// readHeader reads the header of the next frame.
func (r *reader) readHeader() (wsframe.Header, error) {
	var pieces [wsframe.MaxHeader + wsframe.MaskBytes]byte
	got := 0 // in pieces
	for {
		begin := r.input.left
		if got > 0 {
			begin = pieces[:got+copy(pieces[got:], begin)]
		}
		h, size, err := wsframe.ParseHeader(begin)
		switch {
		case err != nil:
			return h, against(err.Error())
		case size > 0:
			r.input.left = r.input.left[size-got:]
			r.frames++
			r.octets += size + int(min(h.Length, int64(r.opts.MaxMessage))) // a longer one ends the link
			return h, nil
		}
		got += copy(pieces[got:], r.input.left)
		r.input.left = nil
		if err := r.input.fill(); err != nil {
			return h, err
		}
	}
}

// check says what is wrong with a frame.
func (r *reader) check(h wsframe.Header) error {
	op := h.First & wsframe.Op
	begins := op == wsframe.OpText || op == wsframe.OpBinary
	switch {
	case h.First&wsframe.Reserved != 0:
		return against("a reserved bit is set")
	case h.First&wsframe.Deflated != 0 && !r.opts.Deflate:
		return against("a frame is compressed, which was not agreed on")
	case h.First&wsframe.Deflated != 0 && !begins:
		return against("only the first frame of a message may say that it is compressed")
	case h.Masked && r.opts.Client:
		return against("a server's frame is masked")
	case !h.Masked && !r.opts.Client:
		return against("a client's frame is not masked")
	case op >= wsframe.OpClose:
		return checkControl(op, h)
	case op > wsframe.OpBinary:
		return against("the kind of a frame is unknown")
	case begins && r.op != 0:
		return against("a message begins within another one")
	case !begins && r.op == 0:
		return against("a message goes on that has not begun")
	}
	return nil
}

func checkControl(op byte, h wsframe.Header) error {
	switch {
	case op > wsframe.OpPong:
		return against("the kind of a frame is unknown")
	case h.First&wsframe.Final == 0:
		return against("a control frame is only a part")
	case h.Length > wsframe.MaxControl:
		return against("a control frame is too long")
	}
	return nil
}

// readControl reads the payload of a control frame, and does what it says.
func (r *reader) readControl(h wsframe.Header) error {
	var payload [wsframe.MaxControl]byte
	p := payload[:h.Length]
	for n := 0; n < len(p); {
		if len(r.input.left) == 0 {
			if err := r.input.fill(); err != nil {
				return err
			}
		}
		got := copy(p[n:], r.input.left)
		r.input.left = r.input.left[got:]
		n += got
	}
	if h.Masked {
		wsframe.Mask(p, h.Key)
	}
	switch h.First & wsframe.Op {
	case wsframe.OpPing:
		r.answerPing(string(p))
	case wsframe.OpPong:
		r.pongCame(p)
	case wsframe.OpClose:
		return r.closedBy(p)
	}
	return nil
}

// answerPing has a ping answered, if it may still be.
func (l *Link) answerPing(payload string) {
	l.mu.Lock()
	if !l.closing.Load() {
		l.pong = &payload
	}
	l.mu.Unlock()
	l.write()
}

// closedBy answers the peer's close frame, and returns the end of the link.
func (l *Link) closedBy(payload []byte) error {
	code, answer, reason := closeNoStatus, closeNormal, ""
	switch {
	case len(payload) == 1:
		return against("a close frame has half a code")
	case len(payload) > 1:
		code = int(binary.BigEndian.Uint16(payload))
		answer, reason = code, string(payload[2:])
		if !mayBeSent(code) {
			return against(fmt.Sprintf("a close frame has the code %d", code))
		}
		if !utf8.ValidString(reason) {
			return &CloseError{Code: closeInvalidData, Reason: "the reason in a close frame is not UTF-8"}
		}
	}
	end := &CloseError{Code: code, Reason: reason, ByPeer: true}
	l.refuse(end, closeFrame(answer, ""))
	return end
}

// mayBeSent reports whether a close frame may have the code: RFC 6455 7.4, and what
// IANA has registered since.
func mayBeSent(code int) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
		return true
	}
	return code >= 3000 && code <= 4999
}

// readData reads a frame of a message, and has the message handled if it is whole.
func (r *reader) readData(h wsframe.Header) error {
	if r.op == 0 {
		r.op, r.deflated, r.size = h.First&wsframe.Op, h.First&wsframe.Deflated != 0, 0
	}
	most := r.mostOnWire()
	if h.Length > most-r.size {
		return r.tooBig()
	}
	r.size += h.Length
	final := h.First&wsframe.Final != 0
	if final && r.size == h.Length && h.Length <= int64(len(r.input.left)) {
		data := r.input.left[:h.Length]
		r.input.left = r.input.left[h.Length:]
		if h.Masked {
			wsframe.Mask(data, h.Key)
		}
		return r.endMessage(data)
	}
	if err := r.readPart(int(h.Length), h.Key, int(most)); err != nil {
		return err
	}
	if !final {
		return nil
	}
	defer r.endParts()
	return r.endMessage(r.burst.parts)
}

// mostOnWire returns how many bytes the message may have as it comes. Deflate may
// add a little to what it cannot compress.
func (r *reader) mostOnWire() int64 {
	most := int64(r.opts.MaxMessage)
	if r.deflated {
		most += most>>8 + 64
	}
	return min(most, math.MaxInt)
}

// readPart adds n bytes to the parts of the message.
func (r *reader) readPart(n int, key uint32, most int) error {
	for n > 0 {
		if len(r.input.left) == 0 {
			if err := r.input.fill(); err != nil {
				return err
			}
		}
		b := r.beginBurst()
		room := b.room(min(n, len(r.input.left)), most)
		if !r.hold(cap(b.parts)) {
			return &CloseError{Code: closeTryAgainLater, Reason: "the server holds too much of messages that have not come whole"}
		}
		got := copy(room, r.input.left)
		if !r.opts.Client {
			key = wsframe.Mask(room, key)
		}
		b.parts = b.parts[:len(b.parts)+got]
		r.input.left = r.input.left[got:]
		n -= got
	}
	return nil
}

// endMessage has a whole message handled, as it came.
func (r *reader) endMessage(data []byte) error {
	text := r.op == wsframe.OpText
	r.op = 0
	if r.closing.Load() {
		return nil
	}
	if r.deflated {
		room := newBlock()
		defer room.release()
		var err error
		switch data, err = wsframe.AppendInflated(room.data[:0], data, r.opts.MaxMessage); {
		case errors.Is(err, wsframe.ErrTooLarge):
			return r.tooBig()
		case err != nil:
			return &CloseError{Code: closeInvalidData, Reason: err.Error()}
		}
	}
	if !r.handle(data, text) && text && !utf8.Valid(data) {
		return &CloseError{Code: closeInvalidData, Reason: "a text is not UTF-8"}
	}
	return nil
}

// tooBig is the end of a link whose peer sends a message that is.
func (r *reader) tooBig() error {
	return &CloseError{Code: closeTooBig, Reason: fmt.Sprintf("message over %d bytes", r.opts.MaxMessage)}
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
	_ = l.socket.SetReadDeadline(time.Now().Add(lingerTime))
	// One direction of TCP and TLS can be closed; others are left alone.
	if half, ok := l.socket.(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
		return
	}
	_, _ = io.Copy(io.Discard, l.socket)
}

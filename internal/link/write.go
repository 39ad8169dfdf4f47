package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

const (
	// chunkBytes is how much is written at once, and largeMessage from which
	// size on a message is written as it lies, without being copied.
	chunkBytes   = 64 << 10
	largeMessage = 8 << 10
	// extendEvery is how often the time for writing is extended: not for each
	// write, which would cost more than it is worth.
	extendEvery = 10 * time.Second
	// keptQueue is how many messages the queue of a link keeps room for.
	keptQueue = 64
)

// writeRoom is what a writing goroutine needs while it writes. A link that is
// idle has none.
type writeRoom struct {
	chunk []message
	out   []byte
}

var rooms = sync.Pool{New: func() any { return new(writeRoom) }}

func (l *Link) writeLoop() {
	defer close(l.written)
	var pings <-chan time.Time
	if l.opts.PingEvery > 0 {
		t := time.NewTicker(l.opts.PingEvery)
		defer t.Stop()
		pings = t.C
	}
	for {
		select {
		case <-l.wake:
			if !l.writeQueue() {
				return
			}
		case <-pings:
			if err := l.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout)); err != nil {
				// The reader may not notice: it may wait for a listener.
				l.beginEnd(fmt.Errorf("ping: %w", err))
			}
		}
	}
}

// writeQueue writes what is queued. It reports false when the link is at its
// end, after seeing to it that reading ends too.
func (l *Link) writeQueue() bool {
	room := rooms.Get().(*writeRoom)
	defer rooms.Put(room)
	for {
		chunk, pong, end := l.next(room)
		if end != nil {
			l.closeConn(end)
			return false
		}
		if pong != nil {
			_ = l.conn.WriteControl(websocket.PongMessage, []byte(*pong), time.Now().Add(writeTimeout))
		}
		if len(chunk) == 0 {
			return true
		}
		err := l.write(chunk, room)
		cost := 0
		for _, m := range chunk {
			m.finish(err)
			cost += m.cost()
		}
		clear(chunk) // or else it would keep the messages
		l.mu.Lock()
		l.bytes -= cost
		if err != nil {
			l.closeLocked(fmt.Errorf("write: %w", err))
		}
		l.mu.Unlock()
		if err != nil {
			l.conn.Close()
			return false
		}
	}
}

// next takes what is to be written next: a pong, messages, both, or nothing; or,
// when the link is closing and there is nothing more to write, it tells why it
// is. Without Join it is one message at a time, so that those after it can still
// be withdrawn.
func (l *Link) next(room *writeRoom) (chunk []message, pong *string, end error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.read: // the peer is gone: writing has no sense any more
		return nil, nil, l.end
	default:
	}
	pong, l.pong = l.pong, nil
	chunk, size := room.chunk[:0], 0
	for l.head < len(l.queue) && (len(chunk) == 0 || l.opts.Join && size+len(l.queue[l.head].data) <= chunkBytes) {
		m := l.queue[l.head]
		l.queue[l.head] = message{}
		l.head++
		if m.waiter != nil && m.waiter.withdrawn {
			continue
		}
		size += len(m.data)
		chunk = append(chunk, m)
	}
	l.tidy()
	room.chunk = chunk
	if len(chunk) == 0 && l.closing {
		end = l.end
	}
	return chunk, pong, end
}

// tidy gives the room before the head of the queue back, with mu held.
func (l *Link) tidy() {
	switch rest := len(l.queue) - l.head; {
	case rest == 0 && cap(l.queue) <= keptQueue:
		l.queue, l.head = l.queue[:0], 0
	case rest == 0:
		l.queue, l.head = nil, 0
	case l.head > rest && l.head > keptQueue:
		l.queue, l.head = slices.Clone(l.queue[l.head:]), 0
	}
}

// write writes messages.
func (l *Link) write(chunk []message, room *writeRoom) error {
	if !l.opts.Join {
		_ = l.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		return l.conn.WriteMessage(websocket.TextMessage, chunk[0].data)
	}
	if l.closeSent.Load() {
		return websocket.ErrCloseSent
	}
	if now := time.Now(); now.Sub(l.deadline) > extendEvery {
		l.deadline = now
		_ = l.conn.NetConn().SetWriteDeadline(now.Add(writeTimeout))
	}
	raw := l.conn.NetConn()
	if input, ok := raw.(*inputConn); ok {
		raw = input.Conn
	}
	_, isTCP := raw.(*net.TCPConn) // which writes several slices as one
	out := room.out[:0]
	for _, m := range chunk {
		out = appendHeader(out, len(m.data))
		if len(m.data) < largeMessage || !isTCP {
			out = append(out, m.data...)
			continue
		}
		parts := net.Buffers{out, m.data}
		if _, err := parts.WriteTo(raw); err != nil {
			return err
		}
		out = out[:0]
	}
	if room.out = out; cap(out) > 4*chunkBytes {
		room.out = nil // what a large message needed is not kept
	}
	if len(out) == 0 {
		return nil
	}
	_, err := raw.Write(out)
	return err
}

// appendHeader appends the header of a text of n bytes from a server.
func appendHeader(b []byte, n int) []byte {
	const finalText = 0x81
	switch {
	case n < 126:
		return append(b, finalText, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, finalText, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, finalText, 127), uint64(n))
}

// closeConn ends an orderly close: close frame, time for the answer, socket.
func (l *Link) closeConn(end error) {
	var ce *CloseError
	if errors.As(end, &ce) && !ce.ByPeer {
		l.writeClose(ce.Code, ce.Reason)
	}
	timer := time.NewTimer(lingerTime)
	defer timer.Stop()
	select {
	case <-l.read:
	case <-timer.C:
	}
	l.conn.Close()
}

// writeClose writes a close frame; a second one on the same connection is left
// out by gorilla.
func (l *Link) writeClose(code int, reason string) {
	const room = 123 // RFC 6455 5.5: a control frame holds 125 bytes, two are the code
	for len(reason) > room || !utf8.ValidString(reason) {
		reason = reason[:len(reason)-1]
	}
	l.closeSent.Store(true)
	_ = l.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(lingerTime))
}

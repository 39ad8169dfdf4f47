package loadgen

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// conn is a client's connection. It speaks the least of WebSocket that is
// needed: a library would cost the machine more than the server under test, and so
// would to mask what it writes.
type conn struct {
	net.Conn
	id      string
	deflate bool   // whether texts are compressed
	most    int    // bytes of a text, and of a frame
	buf     []byte // what was read, and is not handled yet
	first   byte   // of the text whose parts are coming, or 0
	parts   []byte // of that
	out     []byte // for frames of its own
	ponged  bool   // whether a ping of ours was answered
}

const (
	readBuffer = 4 << 10 // at first; many clients are idle
	mostBuffer = 64 << 10
	loginTime  = 30 * time.Second

	// leastInflated is what any text may have, also that of a server's own.
	leastInflated = 64 << 10
)

// subprotocol is what both ends must know if there shall be receipts.
const subprotocol = "crosscomm.v3"

// connect opens a connection and logs in. What comes behind the answer already is
// given to the function, unless that is nil.
func connect(ctx context.Context, cfg Config, id string, more func(text []byte) error) (*conn, error) {
	dialer := websocket.Dialer{
		NetDialContext: cfg.Dial, TLSClientConfig: cfg.TLS, EnableCompression: cfg.Compress,
		HandshakeTimeout: loginTime, ReadBufferSize: 512, WriteBufferSize: 512,
	}
	if cfg.Receipts != "" {
		dialer.Subprotocols = []string{subprotocol}
	}
	header := http.Header{}
	if cfg.Token != "" {
		header.Set("Authorization", "Bearer "+cfg.Token)
	}
	ws, resp, err := dialer.DialContext(ctx, cfg.URL, header)
	if err != nil {
		if resp != nil {
			err = fmt.Errorf("%w (%s)", err, resp.Status)
		}
		return nil, err
	}
	agrees, err := wsframe.AgreesToDeflate(resp.Header, cfg.Compress)
	if err == nil && cfg.Compress && !agrees {
		err = errors.New("the server does not agree to permessage-deflate")
	}
	if err == nil && cfg.Receipts != "" && ws.Subprotocol() != subprotocol {
		err = errors.New("the server gives no receipts: it does not agree to " + subprotocol)
	}
	if err != nil {
		ws.Close()
		return nil, err
	}
	// Before its login a client hears nothing, so gorilla has read nothing yet.
	// A server may write the JSON anew, and need more for it.
	c := &conn{Conn: ws.NetConn(), id: id, deflate: cfg.Compress, most: max(leastInflated, 2*cfg.Size)}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_ = c.SetDeadline(time.Now().Add(loginTime))
	if err := c.write(message(plainID, id, "server", "login", "{}")); err != nil {
		c.Close()
		return nil, fmt.Errorf("login: %w", err)
	}
	answered := false
	for !answered {
		_, err := c.read(func(text []byte) error {
			if answered && more != nil {
				return more(text)
			}
			answered = answered || bytes.Contains(text, []byte(`"login_response"`))
			return nil
		})
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("login: %w", err)
		}
	}
	_ = c.SetDeadline(time.Time{})
	return c, nil
}

// plainID is the msg_id of all messages that need none of their own.
const plainID = "bench"

// message is a frame of the protocol; content is JSON text.
func message(msgID, from, to, typ, content string) []byte {
	return fmt.Appendf(nil, `{"msg_id": "%s", "from_client_id": "%s", "to_client_id": "%s", "msg_type": "%s", "content": %s, "timestamp": %d.0, "oss_key": null}`,
		msgID, from, to, typ, content, time.Now().Unix())
}

// write writes one text.
func (c *conn) write(text []byte) error {
	c.out = c.appendText(c.out[:0], text)
	_, err := c.Write(c.out)
	return err
}

// appendText appends the frame of a text, as this connection has them.
func (c *conn) appendText(b, text []byte) []byte {
	if c.deflate {
		return appendDeflated(b, text)
	}
	return wsframe.AppendUnmasked(b, wsframe.OpText, text)
}

// read reads once, and gives all texts that are there whole to the function; it
// answers pings. It reports how many there were.
func (c *conn) read(handle func(text []byte) error) (n int, err error) {
	if len(c.buf) == cap(c.buf) {
		// A receiver of much gets a larger buffer, and so does a large frame.
		grown := make([]byte, len(c.buf), max(readBuffer, 2*cap(c.buf)))
		copy(grown, c.buf)
		c.buf = grown
	}
	got, err := c.Conn.Read(c.buf[len(c.buf):cap(c.buf)])
	full := len(c.buf)+got == cap(c.buf)
	c.buf = c.buf[:len(c.buf)+got]
	if err != nil {
		return 0, err
	}
	rest := c.buf
	for {
		op, payload, size, err := parse(rest, c.most)
		if err != nil {
			return n, err
		}
		if size == 0 {
			break
		}
		rest = rest[size:]
		switch op {
		case wsframe.Final | wsframe.OpText, wsframe.Final | wsframe.Deflated | wsframe.OpText:
			n++
			if err := c.text(op, payload, handle); err != nil {
				return n, err
			}
		case wsframe.OpText, wsframe.Deflated | wsframe.OpText, wsframe.OpMore, wsframe.Final | wsframe.OpMore:
			whole, err := c.part(op, payload)
			if err == nil && whole {
				n++
				err = c.text(c.first, c.parts, handle)
				c.first = 0
			}
			if err != nil {
				return n, err
			}
		case wsframe.Final | wsframe.OpPing:
			if _, err := c.Write(wsframe.AppendUnmasked(nil, wsframe.OpPong, payload)); err != nil {
				return n, err
			}
		case wsframe.Final | wsframe.OpPong:
			c.ponged = true
		case wsframe.Final | wsframe.OpClose:
			return n, closeError(payload)
		default:
			return n, fmt.Errorf("a frame that begins with %#x is not understood", op)
		}
	}
	if full && cap(c.buf) < mostBuffer && len(rest) < len(c.buf)/2 {
		c.buf = make([]byte, 0, 2*cap(c.buf))
		c.buf = append(c.buf, rest...)
		return n, nil
	}
	c.buf = c.buf[:copy(c.buf, rest)]
	return n, nil
}

// text gives a text, whose first byte tells whether it is compressed, to the
// function.
func (c *conn) text(first byte, payload []byte, handle func(text []byte) error) error {
	switch {
	case first&wsframe.Deflated == 0:
		return handle(payload)
	case !c.deflate:
		return errors.New("a message is compressed, which was not agreed on")
	}
	return inflate(payload, c.most, handle)
}

// part adds a part to those that have come, and reports whether it is the last.
// Servers that compress write as much as fits into their buffers at a time.
func (c *conn) part(first byte, payload []byte) (last bool, err error) {
	switch begins := first&^wsframe.Final != wsframe.OpMore; {
	case begins == (c.first != 0):
		return false, errors.New("the parts of messages are mixed up")
	case begins:
		c.first, c.parts = first, c.parts[:0]
	}
	if len(c.parts)+len(payload) > c.most {
		return false, errors.New("a message in parts is larger than any that was sent")
	}
	c.parts = append(c.parts, payload...)
	return first&wsframe.Final != 0, nil
}

// parse returns the first byte, the payload and the size of the frame at the
// beginning of b; a size of 0 says that it is not there whole. The error is that of
// a frame that no server should send here.
func parse(b []byte, most int) (first byte, payload []byte, size int, err error) {
	h, header, err := wsframe.ParseHeader(b)
	switch {
	case err != nil || header == 0:
		return 0, nil, 0, err
	case h.Masked:
		return 0, nil, 0, errors.New("the server masks its frames")
	case h.Length > int64(most):
		return 0, nil, 0, fmt.Errorf("a frame of %d bytes is larger than any that was sent", h.Length)
	case int64(len(b)-header) < h.Length:
		return 0, nil, 0, nil
	}
	size = header + int(h.Length)
	return h.First, b[header:size], size, nil
}

func closeError(payload []byte) error {
	if len(payload) < 2 {
		return errors.New("the server has closed the connection")
	}
	return fmt.Errorf("the server has closed the connection with code %d: %q", binary.BigEndian.Uint16(payload), payload[2:])
}

package loadgen

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/gorilla/websocket"
)

// conn is a client's connection. It speaks the least of WebSocket that is
// needed: a library would cost the machine more than the server under test.
type conn struct {
	net.Conn
	id  string
	buf []byte // what was read, and is not handled yet
	out []byte // for frames of its own
}

const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10

	finalText = 0x80 | opText
	masked    = 0x80 // in the second byte

	readBuffer = 4 << 10 // at first; many clients are idle
	mostBuffer = 64 << 10
	loginTime  = 30 * time.Second
)

// connect opens a connection and logs in.
func connect(ctx context.Context, cfg Config, id string) (*conn, error) {
	dialer := websocket.Dialer{NetDialContext: cfg.Dial, HandshakeTimeout: loginTime, ReadBufferSize: 512, WriteBufferSize: 512}
	ws, resp, err := dialer.DialContext(ctx, cfg.URL, nil)
	if err != nil {
		if resp != nil {
			err = fmt.Errorf("%w (%s)", err, resp.Status)
		}
		return nil, err
	}
	// Before its login a client hears nothing, so gorilla has read nothing yet.
	c := &conn{Conn: ws.NetConn(), id: id}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_ = c.SetDeadline(time.Now().Add(loginTime))
	if err := c.write(message(id, "server", "login", "{}")); err != nil {
		c.Close()
		return nil, fmt.Errorf("login: %w", err)
	}
	answered := false
	for !answered {
		_, err := c.read(func(text []byte) error {
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

// message is a frame of the protocol; content is JSON text.
func message(from, to, typ, content string) []byte {
	return fmt.Appendf(nil, `{"msg_id": "bench", "from_client_id": "%s", "to_client_id": "%s", "msg_type": "%s", "content": %s, "timestamp": %d.0, "oss_key": null}`,
		from, to, typ, content, time.Now().Unix())
}

// write writes one text.
func (c *conn) write(text []byte) error {
	c.out = append(appendHeader(c.out[:0], opText, len(text)), text...)
	_, err := c.Write(c.out)
	return err
}

// appendHeader appends the header of a frame with a mask of zeros, which leaves
// the bytes as they are: to mask them costs the generator, and not the server.
func appendHeader(b []byte, op byte, n int) []byte {
	b = append(b, 0x80|op)
	switch {
	case n < 126:
		b = append(b, masked|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, masked|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, masked|127), uint64(n))
	}
	return append(b, 0, 0, 0, 0)
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
		op, payload, size := parse(rest)
		if size == 0 {
			break
		}
		rest = rest[size:]
		switch op {
		case finalText:
			n++
			if err := handle(payload); err != nil {
				return n, err
			}
		case 0x80 | opPing:
			if _, err := c.Write(append(appendHeader(nil, opPong, len(payload)), payload...)); err != nil {
				return n, err
			}
		case 0x80 | opPong:
		case 0x80 | opClose:
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

// parse returns the first byte, the payload and the size of the frame at the
// beginning of b; a size of 0 says that it is not there whole.
func parse(b []byte) (first byte, payload []byte, size int) {
	if len(b) < 2 {
		return 0, nil, 0
	}
	header, n := 2, int(b[1]&0x7F)
	switch n {
	case 126:
		if header = 4; len(b) < header {
			return 0, nil, 0
		}
		n = int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if header = 10; len(b) < header {
			return 0, nil, 0
		}
		n = int(binary.BigEndian.Uint64(b[2:]))
	}
	if n < 0 || len(b)-header < n {
		return 0, nil, 0
	}
	return b[0], b[header : header+n], header + n
}

func closeError(payload []byte) error {
	if len(payload) < 2 {
		return errors.New("the server has closed the connection")
	}
	return fmt.Errorf("the server has closed the connection with code %d: %q", binary.BigEndian.Uint16(payload), payload[2:])
}

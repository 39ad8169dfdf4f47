package torture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// upgrade is what a client says first.
const upgrade = "GET /path?query HTTP/1.1\r\nHost: server\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// message is a message of the protocol, whose ids and content are JSON already but
// for the quotes of ids.
func message(from, to, typ, content string) string {
	return `{"msg_id": "m", "from_client_id": "` + from + `", "to_client_id": "` + to + `", "msg_type": "` + typ +
		`", "content": ` + content + `, "timestamp": 1795508069.25, "oss_key": null}`
}

// appendFrame appends a client's frame, whose first byte is given whole.
func appendFrame(b []byte, first byte, payload string) []byte {
	at := len(b)
	b = wsframe.AppendHeader(b, 0, len(payload), wsframe.Masked)
	b[at] = first
	mask := [4]byte{0x5a, 0xa5, 0x3c, 0xc3}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

const wholeText = wsframe.Final | wsframe.OpText

// large is the size of a large message's content.
const large = 100_000

// content is what a message for the witness says.
func content(round, n int) string {
	return fmt.Sprintf("%07d/%d %s", round, n, strings.Repeat("x", []int{0, 200, large, 10}[n]))
}

// conversation is all that a client says on a connection.
type conversation struct {
	bytes            []byte
	handshake, login int   // where these end
	ends             []int // of the messages for the witness
	larges           [][2]int
}

// converse makes the conversation of a client, with messages for the witness and for
// itself; that comes from the server, then. The round is in each text, and changes
// nothing of where it is.
func converse(id, witness string, round int) *conversation {
	c := &conversation{bytes: append(make([]byte, 0, 2*large+10_000), upgrade...)}
	c.handshake = len(c.bytes)
	frame := func(first byte, payload string) { c.bytes = appendFrame(c.bytes, first, payload) }
	whole := func(payload string) { frame(wholeText, payload) }
	text := func(to, content string) string { return message(id, to, "text", `"`+content+`"`) }
	next := func() string { return text(witness, content(round, len(c.ends))) }
	said := func() { c.ends = append(c.ends, len(c.bytes)) }
	inLarge := func(write func()) {
		began := len(c.bytes)
		write()
		c.larges = append(c.larges, [2]int{began, len(c.bytes)})
	}
	whole(message(id, "server", "login", "{}"))
	c.login = len(c.bytes)
	whole(message(id, "server", "list_clients", `"{\"only_show_online\": true}"`))
	whole(next())
	said()
	parts := next() // with a ping in their midst
	frame(wsframe.OpText, parts[:100])
	frame(wsframe.Final|wsframe.OpPing, "are you there?")
	frame(wsframe.OpMore, parts[100:250])
	frame(wsframe.OpMore, "")
	frame(wsframe.Final|wsframe.OpMore, parts[250:])
	said()
	whole(text(id, "to myself"))
	inLarge(func() { whole(next()) })
	said()
	frame(wsframe.Final|wsframe.OpPing, "")
	frame(wsframe.Final|wsframe.OpPong, "nobody has asked")
	whole(message(id, "server", "heartbeat", "{}"))
	frame(wsframe.Final|2, next()) // binary
	said()
	inLarge(func() { whole(text(id, strings.Repeat("y", large))) })
	whole(message(id, "server", "logout", "{}"))
	frame(wsframe.Final|wsframe.OpClose, "\x03\xe8")
	return c
}

// places returns where the conversation may be cut: in short frames and near the
// edges of large ones; and where one byte is like another.
func (c *conversation) places() (near, far []int) {
	const edge = 400
	for i := range len(c.bytes) + 1 {
		if slices.ContainsFunc(c.larges, func(l [2]int) bool { return i > l[0]+edge && i < l[1]-edge }) {
			far = append(far, i)
		} else {
			near = append(near, i)
		}
	}
	return near, far
}

// until returns how many of the messages for the witness are whole before the byte.
func (c *conversation) until(cut int) int {
	for n, end := range c.ends {
		if end > cut {
			return n
		}
	}
	return len(c.ends)
}

// texts returns the payloads of the text messages in what a client has written,
// after its handshake; the last may be missing a part, and is left out then.
func texts(written []byte) (payloads []string) {
	_, written, _ = bytes.Cut(written, []byte("\r\n\r\n"))
	for len(written) >= 2 {
		first, n, header := written[0], int(written[1]&^wsframe.Masked), 2
		switch {
		case n == 126 && len(written) >= 4:
			n, header = int(binary.BigEndian.Uint16(written[2:])), 4
		case n == 127 && len(written) >= 10:
			n, header = int(binary.BigEndian.Uint64(written[2:])), 10
		}
		if len(written) < header+4+n {
			break
		}
		mask, payload := written[header:header+4], bytes.Clone(written[header+4:header+4+n])
		for i := range payload {
			payload[i] ^= mask[i%4]
		}
		if first == wholeText {
			payloads = append(payloads, string(payload))
		}
		written = written[header+4+n:]
	}
	return payloads
}

package loadgen

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// A server may send a text in parts, with others than texts between them; what
// breaks the rules ends the run.
func TestParts(t *testing.T) {
	const (
		final, rsv1            = wsframe.Final, wsframe.Deflated
		opMore, opText, opPong = wsframe.OpMore, wsframe.OpText, wsframe.OpPong
	)
	frame := func(first byte, payload string) string { return string([]byte{first, byte(len(payload))}) + payload }
	deflated := string(appendDeflated(nil, []byte("a text"))[6:])
	half := len(deflated) / 2
	for name, c := range map[string]struct {
		frames  string
		deflate bool
		texts   []string
		err     string
	}{
		"whole":            {frames: frame(final|opText, "a") + frame(final|opText, ""), texts: []string{"a", ""}},
		"parts":            {frames: frame(opText, "a") + frame(opMore, "b") + frame(final|opPong, "x") + frame(final|opMore, "c") + frame(final|opText, "d"), texts: []string{"abc", "d"}},
		"compressed":       {frames: frame(final|rsv1|opText, deflated) + frame(final|opText, "b"), deflate: true, texts: []string{"a text", "b"}},
		"compressed parts": {frames: frame(rsv1|opText, deflated[:half]) + frame(final|opMore, deflated[half:]), deflate: true, texts: []string{"a text"}},
		"not agreed on":    {frames: frame(final|rsv1|opText, deflated), err: "not agreed on"},
		"no deflate":       {frames: frame(final|rsv1|opText, "no deflate"), deflate: true, err: "cannot be inflated"},
		"no first part":    {frames: frame(final|opMore, "a"), err: "mixed up"},
		"two at a time":    {frames: frame(opText, "a") + frame(opText, "b"), err: "mixed up"},
		"a binary message": {frames: frame(final|2, "a"), err: "not understood"},
		"large frame":      {frames: "\x81\x7f\x00\x00\x01\x00\x00\x00\x00\x00", err: "1099511627776 bytes is larger"},
		"masked":           {frames: "\x81\x81xxxxx", err: "masks"},
		"too large":        {frames: frame(opText, strings.Repeat("a", 11)) + frame(final|opMore, strings.Repeat("b", 10)), err: "larger than"},
	} {
		server, client := net.Pipe()
		go func() {
			_, _ = server.Write([]byte(c.frames)) // read at once: it fits into the buffer
			server.Close()
		}()
		conn := &conn{Conn: client, deflate: c.deflate, most: 20}
		var texts []string
		n, err := conn.read(func(text []byte) error {
			texts = append(texts, string(text))
			return nil
		})
		if c.err == "" && (err != nil || n != len(c.texts) || !slices.Equal(texts, c.texts)) {
			t.Errorf("%s: got %q, %d, %v", name, texts, n, err)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: got %q, %v", name, texts, err)
		}
		client.Close()
	}
}

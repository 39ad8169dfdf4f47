package link

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

const (
	// largeMessage is from which size on a message is written as it lies,
	// without being copied.
	largeMessage = 8 << 10
	// keptBytes is how much a writeRoom keeps for the next one.
	keptBytes = 4 * blockBytes
)

// writeRoom is what writing needs. A link that does not write has none.
type writeRoom struct {
	chunk []message
	ends  []int // where the frame of each message ends, in all bytes of the chunk

	parts [][]byte // the bytes
	out   []byte   // those that do not lie in the messages
	cuts  []int    // where parts of out end, each followed by a message

	try func(fd uintptr) bool // writes the parts as far as the socket takes them
	n   int                   // what it has written
	err error
}

var rooms = sync.Pool{New: func() any {
	r := new(writeRoom)
	r.try = func(fd uintptr) bool {
		r.n, r.err = writeSocket(fd, r.parts)
		return true // also if there is no room: it is not waited for
	}
	return r
}}

// writeNow writes the parts as far as the socket takes them without waiting, and
// returns how many bytes that were.
func (r *writeRoom) writeNow(raw syscall.RawConn) (int, error) {
	if err := raw.Write(r.try); err != nil {
		return 0, err
	}
	if r.err == errWouldBlock {
		return 0, nil
	}
	return r.n, r.err
}

// encode makes the bytes of a chunk. With apart, large messages are parts that
// lie where they are, for sockets that write several parts as one.
func (r *writeRoom) encode(chunk []message, opts *Options, apart bool) {
	r.chunk, r.ends, r.cuts = chunk, r.ends[:0], r.cuts[:0]
	if cap(r.out) > keptBytes {
		r.out = nil // what a large message needed
	}
	out, parts := r.out[:0], r.parts[:0]
	end := 0
	for _, m := range chunk {
		before := len(out)
		op, data := m.op, m.data
		if opts.Deflate && !m.framed && op == wsframe.OpText {
			if smaller := deflate(data); smaller != nil {
				op, data = wsframe.Deflated|op, smaller
			}
		}
		switch {
		case m.framed && apart && (len(data) >= largeMessage || len(chunk) == 1):
			r.cuts = append(r.cuts, len(out))
			parts = append(parts, nil, data)
			end += len(data)
		case m.framed:
			out = append(out, data...)
		case opts.Client:
			out = appendMasked(out, op, data)
		case apart && len(data) >= largeMessage:
			out = wsframe.AppendHeader(out, op, len(data), 0)
			r.cuts = append(r.cuts, len(out))
			parts = append(parts, nil, data) // nil, for out may still move
			end += len(data)
		default:
			out = append(wsframe.AppendHeader(out, op, len(data), 0), data...)
		}
		end += len(out) - before
		r.ends = append(r.ends, end)
	}
	begin := 0
	for i, cut := range r.cuts {
		parts[2*i] = out[begin:cut]
		begin = cut
	}
	if begin < len(out) {
		parts = append(parts, out[begin:])
	}
	r.out, r.parts = out, slices.DeleteFunc(parts, func(p []byte) bool { return len(p) == 0 })
}

// rest returns what is left of the bytes after the first n, which lie in the
// messages from the given one on. If nothing is written yet it takes over what the
// room has. Else it copies only what is used again: a large message may be for many
// links that are all slow.
func (r *writeRoom) rest(from, n int) *rest {
	left := &rest{frames: make([]restFrame, 0, len(r.chunk)-from)}
	takesOver := n == 0 && cap(r.out) <= 2*len(r.out)
	stays := map[*byte]bool{} // whether what begins there is not used again; what is not there is of the room
	for i, m := range r.chunk[from:] {
		left.frames = append(left.frames, restFrame{end: r.ends[from+i] - n, cost: m.cost(), waiter: m.waiter})
		if len(m.data) > 0 {
			stays[&m.data[0]] = m.block == nil
		}
	}
	for _, p := range r.parts {
		if n >= len(p) {
			n -= len(p)
			continue
		}
		keep, ofMessage := stays[&p[0]]
		if !ofMessage {
			keep = takesOver
		}
		if p = p[n:]; !keep {
			p = bytes.Clone(p)
		}
		left.parts = append(left.parts, p)
		n = 0
	}
	if takesOver {
		r.out = nil
	}
	return left
}

// appendMasked appends a frame of a client. The source is Go's own, which is
// seeded by the system and strong enough (RFC 6455 10.3).
func appendMasked(b []byte, op byte, data []byte) []byte {
	key := rand.Uint32()
	b = binary.LittleEndian.AppendUint32(wsframe.AppendHeader(b, op, len(data), wsframe.Masked), key)
	begin := len(b)
	b = append(b, data...)
	wsframe.Mask(b[begin:], key)
	return b
}

package link

import (
	"bytes"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// Scribble fills memory that waits to be used again with rubbish: whoever still
// refers to it has that then.
func Scribble() {
	var blocks [8]*block
	for i := range blocks {
		blocks[i] = newBlock()
		fill(blocks[i].data[:])
	}
	for _, b := range blocks {
		b.release()
	}
	var some [4]*burst
	for i := range some {
		some[i] = bursts.Get().(*burst)
		fill(some[i].small[:])
	}
	for _, b := range some {
		bursts.Put(b)
	}
}

func fill(b []byte) {
	for i := range b {
		b[i] = '#'
	}
}

// Echo sends a message back as it came: Send is for texts only.
func (l *Link) Echo(data []byte, text bool) error {
	op := byte(wsframe.OpBinary)
	if text {
		op = wsframe.OpText
	}
	l.mu.Lock()
	err := l.enqueue(message{op: op, data: bytes.Clone(data)})
	l.mu.Unlock()
	l.write()
	return err
}

// Held returns how many bytes of memory the reading goroutine has for a message of
// which a part has come. It is for that goroutine.
func (l *Link) Held() int {
	if l.burst == nil {
		return 0
	}
	return cap(l.burst.parts)
}

// Queued returns how many entries wait in the queue.
func (l *Link) Queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue.Len()
}

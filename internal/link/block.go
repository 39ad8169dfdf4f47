package link

import (
	"sync"
	"sync/atomic"
)

// blockBytes is the size of a block, and of what is read and written at once.
const blockBytes = 64 << 10

// block is memory that is used again when nobody refers to it any more: who fills
// it does, and each message in a queue whose bytes lie in it.
type block struct {
	refs atomic.Int32
	used int // only for who fills it
	data [blockBytes]byte
}

var blocks = sync.Pool{New: func() any { return new(block) }}

func newBlock() *block {
	b := blocks.Get().(*block)
	b.refs.Store(1)
	b.used = 0
	return b
}

// release gives a reference up. A nil block is memory that is the collector's.
func (b *block) release() {
	if b != nil && b.refs.Add(-1) == 0 {
		blocks.Put(b)
	}
}

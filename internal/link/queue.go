package link

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/crosscomm/crosscomm-go/internal/fifo"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// messageOverhead is what a message in the queue costs beside its bytes, roughly.
const messageOverhead = 64

// message is one in the queue.
type message struct {
	op     byte // wsframe.OpText or a control frame
	framed bool // whether data has headers already; then it may be several messages
	data   []byte
	block  *block  // where data lies, with a reference for this message; nil for elsewhere
	begin  int     // where in the block
	waiter *waiter // who has the data until the message is taken; nil if nobody waits for it
}

// waiter is who waits until his message is written.
type waiter struct {
	written chan error // has room for the one result

	// Guarded by Link.mu.
	data      []byte // of the message; nil once that is taken or withdrawn
	taken     bool   // whether it has left the queue
	withdrawn bool   // whether it is to be left out
}

// cost is what it counts for in Link.bytes.
func (m message) cost() int {
	if m.waiter != nil && !m.waiter.taken {
		return len(m.waiter.data) + messageOverhead
	}
	return len(m.data) + messageOverhead
}

// leaveQueue makes the data of who waits that of the message. It reports false if
// he waits no more.
func (m *message) leaveQueue() bool {
	if m.waiter == nil {
		return true
	}
	m.data, m.waiter.data, m.waiter.taken = m.waiter.data, nil, true
	return !m.waiter.withdrawn
}

// finish ends the message: it is written, or with an error not.
func (m message) finish(err error) {
	m.block.release()
	if m.waiter != nil {
		m.waiter.written <- err
	}
}

// leaveBlock copies the message, so that its block can be used again.
func (m *message) leaveBlock() {
	if m.block != nil {
		m.data = bytes.Clone(m.data)
		m.block.release()
		m.block = nil
	}
}

// queues are the empty ones: a link has none while nothing waits.
var queues = sync.Pool{New: func() any { return new(fifo.Queue[message]) }}

// Send queues a text message, and writes what is queued as far as the socket
// takes it at once: it never blocks. The data must not be changed afterwards;
// it may be shared by many links. The error is ErrFull or ErrClosed.
func (l *Link) Send(data []byte) error {
	l.mu.Lock()
	err := l.acceptLocked(len(data))
	if err == nil {
		err = l.enqueue(message{op: wsframe.OpText, data: data})
	}
	l.mu.Unlock()
	if err == nil {
		l.write()
	}
	return err
}

// Write queues a text message, whatever the bound of the queue, and waits until
// the kernel has the whole of it. If the link ends before that, the peer cannot
// have got the whole of it, and the error is ErrClosed or the link's. If the
// context ends before that, the error is the context's, and wraps ErrWithdrawn
// if the message was not sent; else it may still arrive.
func (l *Link) Write(ctx context.Context, data []byte) error {
	w := &waiter{written: make(chan error, 1), data: data}
	l.mu.Lock()
	err := l.enqueue(message{op: wsframe.OpText, waiter: w})
	l.mu.Unlock()
	if err != nil {
		return err
	}
	l.write()
	select {
	case err := <-w.written:
		return err
	case <-ctx.Done():
		return l.withdraw(ctx, w)
	}
}

// withdraw ends the wait of a Write whose context has ended.
func (l *Link) withdraw(ctx context.Context, w *waiter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.taken {
		select {
		case err := <-w.written: // both at once
			return err
		default:
			return context.Cause(ctx)
		}
	}
	l.bytes -= len(w.data) // the rest when its turn comes
	w.data, w.withdrawn = nil, true
	return fmt.Errorf("%w: %w", ErrWithdrawn, context.Cause(ctx))
}

// acceptLocked reports why a message of that size cannot be queued now, with mu
// held, which it may give up meanwhile.
func (l *Link) acceptLocked(size int) error {
	if err := l.refusal(size); err != ErrFull {
		return err
	}
	// What is queued may be there only because nobody has flushed it yet.
	l.mu.Unlock()
	l.write()
	l.mu.Lock()
	return l.refusal(size)
}

// refusal is acceptLocked for the queue as it is.
func (l *Link) refusal(size int) error {
	switch {
	case l.closing.Load():
		return ErrClosed
	case l.bytes+size > l.mayHold() && l.bytes > 0:
		return ErrFull
	}
	return nil
}

// mostAtOnce is what a link's input may bring for another one between two flushes,
// with the allowance for each message.
const mostAtOnce = 2 * (mostAhead + 1) * blockBytes

// enqueue must be called with mu held.
func (l *Link) enqueue(m message) error {
	if l.closing.Load() {
		return ErrClosed
	}
	l.bytes += m.cost()
	if l.queue == nil {
		l.queue = queues.Get().(*fifo.Queue[message])
	}
	l.queue.Push(m)
	if l.draining {
		l.account()
	}
	return nil
}

// hasWork reports whether there is something to write; with mu held.
func (l *Link) hasWork() bool {
	return l.rest != nil || l.pong != nil || l.queue != nil
}

// take takes what is to be written next, up to a block or one large message;
// with mu held.
func (l *Link) take(chunk []message) []message {
	if l.readEnded {
		return chunk
	}
	if l.pong != nil {
		chunk = append(chunk, message{op: wsframe.OpPong, data: []byte(*l.pong)})
		l.bytes += chunk[0].cost()
		l.pong = nil
	}
	size := 0
	for l.queue != nil {
		if next := l.queue.All()[0].cost(); len(chunk) > 0 && size+next > blockBytes {
			break
		}
		m := l.queue.Pop()
		if l.queue.Len() == 0 {
			queues.Put(l.queue)
			l.queue = nil
		}
		if !m.leaveQueue() {
			l.bytes -= m.cost()
			continue
		}
		if m.op == wsframe.OpPing {
			l.noteMark(&m)
		}
		size += m.cost()
		chunk = append(chunk, m)
	}
	return chunk
}

// drop gives up what is queued, but for a close frame; with mu held.
func (l *Link) drop(err error) {
	l.pong = nil
	if l.queue == nil {
		return
	}
	queue := l.queue
	l.queue = nil
	for _, m := range queue.All() {
		if m.op == wsframe.OpClose {
			l.queue = new(fifo.Queue[message])
			l.queue.Push(m)
			continue
		}
		l.bytes -= m.cost()
		m.leaveQueue()
		m.finish(err)
	}
	l.account()
}

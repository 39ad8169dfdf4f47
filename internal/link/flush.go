package link

import (
	"fmt"
	"net"
	"time"
)

const (
	// mostPasses is how many times in a row who writes takes what was queued
	// meanwhile. He has something else to do.
	mostPasses = 4
	// mostTouched bounds what a Link has touched between two flushes. Targets may
	// be there more than once, if others forward to them meanwhile.
	mostTouched = 1 << 17
	// extendEvery is how often the time for writing is extended: not for each
	// write, which would cost more than it is worth.
	extendEvery = 10 * time.Second
)

// rest is what is left of a chunk that a socket has not taken whole.
type rest struct {
	parts  net.Buffers
	frames []restFrame
}

// restFrame is a message of which at least the end is left.
type restFrame struct {
	end    int // where it ends, in all bytes of the rest
	cost   int
	waiter *waiter
}

// Flush writes what was forwarded, as far as the sockets take it at once, and
// leaves the rest to goroutines: it never blocks. Run calls it before it waits
// for input; a handle function that waits for anything must call it before. Who may
// call it is who may call NewFrame.
func (l *Link) Flush() {
	if l.opts.BeforeFlush != nil {
		l.opts.BeforeFlush()
	}
	if l.burst == nil {
		return
	}
	l.burst.leaveBlock()
	l.burst.writeTouched(l)
}

// writeTouched writes where something was forwarded to by l.
func (b *burst) writeTouched(l *Link) {
	if len(b.touched) == 0 {
		return
	}
	room := rooms.Get().(*writeRoom)
	defer rooms.Put(room)
	for i, to := range b.touched {
		to.mu.Lock()
		if to.flusher == l { // else another one will come, too
			to.flusher = nil
		}
		to.writeLocked(room)
		b.touched[i] = nil
	}
	b.touched = b.touched[:0]
}

// write writes what is queued, as Flush does.
func (l *Link) write() {
	room := rooms.Get().(*writeRoom)
	defer rooms.Put(room)
	l.mu.Lock()
	l.writeLocked(room)
}

// writeLocked is write with mu held, which it gives up.
func (l *Link) writeLocked(room *writeRoom) {
	defer l.mu.Unlock()
	if l.writing || l.readEnded || !l.hasWork() {
		return // who is writing takes what is queued, too
	}
	l.writing = true
	l.writers.Add(1)
	if !l.direct {
		l.drainLater()
		return
	}
	for range mostPasses {
		chunk := l.take(room.chunk[:0])
		if len(chunk) == 0 {
			l.endWriting()
			return
		}
		l.mu.Unlock()
		room.encode(chunk, &l.opts, true)
		n, err := room.writeNow(l.input.raw)
		l.mu.Lock()
		l.settle(room, n, err)
		if err != nil {
			l.endWriting()
			return
		}
		if l.rest != nil {
			break
		}
	}
	if l.hasWork() {
		l.drainLater()
	} else {
		l.endWriting()
	}
}

// drainLater leaves the writing to a goroutine, with mu held. What the queue has
// may now stay there for long.
func (l *Link) drainLater() {
	l.draining = true
	queue := l.queue.All()
	for i := range queue {
		queue[i].leaveBlock()
	}
	l.account()
	go l.drain()
}

// endWriting is called with mu held by who has written all that there was.
func (l *Link) endWriting() {
	l.writing, l.draining = false, false
	l.account()
	l.noteDrained()
	l.writers.Done()
}

// drain writes until nothing is queued any more, and waits for the socket. While it
// waits it has nothing but the rest, which counts as what is queued does.
func (l *Link) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.drainSome() {
	}
	l.endDeadline()
	l.endWriting()
}

// drainSome does so with what is left of the last chunk, or with the next one, with mu
// held, which it gives up meanwhile. It reports false if there is nothing.
func (l *Link) drainSome() bool {
	if left := l.rest; left != nil {
		l.rest = nil
		l.mu.Unlock()
		n, err := l.writeWaiting(left.parts)
		l.mu.Lock()
		l.settleRest(left, n, err)
		return true
	}
	room := rooms.Get().(*writeRoom)
	defer rooms.Put(room)
	chunk := l.take(room.chunk[:0])
	if len(chunk) == 0 {
		return false
	}
	l.mu.Unlock()
	room.encode(chunk, &l.opts, l.direct)
	n, err := 0, error(nil)
	if l.direct {
		l.extendDeadline()
		n, err = room.writeNow(l.input.raw)
	}
	l.mu.Lock()
	l.settle(room, n, err)
	return true
}

// settle ends the messages of a chunk of which n bytes were written, with mu
// held. What is left is given up if there was an error, and kept as the rest if
// not.
func (l *Link) settle(room *writeRoom, n int, err error) {
	done := 0
	for ; done < len(room.chunk) && room.ends[done] <= n; done++ {
		l.bytes -= room.chunk[done].cost()
		room.chunk[done].finish(nil)
	}
	left := room.chunk[done:]
	if err != nil {
		for _, m := range left {
			l.bytes -= m.cost()
			m.finish(err)
		}
		l.failLocked(fmt.Errorf("write: %w", err))
	} else if len(left) > 0 {
		l.rest = room.rest(done, n)
		for _, m := range left {
			m.block.release()
		}
	}
	clear(room.chunk) // or else it would keep the messages
	clear(room.parts)
	if l.draining {
		l.account()
	}
}

// settleRest is settle for a rest.
func (l *Link) settleRest(r *rest, n int, err error) {
	for _, f := range r.frames {
		var result error
		if f.end > n {
			result = err
		}
		l.bytes -= f.cost
		if f.waiter != nil {
			f.waiter.written <- result
		}
	}
	l.account()
	if err != nil {
		l.failLocked(fmt.Errorf("write: %w", err))
	}
}

// writeWaiting writes all, and waits for the socket; the error may be that of
// the time-out.
func (l *Link) writeWaiting(parts net.Buffers) (n int, err error) {
	l.extendDeadline()
	written, err := parts.WriteTo(l.socket)
	return int(written), err
}

// extendDeadline gives the goroutine that drains time to write.
func (l *Link) extendDeadline() {
	if now := time.Now(); now.Sub(l.extended) > extendEvery {
		l.extended = now
		_ = l.socket.SetWriteDeadline(now.Add(writeTimeout))
	}
}

// endDeadline lets no time for writing run while nothing waits: a write that
// does not wait would fail, too, when it is over, and so would what TLS answers
// by itself.
func (l *Link) endDeadline() {
	if !l.extended.IsZero() {
		l.extended = time.Time{}
		_ = l.socket.SetWriteDeadline(time.Time{})
	}
}

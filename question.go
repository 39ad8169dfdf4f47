package crosscomm

import "time"

// A plain client reports nothing, but its WebSocket library answers pings. The answer
// to one that was sent behind a letter shows that the library has read the letter, and
// that is all that is ever known: the sender is told then. The program itself may not have
// handled it yet, and would lose it if it were killed now. So the letter is given up
// only when the program must have taken it: pywayne's library reads no further while more
// than 16 messages wait for the program.
const (
	// libraryQueue is how many messages a library may have read ahead of its program.
	libraryQueue = 16
	// askAgainAfter is when a client is asked again about the last letters, behind which
	// none comes: a program that answers then has had its time.
	askAgainAfter = time.Second
)

// question is what a plain connection was asked about.
type question struct {
	open     bool   // whether it waits for the answer
	mark     uint64 // by which it was asked
	number   uint64 // of the letter that it is about, and all before
	answered uint64 // that of the last one that was answered
	again    *time.Timer
}

func (q *question) stop() {
	if q.again != nil {
		q.again.Stop()
	}
}

// ask asks about all letters that were sent, unless an answer is waited for. Like the
// rest it is called with mu held.
func (b *mailbox) ask(via *peer) {
	q := &b.asked
	if q.open {
		return
	}
	q.stop()
	b.to.marks++
	q.open, q.mark, q.number = true, b.to.marks, b.to.numbered
	// If it fails, the link is ending.
	if via != nil {
		_ = via.link.ForwardMark(b.to.link, q.mark)
	} else {
		_ = b.to.link.Mark(q.mark)
	}
}

// answered is called when the plain connection p has answered a mark.
func (b *mailbox) answered(p *peer, mark uint64, n *notices) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := &b.asked
	if b.to != p || !q.open || mark < q.mark {
		return
	}
	b.readBy(q.number, n)
	given := q.number
	if before := q.answered; b.office.store != nil && q.number > before {
		given = max(before, libraryQueue) - libraryQueue
	}
	q.open, q.answered = false, q.number
	b.take(report{Handled: [][2]uint64{{1, given}}}, n)
	if b.onDisk {
		b.office.loadSoon(b)
	}
	switch {
	case p.numbered > q.answered:
		b.ask(nil)
	case b.letters.Len() > 0:
		q.again = time.AfterFunc(askAgainAfter, func() { b.askAgain(p) })
	}
}

// readBy has the senders of letters told that the client has got them.
func (b *mailbox) readBy(number uint64, n *notices) {
	for _, sent := range b.letters.All() {
		if sent.number > number {
			return
		}
		if l := sent.letter; l != nil {
			l.read, l.handled = true, true
			n.settle(l)
		}
	}
}

// askAgain asks about the last letters.
func (b *mailbox) askAgain(p *peer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.to == p {
		b.ask(nil)
	}
}

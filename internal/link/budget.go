package link

import "sync/atomic"

// Budget bounds what all links that share it hold for peers that do not take it at
// once, and of messages of which peers have sent only a part. No link may have more
// than what is left of it: with n that do not read each gets an n-th, about, the
// others always find room, and nobody has to be looked for who should give something
// up. (Choudhury and Hahne, "Dynamic queue length thresholds in a shared memory ATM
// switch", 1996.)
//
// What a link is to write at once, as soon as the input is used up that has brought
// it, does not count, since it costs no memory of its own.
type Budget struct {
	limit int
	used  atomic.Int64
}

// Limit sets the bytes. It must be called before any link has the Budget.
func (b *Budget) Limit(bytes int) { b.limit = bytes }

// Used returns how many bytes are held. A message that many links hold counts for
// each of them.
func (b *Budget) Used() int { return int(b.used.Load()) }

// left returns how many bytes are left, and so how many one link may hold.
func (b *Budget) left() int { return b.limit - int(b.used.Load()) }

// account has the budget count what the link holds now, with mu held.
func (l *Link) account() {
	if l.budget == nil {
		return
	}
	held := 0
	if l.draining {
		held = l.bytes
	}
	if held != l.accounted {
		l.budget.used.Add(int64(held - l.accounted))
		l.accounted = held
	}
}

// mayHold returns how many bytes the link may hold, with mu held.
func (l *Link) mayHold() int {
	if l.budget == nil {
		return l.bound
	}
	return min(l.bound, l.budget.left())
}

// hold has the budget count what is held of an incoming message, and reports false if
// that is more than the link may have. It is for the reading goroutine.
func (l *Link) hold(bytes int) bool {
	if l.budget == nil || bytes == l.holds {
		return true
	}
	if bytes > smallMessage && bytes > l.budget.left() {
		return false
	}
	l.budget.used.Add(int64(bytes - l.holds))
	l.holds = bytes
	return true
}

package crosscomm

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/backlog"
	"github.com/crosscomm/crosscomm-go/internal/dedup"
	"github.com/crosscomm/crosscomm-go/internal/fifo"
	"github.com/crosscomm/crosscomm-go/internal/frame"
)

const (
	// Where there is a disk for further ones, a client is sent so many letters, of so
	// many bytes, ahead of what it has reported.
	maxUnreported      = 1_000
	maxUnreportedBytes = 4 << 20
	// A plain client cannot report, and may get again what it was sent ahead.
	maxUnansweredPlain = 128
	// maxBehind is how many letters may be on disk only because others are in front of
	// them: of each something stays in memory.
	maxBehind = 1_000
	// spillAfter is how long a letter may be unreported in memory alone. A receiver
	// that keeps up reports sooner, and nothing goes to disk.
	spillAfter = 20 * time.Millisecond
	// saveAgainAfter is when what could not be saved is tried again.
	saveAgainAfter = time.Second
	// headersRoom is how many bytes more than it says a client must take where
	// headers are agreed on: those that have tracked what had none.
	headersRoom = 64
)

// mailbox has the letters for one client, in the order in which they came: those that
// were sent on its connection and are not reported yet, and behind them those that
// wait on disk. While any wait there, what comes goes behind them.
//
// Its methods put what is to be told to senders, and done, into notices, which are sent
// when no lock is held any more: see deliveries for the order of locks.
type mailbox struct {
	member *member
	office *deliveries

	loadDue bool // guarded by deliveries.mu

	mu      sync.Mutex
	to      *peer                  // the connection that letters are sent on; nil for none
	letters fifo.Queue[sentLetter] // those that were sent on it
	bytes   int                    // what they cost
	onDisk  bool                   // whether others wait on disk; member.waiting says the same
	loaded  uint64                 // the seq up to which none of those has one
	saving  int                    // how many letters are on their way to the disk
	saves   int                    // how many have ever begun or ended it
	back    int                    // how many are on their way in front of what is there, or are being deleted there: until then nothing is loaded
	behind  map[uint64]*letter     // by seq, those on disk that are given up when the connection ends
	gone    map[uint64]bool        // by seq, those dropped from disk while it is being read; nil while it is not
	given   []*letter              // that a connection has given back, and that are about to be written to disk
	misses  int                    // how often in a row what is on disk could not be read
	watched bool                   // whether it is looked for letters to save
	readTo  uint64                 // the number up to which the client has read
	asked   question               // of a plain connection
}

// put takes a letter, which is the mailbox's if it is taken. It is sent on the
// connection, together with what the peer via has forwarded, if it may go at once; via is
// nil if nobody's input has brought it. The failure says why it is not taken. If it goes
// to disk, whoever brings letters should wait for room there.
func (b *mailbox) put(l *letter, via *peer, n *notices) (why failure, toDisk bool) {
	var now int64
	if via != nil {
		now = via.now
	} else {
		now = b.office.hub.now()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	present := b.present(now)
	var text []byte
	if present {
		if text, why = textFor(b.to, l); why != "" {
			return why, false
		}
	}
	room := b.office.hasRoom(b, l)
	switch {
	case !present && !l.keep:
		return failedOffline, false
	case !room && b.office.store == nil, !l.keep && len(b.behind) >= maxBehind:
		return failedFull, false
	}
	l.seq, l.at = b.office.seq.Add(1), now // they ascend, also if there was another mailbox for this id
	if present && room && !b.onDisk {
		b.loaded = l.seq
		b.send(l, text, via, n)
		if n.settle(l); l.isSpent() {
			sent := b.letters.All()
			sent[len(sent)-1].letter = nil
			l.free()
			return "", false
		}
		l.own(l.keep)
		if l.keep && !b.watched {
			b.watched = true
			b.office.watch(b)
		}
		return "", false
	}
	if !b.onDisk { // what was sent before must not be told of later, nor be lost when this is not
		for _, sent := range b.letters.All() {
			if before := sent.letter; before != nil && before.keep && !before.saving && !before.done {
				b.saveNow(before)
			}
		}
	}
	b.setOnDisk(true)
	b.writeGiven()
	b.saveNow(l)
	if l.own(false); !l.keep { // it is there only because others are in front of it
		if b.behind == nil {
			b.behind = map[uint64]*letter{}
		}
		b.behind[l.seq] = l
		n.settle(l)
	}
	return "", true
}

// present reports whether letters reach the client now.
func (b *mailbox) present(now int64) bool {
	return b.to != nil && b.office.hub.connection(b.member, now) == b.to
}

func (b *mailbox) setOnDisk(onDisk bool) {
	b.onDisk = onDisk
	b.member.waiting.Store(onDisk)
}

// textFor returns the letter as the connection gets it, or why that cannot get it.
func textFor(p *peer, l *letter) (text []byte, why failure) {
	text = l.data
	if !p.agreed {
		f, err := frame.ScanAgreed(l.data, frame.MaxDepth)
		if err != nil {
			return nil, failedListener // cannot be: it was scanned before it became a letter
		}
		if h, err := parseHeaders(f); err == nil && h.Request {
			return nil, failedReply
		}
		text = f.AppendPlain(nil, l.data)
	}
	takes := p.takes
	if p.agreed {
		takes += headersRoom // or what was not too large before it waited would be
	}
	if len(text) > takes {
		return nil, failedTooLarge
	}
	return text, ""
}

// send sends a letter, which gets its number.
func (b *mailbox) send(l *letter, text []byte, via *peer, n *notices) {
	p := b.to
	p.numbered++
	l.sent = true
	b.letters.Push(sentLetter{letter: l, number: p.numbered, cost: l.cost()})
	b.bytes += l.cost()
	b.office.unreported.Add(int64(l.cost()))
	var err error
	if via != nil {
		out := via.link.NewFrame(text)
		err = via.link.Forward(p.link, &out)
	} else {
		err = p.link.Send(text)
	}
	n.sent(p, err)
	if !p.agreed {
		b.ask(via)
	}
}

// report takes what the client tells of letters on the connection p.
func (b *mailbox) report(p *peer, r report, n *notices) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.to == p { // else another one has replaced it
		b.take(r, n)
	}
}

// take is report with mu held.
func (b *mailbox) take(r report, n *notices) {
	if b.letters.Len() == 0 {
		return
	}
	letters := b.letters.All()
	first := letters[0].number // the others follow it without a gap
	end := first + uint64(len(letters))
	for b.readTo = max(b.readTo, first-1); b.readTo < min(r.Received, end-1); {
		sent := letters[b.readTo+1-first]
		b.readTo++
		if l := sent.letter; l != nil {
			if l.read = true; !l.done {
				n.settle(l)
			}
		}
	}
	var saved []uint64
	finish := func(number uint64) *letter {
		if number < first || number >= end {
			return nil
		}
		sent := &letters[number-first]
		if sent.done {
			return nil
		}
		sent.done = true
		l := sent.letter
		if l == nil {
			return nil
		}
		l.done, l.read = true, true
		if l.saving {
			saved = append(saved, l.seq)
		}
		return l
	}
	next := first
	for _, pair := range r.Handled { // by their first ones, so that each number is looked at once
		for next = max(next, pair[0]); next <= min(pair[1], end-1); next++ {
			if l := finish(next); l != nil {
				l.handled = true
				n.settle(l)
			}
		}
	}
	for _, failed := range r.Failed {
		if l := finish(failed.Number); l != nil {
			n.settle(l) // who did not want to know more has what he wanted
			n.fail(l, failed.Error, failed.Reason)
		}
	}
	for b.letters.Len() > 0 && b.letters.All()[0].done {
		if l := b.pop(); l != nil && !l.saving { // else the store has it, too
			l.free()
		}
	}
	if len(saved) > 0 {
		b.office.store.Delete(b.member.id, saved, nil)
	}
	if b.onDisk {
		b.office.loadSoon(b)
	}
}

// pop returns the first of those that were sent; nil for one that was spent.
func (b *mailbox) pop() *letter {
	sent := b.letters.Pop()
	b.bytes -= sent.cost
	b.office.unreported.Add(-int64(sent.cost))
	return sent.letter
}

// beginSave counts a letter that is about to be written to disk.
func (b *mailbox) beginSave(l *letter) {
	l.saving = true
	b.saving++
	b.saves++
}

// saveNow has a letter written to disk. What goes behind all others is saved with mu
// held, so that whatever is on disk, what is in front of it is there too.
func (b *mailbox) saveNow(l *letter) {
	b.beginSave(l)
	b.write(l)
}

// write has a letter written to disk, for which beginSave was called. It needs no lock.
func (b *mailbox) write(l *letter) {
	b.office.store.Put(b.member.id, backlog.Message{Seq: l.seq, Time: time.Now(), Meta: l.meta(), Data: l.data}, func(err error) {
		var n notices
		b.saved(l, err, &n)
		b.office.sendLater(&n)
		if err != nil {
			b.office.saveFailed(err)
		}
	})
}

// saved is called when a letter is on disk, or cannot be.
func (b *mailbox) saved(l *letter, err error, n *notices) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saving--
	b.saves++
	if l.returns {
		l.returns = false
		b.back--
	}
	if err == nil {
		l.saved = true
		b.office.srv.stats.kept.Add(1)
		n.settle(l)
	} else {
		l.saving = false
		l.at = b.office.hub.now() + int64(saveAgainAfter)
		if !l.sent { // else it may still be handled
			delete(b.behind, l.seq)
			n.fail(l, saveFailure(err), "")
			b.office.srv.stats.undelivered.Add(1)
		}
	}
	if b.onDisk {
		b.office.loadSoon(b)
	}
}

// saveFailure is what the sender of a letter is told that cannot be saved.
func saveFailure(err error) failure {
	switch {
	case errors.Is(err, backlog.ErrTooLarge):
		return failedTooLarge
	case errors.Is(err, backlog.ErrClosed):
		return failedOffline
	}
	return failedFull
}

// freePlaces returns how many more letters may be sent on the connection now.
func (b *mailbox) freePlaces() int {
	free := maxUnreported - b.letters.Len()
	if b.to != nil && !b.to.agreed {
		free = min(free, maxUnansweredPlain-int(b.to.numbered-b.asked.answered))
	}
	return free
}

// spill saves the letters that have been in memory alone for too long, and reports
// whether there are any that may yet be.
func (b *mailbox) spill() (more bool) {
	now := b.office.hub.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, sent := range b.letters.All() {
		l := sent.letter
		switch {
		case l == nil || l.saved || l.done || !l.keep:
		case l.saving:
			more = true // it may fail
		case now-l.at >= int64(spillAfter):
			b.saveNow(l) // in front of it all others are saved, or about to be
			more = true
		default:
			return true
		}
	}
	b.watched = more
	return more
}

// attach makes p the connection on which letters are sent. sendWaiting must follow when
// others can find it: what was to be loaded before was not.
func (b *mailbox) attach(p *peer, n *notices) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.to == p {
		return
	}
	b.leave(n)
	b.to = p
	b.readTo, b.asked = p.numbered, question{answered: p.numbered}
}

// detach is called when the connection p has ended, or has no client any more.
func (b *mailbox) detach(p *peer, n *notices) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.to == p {
		b.leave(n)
	}
}

// leave gives up the connection. The letters that were not reported are saved, in
// front of those that are on disk, or have failed.
func (b *mailbox) leave(n *notices) {
	b.to = nil
	b.asked.stop()
	var lost []*letter
	first := true
	for b.letters.Len() > 0 {
		l := b.pop()
		if l == nil || l.done {
			continue
		}
		l.sent = false
		if !l.keep {
			lost = append(lost, l)
			continue
		}
		if first {
			first = false
			b.loaded = l.seq - 1
		}
		if !l.saving {
			b.beginSave(l)
			b.given = append(b.given, l)
		}
		if !l.saved {
			l.returns = true
			b.back++
		}
	}
	b.giveUp(lost, failedOffline, "its connection was lost", n)
	if len(b.given) > 0 {
		n.saves = append(n.saves, b)
	}
	if !first {
		b.setOnDisk(true)
	}
}

// giveUp has letters fail, and with them those that are on disk only because others are,
// or were, in front of them. Nobody shall have any of them later.
func (b *mailbox) giveUp(lost []*letter, why failure, reason string, n *notices) {
	lost = slices.AppendSeq(lost, maps.Values(b.behind))
	b.behind = nil
	var onDisk []uint64
	for _, l := range lost {
		n.fail(l, why, reason)
		if l.saving {
			onDisk = append(onDisk, l.seq)
		}
	}
	if len(onDisk) > 0 {
		b.back++ // as long as they are there, they would be read
		b.office.store.Delete(b.member.id, onDisk, func(error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.back--; b.onDisk {
				b.office.loadSoon(b)
			}
		})
	}
}

// saveGiven has the letters written to disk that were given back.
func (b *mailbox) saveGiven() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writeGiven()
}

// writeGiven is saveGiven with mu held.
func (b *mailbox) writeGiven() {
	for _, l := range b.given {
		b.write(l)
	}
	b.given = nil
}

// cancel gives up a request that waits for the client, which is nil if none is known, and
// reports whether there is one.
func (m *member) cancel(from *member, msgID []byte, n *notices) bool {
	if m == nil {
		return false
	}
	b := m.mailbox.Load()
	return b != nil && b.cancel(from, msgID, n)
}

// cancel gives up a request that is on disk behind others, and reports whether there is
// one. If load has just read it, sendLoaded does not find it any more.
func (b *mailbox) cancel(from *member, msgID []byte, n *notices) bool {
	key := dedup.Of(msgID)
	b.mu.Lock()
	defer b.mu.Unlock()
	for seq, l := range b.behind {
		if l.group == nil && l.from == from && l.key == key {
			delete(b.behind, seq)
			n.fail(l, failedExpired, "it was cancelled")
			b.office.store.Delete(b.member.id, []uint64{seq}, nil)
			return true
		}
	}
	return false
}

// dropped is called when a letter is on disk no longer, since it was too old or newer ones
// needed the room, and reports whether the mailbox has it: then its sender is told by what
// becomes of it here.
func (b *mailbox) dropped(seq uint64, n *notices) (known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone != nil {
		b.gone[seq] = true
	}
	if l := b.behind[seq]; l != nil {
		delete(b.behind, seq)
		n.fail(l, failedExpired, "")
		return true
	}
	for _, sent := range b.letters.All() {
		if l := sent.letter; l != nil && l.seq == seq {
			l.keep = false // it ends with the connection
			return true
		}
	}
	return false
}

// sendWaiting is called when the client has come, and when it gives a sign of life while
// letters wait.
func (b *mailbox) sendWaiting() {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Also if letters are on their way, whose reports have it called, too: the client may
	// work on one of them for long, and what was sent while it was silent waits.
	if places, _ := b.roomToLoad(); places > 0 {
		b.office.loadSoon(b)
	}
}

package crosscomm

import (
	"sync"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/backlog"
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
	// loadedAtOnce and loadedBytesAtOnce bound what is read from disk in one go.
	loadedAtOnce      = 256
	loadedBytesAtOnce = 1 << 20
	// spillAfter is how long a letter may be unreported in memory alone. A receiver
	// that keeps up reports sooner, and nothing goes to disk.
	spillAfter = 20 * time.Millisecond
)

// mailbox has the letters for one client, in the order in which they came: those that
// were sent on its connection and are not reported yet, and behind them those that
// wait on disk. While any wait there, what comes goes behind them.
//
// Its methods put what is to be told to senders into notices, which are sent when no
// lock is held any more.
type mailbox struct {
	member *member
	office *deliveries

	loadDue bool // guarded by deliveries.mu

	mu      sync.Mutex
	to      *peer               // the connection that letters are sent on; nil for none
	letters fifo.Queue[*letter] // those that were sent on it
	bytes   int                 // what they cost
	onDisk  bool                // whether others wait on disk; member.waiting says the same
	loaded  uint64              // the seq up to which none of those has one
	saving  int                 // how many letters are on their way to the disk
	watched bool                // whether it is looked for letters to save
	readTo  uint64              // the number up to which the client has read
	asked   question            // of a plain connection
}

// put takes a letter, which is the mailbox's if it is taken. It is sent on the connection, together with what the peer via
// has forwarded, if it may go at once; via is nil if nobody's input has brought it.
// The failure says why it is not taken. If it goes to disk, whoever brings letters
// should wait for room there.
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
	case !room && b.office.store == nil:
		return failedFull, false
	}
	l.seq, l.at = b.office.seq.Add(1), now // they ascend, also if there was another mailbox for this id
	if present && room && !b.onDisk {
		b.loaded = l.seq
		b.send(l, text, via, n)
		n.settle(l)
		l.own(l.keep)
		if l.keep && !b.watched {
			b.watched = true
			b.office.watch(b)
		}
		return "", false
	}
	l.keep = true // what is in front of it is on disk
	b.setOnDisk(true)
	b.save(l)
	l.own(false)
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
	if len(text) > p.takes {
		return nil, failedTooLarge
	}
	return text, ""
}

// send sends a letter, which gets its number.
func (b *mailbox) send(l *letter, text []byte, via *peer, n *notices) {
	p := b.to
	p.numbered++
	l.number = p.numbered
	b.letters.Push(l)
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
		l := letters[b.readTo+1-first]
		b.readTo++
		if l.read = true; !l.done {
			n.settle(l)
		}
	}
	var saved []uint64
	finish := func(number uint64) *letter {
		if number < first || number >= end {
			return nil
		}
		l := letters[number-first]
		if l.done {
			return nil
		}
		l.done, l.read = true, true
		if l.saving {
			saved = append(saved, l.seq)
		}
		return l
	}
	for _, pair := range r.Handled {
		for number := max(pair[0], first); number <= pair[1] && number < end; number++ {
			if l := finish(number); l != nil {
				l.handled = true
				n.settle(l)
			}
		}
	}
	for _, failed := range r.Failed {
		if l := finish(failed.number); l != nil {
			n.settle(l) // who did not want to know more has what he wanted
			n.fail(l, failed.failure, failed.reason)
		}
	}
	for b.letters.Len() > 0 && b.letters.All()[0].done {
		if l := b.pop(); !l.saving { // else the store has it, too
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

func (b *mailbox) pop() *letter {
	l := b.letters.Pop()
	b.bytes -= l.cost()
	b.office.unreported.Add(-int64(l.cost()))
	return l
}

// save has a letter written to disk.
func (b *mailbox) save(l *letter) {
	l.saving = true
	b.saving++
	b.office.store.Put(b.member.id, backlog.Message{Seq: l.seq, Time: time.Now(), Meta: l.meta(), Data: l.data}, func(err error) {
		var n notices
		b.saved(l, err, &n)
		b.office.sendLater(&n)
	})
}

// saved is called when a letter is on disk, or cannot be.
func (b *mailbox) saved(l *letter, err error, n *notices) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saving--
	if err == nil {
		l.saved = true
		n.settle(l)
	} else {
		l.saving = false
		b.office.saveFailed(err)
		if l.number == 0 { // else it may still be handled
			n.fail(l, failedFull, "it cannot be written to the server's disk")
		}
	}
	if b.onDisk {
		b.office.loadSoon(b)
	}
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
	for _, l := range b.letters.All() {
		switch {
		case l.saving || l.done || !l.keep:
		case now-l.at >= int64(spillAfter):
			l.at = now // it is tried again if it fails
			b.save(l)
			more = true
		default:
			return true
		}
	}
	b.watched = more
	return more
}

// attach makes p the connection on which letters are sent.
func (b *mailbox) attach(p *peer, n *notices) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.to == p {
		return
	}
	b.leave(n)
	b.to = p
	b.readTo, b.asked = p.numbered, question{answered: p.numbered}
	if b.onDisk {
		b.office.loadSoon(b)
	}
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
	first := true
	for b.letters.Len() > 0 {
		l := b.pop()
		switch {
		case l.done:
			continue
		case !l.keep:
			n.fail(l, failedOffline, "its connection was lost")
			continue
		case l.group != nil:
			// It is kept, but whoever counts receivers does not wait for this one.
			n.fail(l, failedOffline, "its connection was lost")
		}
		if first {
			first = false
			b.loaded = l.seq - 1
		}
		if l.number = 0; !l.saving {
			b.save(l)
		}
	}
	if !first {
		b.setOnDisk(true)
	}
}

// sendWaiting is called when the client gives a sign of life, and letters wait.
func (b *mailbox) sendWaiting() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.letters.Len() == 0 { // else its reports have it called
		b.office.loadSoon(b)
	}
}

// load sends letters that are on disk, as far as there is room. It is called by one
// goroutine only, and reports whether it should be called again at once.
func (b *mailbox) load(n *notices) (again bool) {
	b.mu.Lock()
	after, to := b.loaded, b.to
	free := b.freePlaces()
	ready := b.onDisk && b.present(b.office.hub.now()) && free >= maxUnansweredPlain/2 && b.bytes <= maxUnreportedBytes/2
	b.mu.Unlock()
	if !ready {
		return false
	}
	messages, err := b.office.store.Load(b.member.id, after, min(free, loadedAtOnce), loadedBytesAtOnce)
	if err != nil {
		b.office.loadFailed(b, err)
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.to != to || b.loaded != after {
		return true
	}
	if len(messages) == 0 {
		if b.saving == 0 { // else what is being saved has it called again
			b.setOnDisk(false)
		}
		return false
	}
	for _, m := range messages {
		l := b.office.restored(m)
		b.loaded = l.seq
		text, why := textFor(to, l)
		if why == "" && isLate(m) {
			why = failedExpired
		}
		if why != "" {
			n.fail(l, why, "")
			b.office.store.Delete(b.member.id, []uint64{l.seq}, nil)
			continue
		}
		b.send(l, text, nil, n)
	}
	return true
}

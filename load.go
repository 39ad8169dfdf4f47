package crosscomm

import (
	"time"

	"github.com/crosscomm/crosscomm-go/internal/backlog"
	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// How what waits on disk is read.
const (
	// loadedAtOnce and loadedBytesAtOnce bound what is read from disk in one go.
	loadedAtOnce      = 256
	loadedBytesAtOnce = 1 << 20
	// leastLoaded is what a client is sent that has nothing else, whatever there is room for.
	leastLoaded = 32 << 10
	// mostMisses is how often it is tried to read what is on disk.
	mostMisses = 3
	// loadAgainAfter is when what could not be read from disk is tried again.
	loadAgainAfter = 300 * time.Millisecond
)

// loadedLetter is a letter that was on disk, and how a connection gets it, or why not.
type loadedLetter struct {
	*letter
	text    []byte
	why     failure
	request bool // whether it is one
}

// restored makes a letter of what is on disk, for the connection to.
func (d *deliveries) restored(m backlog.Message, to *peer) loadedLetter {
	from, known := d.senderOf(m.Meta)
	l := newLetter(from, m.Data, true)
	l.seq, l.at, l.saving, l.saved, l.told = m.Seq, d.hub.now(), true, true, !known
	text, why := textFor(to, l)
	request, late := requestIn(m)
	if why == "" && late {
		why = failedExpired
	}
	return loadedLetter{l, text, why, request}
}

// requestIn reports whether what is on disk is a request, and whether it is one for which
// nobody waits any more.
func requestIn(m backlog.Message) (request, late bool) {
	f, err := frame.ScanAgreed(m.Data, frame.MaxDepth)
	if err != nil {
		return false, false
	}
	h, err := parseHeaders(f)
	request = err == nil && h.Request && h.QueuedAs == ""
	lasts := h.lasts()
	return request, request && lasts > 0 && time.Since(m.Time) > lasts
}

// load sends letters that are on disk, as far as there is room. It is called by one
// goroutine only, and reports whether it should be called again at once.
func (b *mailbox) load(n *notices) (again bool) {
	b.mu.Lock()
	after, to, saves := b.loaded, b.to, b.saves
	places, bytes := b.roomToLoad()
	if places > 0 {
		b.gone = map[uint64]bool{}
	}
	b.mu.Unlock()
	if places == 0 {
		return false
	}
	messages, err := b.office.store.Load(b.member.id, after, places, bytes)
	// Before the lock: to find a sender takes that of the hub.
	letters := make([]loadedLetter, len(messages))
	for i, m := range messages {
		letters[i] = b.office.restored(m, to)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	gone := b.gone
	b.gone = nil
	if b.to != to || b.loaded != after {
		return true
	}
	if err != nil {
		b.cannotLoad(err, n)
		return false
	}
	b.misses = 0
	if len(letters) == 0 {
		if b.saves != saves {
			return true // one may have got there after it was looked
		}
		if b.saving == 0 { // else what is being saved has it called again
			b.endOnDisk(n)
		}
		return false
	}
	for _, found := range letters {
		if b.loaded = found.seq; !gone[found.seq] {
			b.sendLoaded(found, n)
		}
	}
	return true
}

// roomToLoad returns how many letters may be read from disk now, of how many bytes; 0
// for none.
func (b *mailbox) roomToLoad() (places, bytes int) {
	free := b.freePlaces()
	switch {
	case !b.onDisk, b.back > 0, !b.present(b.office.hub.now()), free < maxUnansweredPlain/2, b.bytes > maxUnreportedBytes/2:
		return 0, 0
	}
	bytes = min(loadedBytesAtOnce, b.office.roomInAll()-b.bytes)
	if b.letters.Len() == 0 { // then nothing else would have it called again
		bytes = max(bytes, leastLoaded)
	}
	if bytes <= 0 {
		return 0, 0
	}
	return min(free, loadedAtOnce), bytes
}

// sendLoaded sends a letter that was on disk.
func (b *mailbox) sendLoaded(found loadedLetter, n *notices) {
	l := found.letter
	switch waits := b.behind[l.seq]; {
	case waits != nil:
		delete(b.behind, l.seq)
		l.sender, l.told, l.keep = waits.sender, waits.told, false
	case found.request: // of a run that was killed: who still wants an answer has asked again
		b.office.store.Delete(b.member.id, []uint64{l.seq}, nil)
		return
	}
	if found.why != "" {
		n.settle(l) // who did not want to know more has what he wanted
		n.fail(l, found.why, "")
		b.office.store.Delete(b.member.id, []uint64{l.seq}, nil)
		return
	}
	b.send(l, found.text, nil, n)
	l.data = nil // it is on disk as long as it may be needed
}

// cannotLoad is called when what is on disk cannot be read. It is tried again, but
// not for ever: then the client has at least what comes from now on.
func (b *mailbox) cannotLoad(err error, n *notices) {
	b.misses++
	givenUp := b.misses >= mostMisses
	if givenUp {
		b.misses, b.loaded = 0, b.office.seq.Load()
		b.endOnDisk(n)
	}
	n.misses = append(n.misses, miss{b, err, givenUp})
}

// endOnDisk is called when nothing more comes from disk. What was to come from there all
// the same is damaged, or too old.
func (b *mailbox) endOnDisk(n *notices) {
	b.setOnDisk(false)
	b.giveUp(nil, failedExpired, "it cannot be read from disk", n)
}

// miss is that what is on disk for a client could not be read.
type miss struct {
	box     *mailbox
	err     error
	givenUp bool
}

func (d *deliveries) missed(m miss) {
	if m.givenUp {
		d.srv.s.log.Error("what waits for a client cannot be read; newer messages pass it by", "client_id", m.box.member.id, "error", m.err)
		return
	}
	d.srv.stats.warnings.warn(d.srv.s.log, "what waits for a client cannot be read; it is tried again", "client_id", m.box.member.id, "error", m.err)
	time.AfterFunc(loadAgainAfter, func() { d.loadSoon(m.box) })
}

package crosscomm

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/backlog"
	"github.com/crosscomm/crosscomm-go/internal/dedup"
)

const (
	// noticesAfter is how long what becomes known of letters in the background is
	// collected, so that one frame tells of many.
	noticesAfter = time.Millisecond
	// togetherAfter is the same for senders that have several messages under way.
	togetherAfter = 4 * time.Millisecond
	// spillEvery is how often it is looked for letters that must go to disk.
	spillEvery = spillAfter / 2
	// expireEvery is how often it is looked for those that are too old.
	expireEvery = time.Minute
)

// deliveries are what a run of the server knows of letters: the mailboxes' disk, and
// the goroutine that does what nobody's input brings.
//
// The order in which locks are taken is: hub.mu, mailbox.mu, and then one of
// deliveries.mu, outgoing.mu, a broadcast's, a link's or the store's own. The store calls what it was
// given with none held. Nothing is logged, and nobody is told, with one of them held:
// that is what notices are for.
type deliveries struct {
	srv        *server
	hub        *hub
	store      *backlog.Store // nil for none: then nothing waits for who is away
	closed     atomic.Bool    // whether it is that of a run that has ended
	unreported atomic.Int64   // bytes of letters that were sent
	seq        atomic.Uint64  // the last one that a letter got
	ids        atomic.Uint64  // the last one of nextID

	wake chan struct{} // holds a token if there is something to do

	mu    sync.Mutex
	loads []*mailbox        // that may be sent what is on disk
	young map[*mailbox]bool // that may have letters in memory alone
	due   notices           // to be sent soon
	later notices           // to be sent after togetherAfter
}

// openDeliveries opens the queues on disk, if there shall be any.
func (srv *server) openDeliveries() (*deliveries, error) {
	d := &deliveries{srv: srv, hub: srv.hub, wake: make(chan struct{}, 1), young: map[*mailbox]bool{}}
	d.ids.Store(uint64(time.Now().UnixMicro())) // beyond those of earlier runs
	cfg := srv.s.cfg
	if cfg.DataDir == "" || cfg.Queues.Off {
		return d, nil
	}
	var err error
	d.store, err = backlog.Open(filepath.Join(cfg.DataDir, "queues.db"), backlog.Options{
		MaxAge:      cfg.Queues.MaxAge,
		MaxMessages: cfg.Queues.MaxMessages,
		MaxBytes:    cfg.Queues.MaxBytes,
		MaxTotal:    cfg.Queues.MaxTotalBytes,
		Dropped:     d.dropped,
		Logger:      srv.s.log,
	})
	if errors.Is(err, backlog.ErrInUse) {
		err = ErrInUse
	}
	return d, err
}

// mailboxFor returns the mailbox of a client if it has one, or needs one.
func (d *deliveries) mailboxFor(m *member) *mailbox {
	if b := m.mailbox.Load(); b != nil && !b.office.closed.Load() {
		return b
	}
	if d.store != nil {
		if _, waiting := d.store.Last(m.id); waiting {
			return d.mailboxOf(m)
		}
	}
	return nil
}

// mailboxOf returns the mailbox of a client, which is made if it is not there.
func (d *deliveries) mailboxOf(m *member) *mailbox {
	before := m.mailbox.Load()
	if before != nil && !before.office.closed.Load() {
		return before
	}
	b := &mailbox{member: m, office: d}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !m.mailbox.CompareAndSwap(before, b) {
		return m.mailbox.Load()
	}
	if d.store != nil {
		if _, waiting := d.store.Last(m.id); waiting {
			b.setOnDisk(true)
		}
	}
	// hub.claim looks for the mailbox after it has set the connection.
	if b.to = m.peer.Load(); b.to != nil {
		b.readTo, b.asked.answered = b.to.numbered, b.to.numbered
	}
	return b
}

// keeps reports whether also a message for which nobody wants a receipt goes by the
// mailbox of the client, which is nil if none is known, rather than straight to its
// connection.
func (d *deliveries) keeps(m *member) bool {
	return m != nil && (m.waiting.Load() || d.store != nil && d.srv.s.cfg.Queues.Unread)
}

// bring puts a letter into the mailbox of a client, which is nil if none is known.
func (d *deliveries) bring(m *member, l *letter, via *peer, n *notices) (why failure, toDisk bool) {
	l.keep = l.keep && d.store != nil
	if why = failedUnknown; m != nil {
		why, toDisk = d.mailboxOf(m).put(l, via, n)
	}
	return why, toDisk
}

// newBroadcast makes the counts of a message to all, of which its sender is told.
func (d *deliveries) newBroadcast(s sender) *broadcast {
	return newBroadcast(func(counts Receipt) {
		var n notices
		n.verdict(&s, notice{msgID: s.msgID, stage: s.want, counts: &counts})
		d.sendLater(&n)
	})
}

// nextID returns an id for a message whose own one need not be unique.
func (d *deliveries) nextID() string { return strconv.FormatUint(d.ids.Add(1), 36) }

// hasRoom reports whether a letter may be in memory, too. The less is left for all, the
// less one may have, and never more than what is left: so those who report nothing do
// not take the room of the others.
func (d *deliveries) hasRoom(b *mailbox, l *letter) bool {
	bytes := b.bytes + l.cost()
	switch {
	case bytes > d.roomInAll():
		return false
	case d.store == nil:
		return bytes <= d.srv.s.cfg.Limits.QueuedBytes
	}
	return b.letters.Len() == 0 || b.freePlaces() > 0 && bytes <= maxUnreportedBytes
}

// roomInAll returns how many bytes of letters may yet be in memory.
func (d *deliveries) roomInAll() int {
	return d.srv.s.cfg.Limits.TotalQueuedBytes - int(d.unreported.Load())
}

// watch has letters that are not reported soon saved.
func (d *deliveries) watch(b *mailbox) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.young[b] = true
	d.rouse()
}

// loadSoon has the mailbox send what is on disk.
func (d *deliveries) loadSoon(b *mailbox) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.loadDue {
		return
	}
	b.loadDue = true
	d.loads = append(d.loads, b)
	d.rouse()
}

// sendLater has senders told, soon.
func (d *deliveries) sendLater(n *notices) {
	if n.none() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.due.merge(n)
	d.rouse()
}

// sendTogether is sendLater for who does not wait for each.
func (d *deliveries) sendTogether(n *notices) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.later.none() {
		d.rouse()
	}
	d.later.merge(n)
}

// takeLater returns what was collected for togetherAfter.
func (d *deliveries) takeLater() (n notices) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, d.later = d.later, notices{}
	return n
}

func (d *deliveries) hasLater() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.later.none()
}

func (d *deliveries) rouse() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// expire drops what is too old.
func (d *deliveries) expire() {
	d.hub.expireOutgoing()
	if d.store != nil {
		d.store.Expire()
	}
}

// run does what is to be done in the background until ctx ends.
func (d *deliveries) run(ctx context.Context) {
	var spill, together <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
			if !d.hasLoads() && d.hasDue() {
				sleep(ctx, noticesAfter) // more may come
			}
		case <-spill:
			spill = nil
			d.spill()
		case <-together:
			together = nil
			n := d.takeLater()
			n.send(d.srv, nil)
		}
		d.sendDue()
		d.load()
		if together == nil && d.hasLater() {
			together = time.After(togetherAfter)
		}
		if spill == nil && d.hasYoung() {
			spill = time.After(spillEvery)
		}
	}
}

func (d *deliveries) sendDue() {
	d.mu.Lock()
	due := d.due
	d.due = notices{}
	d.mu.Unlock()
	due.send(d.srv, nil)
}

func (d *deliveries) hasLoads() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.loads) > 0
}

func (d *deliveries) hasDue() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.due.none()
}

func (d *deliveries) hasYoung() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.young) > 0
}

func (d *deliveries) spill() {
	d.mu.Lock()
	young := d.young
	d.young = map[*mailbox]bool{}
	d.mu.Unlock()
	for b := range young {
		if b.spill() {
			d.mu.Lock()
			d.young[b] = true
			d.mu.Unlock()
		}
	}
}

// load has mailboxes send what is on disk. Each gets one turn, and then comes what else
// there is to do.
func (d *deliveries) load() {
	d.mu.Lock()
	boxes := d.loads
	d.loads = nil
	for _, b := range boxes {
		b.loadDue = false
	}
	d.mu.Unlock()
	for _, b := range boxes {
		var n notices
		again := b.load(&n)
		n.send(d.srv, nil)
		if again {
			d.loadSoon(b)
		}
	}
}

// senderOf returns who has sent what is on disk with this meta, and whether there is
// anybody to be told of it.
func (d *deliveries) senderOf(meta []byte) (s sender, known bool) {
	from, msgID, want, ok := parseMeta(meta)
	if !ok {
		return sender{}, false
	}
	s = sender{msgID: msgID, key: dedup.Of(msgID), want: want}
	if from != "" {
		s.from = d.hub.member([]byte(from))
	}
	return s, from == "" || s.from != nil
}

// dropped is called by the store for a message that it keeps no longer. Who has it on its
// way may yet handle it.
func (d *deliveries) dropped(client string, seq uint64, meta []byte) {
	d.srv.stats.expired.Add(1)
	var n notices
	if from, known := d.senderOf(meta); !d.isKnown(client, seq, &n) && known {
		n.fail(&letter{sender: from}, failedExpired, "")
	}
	d.sendLater(&n)
}

// isKnown reports whether a letter that was dropped is in the client's mailbox.
func (d *deliveries) isKnown(client string, seq uint64, n *notices) bool {
	m := d.hub.member([]byte(client))
	if m == nil {
		return false
	}
	b := m.mailbox.Load()
	return b != nil && b.dropped(seq, n)
}

func (d *deliveries) saveFailed(err error) {
	d.srv.stats.warnings.warn(d.srv.s.log, "a message cannot be kept for its receiver", "error", err)
}

// close is called when no connection is left. What is on its way to the disk gets
// there.
func (d *deliveries) close() error {
	d.closed.Store(true) // whoever still has it gets no mailbox of the next run's
	var err error
	if d.store != nil {
		err = d.store.Close()
	}
	d.hub.forgetMailboxes()
	return err
}

// addWaiting adds the clients for which something waits to those that are known, before
// the run has any others.
func (d *deliveries) addWaiting() {
	if d.store != nil {
		ids := d.store.Clients()
		for _, id := range ids {
			last, _ := d.store.Last(id)
			d.seq.Store(max(d.seq.Load(), last))
		}
		d.hub.expect(append(ids, d.srv.s.cfg.Queues.Clients...))
	}
}

package crosscomm

import (
	"sync"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/dedup"
)

// notices collects what senders are to be told, and what has become of connections
// meanwhile, while locks are held. The zero value is ready.
type notices struct {
	of      []noticesOf
	refused []refusal
	saves   []*mailbox // that have letters to be written to disk
	misses  []miss     // to be logged, and tried again
}

// noticesOf are those of one sender.
type noticesOf struct {
	to   *member // nil for this server
	list *noticeList
}

// noticeList is of noticeLists: each burst needs one, which is long in some.
type noticeList struct {
	notices []notice
	ids     []byte // their msgIDs, as letters are used again
}

var noticeLists = sync.Pool{New: func() any { return new(noticeList) }}

func (l *noticeList) add(what notice) {
	at := len(l.ids)
	l.ids = append(l.ids, what.msgID...) // when it moves, those before stay where they are
	what.msgID = l.ids[at:]
	l.notices = append(l.notices, what)
}

// A sender that has several messages under way does not wait for each, and is told of
// them together with those that follow; else a frame for each burst would cost as much as
// the burst. One that was told just now is told a little later.
const toldJustNow = 250 * time.Microsecond

// wasToldJustNow reports whether the sender was, and else notes that it is now.
func (s noticesOf) wasToldJustNow(now int64) bool {
	if now-s.to.toldAt.Load() < int64(toldJustNow) {
		return true
	}
	s.to.toldAt.Store(now)
	return false
}

// refusal is the error of a queue that a message did not get into.
type refusal struct {
	p   *peer
	err error
}

func (n *notices) none() bool {
	return len(n.of) == 0 && len(n.refused) == 0 && len(n.saves) == 0 && len(n.misses) == 0
}

// sent notes what became of a message for p.
func (n *notices) sent(p *peer, err error) {
	if err != nil {
		n.refused = append(n.refused, refusal{p, err})
	}
}

// settle has the sender of a letter told, if it has come as far as he wants to know.
func (n *notices) settle(l *letter) {
	reached := l.reached()
	if l.told || l.want == Sent || reached < l.want {
		return
	}
	l.told = true
	if l.group != nil {
		l.group.end(l.want, false)
		return
	}
	n.verdict(&l.sender, notice{msgID: l.msgID, stage: l.want})
}

// fail has the sender told that the letter comes no further.
func (n *notices) fail(l *letter, why failure, reason string) {
	if l.told || l.want == Sent {
		return
	}
	l.told = true
	if l.group != nil {
		l.group.end(min(l.reached(), l.want), true)
		return
	}
	n.verdict(&l.sender, notice{msgID: l.msgID, failure: why, reason: limitReason(reason)})
}

// verdict notes what a sender is told at last, unless it was told something else already.
func (n *notices) verdict(s *sender, what notice) {
	if s.from == nil || s.from.outgoing.decide(s, what) {
		n.add(s.from, what)
	}
}

// add notes what the client is told. It copies the msgID.
func (n *notices) add(to *member, what notice) {
	for _, of := range n.of {
		if of.to == to {
			of.list.add(what)
			return
		}
	}
	list := noticeLists.Get().(*noticeList)
	list.add(what)
	n.of = append(n.of, noticesOf{to, list})
}

// merge moves the other ones here.
func (n *notices) merge(other *notices) {
	for _, of := range other.of {
		for _, what := range of.list.notices {
			n.add(of.to, what)
		}
		of.free()
	}
	n.refused = append(n.refused, other.refused...)
	n.saves = append(n.saves, other.saves...)
	n.misses = append(n.misses, other.misses...)
	*other = notices{}
}

// free gives up the list, and with it the msgIDs.
func (of noticesOf) free() {
	clear(of.list.notices) // what it tells of would be kept from the collector
	of.list.notices, of.list.ids = of.list.notices[:0], of.list.ids[:0]
	noticeLists.Put(of.list)
}

// send tells all of them, together with what the peer via has forwarded, if there is
// one. No lock may be held. Then there are none.
func (n *notices) send(srv *server, via *peer) {
	of, refused, saves, misses := n.of, n.refused, n.saves, n.misses
	*n = notices{}
	for _, b := range saves {
		b.saveGiven()
	}
	for _, m := range misses {
		m.box.office.missed(m)
	}
	for _, r := range refused {
		srv.outcome(r.p, r.err)
	}
	for _, s := range of {
		switch {
		case via == nil || s.to == nil:
		case len(s.list.notices) > 1:
			via.run.deliveries.sendTogether(&notices{of: []noticesOf{s}})
			continue
		case s.wasToldJustNow(srv.hub.now()):
			via.run.deliveries.sendLater(&notices{of: []noticesOf{s}})
			continue
		}
		if s.to == nil {
			srv.own.settle(s.list.notices)
		} else if p := s.to.peer.Load(); p != nil && p.agreed { // else it asks when it is back
			srv.sendReceipts(p, s.to.id, s.list.notices, via)
		}
		s.free()
	}
}

// maxNoticesInFrame bounds the size of a receipt.
const maxNoticesInFrame = 256

// receiptTexts are rooms for the contents of receipts.
var receiptTexts = sync.Pool{New: func() any { return new([]byte) }}

// sendReceipts tells the client of the id, whose connection p is.
func (srv *server) sendReceipts(p *peer, id string, list []notice, via *peer) {
	content := receiptTexts.Get().(*[]byte)
	defer receiptTexts.Put(content)
	for len(list) > 0 {
		part := list[:min(len(list), maxNoticesInFrame)]
		*content = appendReceipt((*content)[:0], part)
		data := srv.s.newFrame(typeReceipt, id, *content)
		for len(data) > p.takes && (len(part) > 1 || part[0].reason != "") {
			if len(part) > 1 {
				part = part[:len(part)/2]
			} else {
				part[0].reason = "" // rather than to end its link, again and again
			}
			*content = appendReceipt((*content)[:0], part)
			data = srv.s.newFrame(typeReceipt, id, *content)
		}
		list = list[len(part):]
		if via == nil {
			srv.tell(p, data)
			continue
		}
		out := via.link.NewFrame(data)
		if srv.forward(p, &out, via) {
			srv.stats.delivered.Add(1)
		}
	}
}

// outgoing remembers the tracked messages of a sender, so that none is relayed twice.
// The zero value is ready.
type outgoing struct {
	mu     sync.Mutex
	window *dedup.Window[decision]
	counts *dedup.Window[*Receipt] // of messages to all, without times; nil before there is one
}

// decision is what a sender is told of a message, but for the reason of a failure. The
// zero value is for what is not known yet. It is so small because most of what a receipt
// costs is to get at the windows of all senders, which no processor's cache has room for.
type decision struct {
	stage   uint8 // a Stage
	failure uint8 // its code
	counted bool  // whether outgoing.counts has more
}

// begin returns the place of a new message, and for one that is not new 0 and what its
// sender is to be told, which is nil for not yet.
func (o *outgoing) begin(key dedup.Key, now int64) (place uint64, what *notice) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.window == nil {
		o.window = dedup.New[decision](maxRemembered, rememberFor)
	}
	if d, ok := o.window.Get(key, now); ok {
		if *d == (decision{}) {
			return 0, nil
		}
		what = &notice{stage: Stage(d.stage), failure: tellable[d.failure]}
		if d.counted {
			if counts, ok := o.counts.Get(key, 0); ok {
				what.counts = *counts
			}
		}
		return 0, what
	}
	return o.window.Add(key, now, decision{}), nil
}

// decide notes what the sender is told, and reports whether that is so: another answer
// that it was given before holds. Of a message that is on disk, and may be on its way or have been handled
// without its being known, there may be more than one outcome.
func (o *outgoing) decide(s *sender, what notice) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.window == nil {
		return true // the server has been started since
	}
	d, ok := o.window.At(s.place, s.key)
	if !ok {
		d, ok = o.window.Get(s.key, 0)
	}
	if !ok {
		return true
	}
	before := *d
	*d = decision{uint8(what.stage), what.failure.code(), what.counts != nil}
	if before != (decision{}) && before != *d {
		*d = before
		return false
	}
	if d.counted {
		if o.counts == nil {
			o.counts = dedup.New[*Receipt](maxRemembered, rememberFor)
		}
		o.counts.Add(s.key, 0, what.counts) // window knows how old they are
	}
	return true
}

// expire forgets what is too old. It is for senders that send no more.
func (o *outgoing) expire(now int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.window == nil {
		return
	}
	if o.window.Expire(now); o.window.Len() == 0 {
		o.window, o.counts = nil, nil
	}
}

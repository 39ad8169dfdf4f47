package crosscomm

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/backlog"
	"github.com/crosscomm/crosscomm-go/internal/dedup"
	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// rememberFor is how long a tracked message is remembered, so that a repetition is
// known as one.
const rememberFor = 10 * time.Minute

// routeTracked brings a message whose sender wants a receipt to whom it is for, and
// returns to how many clients.
func (p *peer) routeTracked(f frame.Frame, data []byte, h headers) (receivers int) {
	if len(f.MsgID) < 3 || f.MsgID[0] != '"' || len(f.MsgID) > maxTrackedID {
		p.refuse(fmt.Errorf("a message with a receipt needs a msg_id that is a string of at most %d bytes", maxTrackedID-2))
		return 0
	}
	s := sender{from: p.member, key: dedup.Of(f.MsgID), want: stageNamed(h.Delivery)}
	var what *notice
	if s.place, what = p.member.outgoing.begin(s.key, p.now); s.place == 0 {
		if what != nil {
			again := *what
			again.msgID = f.MsgID
			p.notices.add(p.member, again)
		}
		return 0
	}
	if to := string(f.To); to == ServerID || to == All {
		s.msgID = bytes.Clone(f.MsgID)
		if to == All {
			return p.broadcastTracked(s, f, data)
		}
		p.dispatchTracked(s, f, data, h)
		return 0
	}
	// A request is for who is there: later the answer would come too late, and what
	// was wished may do harm.
	l := lend(s, f, data, !h.Request)
	if why := p.bring(p.whom(f), l); why != "" {
		p.server.stats.undelivered.Add(1)
		p.notices.fail(l, why, "")
		return 0
	}
	return 1
}

// bring puts a letter into the mailbox of a client, which is nil if none is known. It
// holds up this connection while too much waits for the disk.
func (p *peer) bring(m *member, l *letter) (why failure) {
	office := p.run.deliveries
	why, toDisk := office.bring(m, l, p, &p.notices)
	if toDisk && !office.store.HasRoom() {
		p.link.Flush() // before it is waited
		p.awaitDisk(office.store)
		p.now = p.server.hub.now() // the flush has ended the burst, and time has passed
	}
	return why
}

// awaitDisk waits until there is room on the way to the disk, or the link is closing:
// another one may wait for its end.
func (p *peer) awaitDisk(store *backlog.Store) {
	ctx, cancel := context.WithCancel(p.run.ctx)
	defer cancel()
	go func() {
		select {
		case <-p.link.Closing():
			cancel()
		case <-ctx.Done():
		}
	}()
	_ = store.Room(ctx)
}

// broadcastTracked brings a message to all who are there, and tells its sender when
// each of them has come as far as he wants to know.
func (p *peer) broadcastTracked(s sender, f frame.Frame, data []byte) (receivers int) {
	s.group = p.run.deliveries.newBroadcast(s)
	shared := bytes.Clone(data)
	there := p.run.deliveries.newReached(p.member)
	receivers = p.server.hub.broadcast(p, p.now, func(m *member, _ *peer) bool {
		s.group.add()
		why := p.bring(m, newLetter(s, shared, false))
		there.add(m, why != failedOffline)
		if why != "" {
			p.server.stats.undelivered.Add(1)
			s.group.end(Sent, true) // it was not taken
			return false
		}
		return true
	})
	p.keepForAbsent(f, data, there)
	s.group.close() // what the sender sends when it is told comes behind all of it
	p.dispatch(data, f)
	return receivers
}

// dispatchTracked brings a message to the server's own listeners.
func (p *peer) dispatchTracked(s sender, f frame.Frame, data []byte, h headers) {
	office, svc := p.run.deliveries, p.server.s
	how := delivery{ctx: p.run.ctx, link: p.link, keep: true, work: &p.run.transfers}
	if h.ReplyTo != "" {
		svc.replies.came(h.ReplyTo, newMessage(data, f))
		p.notices.verdict(&s, notice{msgID: s.msgID, stage: s.want})
		return
	}
	if s.want < Handled {
		svc.dispatch(how, data, f)
		p.notices.verdict(&s, notice{msgID: s.msgID, stage: s.want})
		return
	}
	how.tally = newTally(func(h handling) {
		var n notices
		what := notice{msgID: s.msgID, stage: Handled}
		switch h.failure {
		case "":
		case unfinished: // the server stops
			what.failure = failedOffline
		default:
			what.failure, what.reason = h.failure, limitReason(h.reason)
		}
		n.verdict(&s, what)
		office.sendLater(&n)
	})
	if h.Request {
		how = svc.inquiries.begin(svc, how, f, h)
	}
	svc.dispatch(how, data, f)
}

// passCancel brings a cancellation to who works on the request, unless that still waits
// on disk: then it comes no further.
func (p *peer) passCancel(f frame.Frame, data []byte) {
	if string(f.To) == ServerID {
		if err := p.server.s.inquiries.cancelled(f); err != nil {
			p.refuse(err)
		}
		return
	}
	m := p.whom(f)
	msgID, err := cancelledID(f)
	if err != nil {
		p.refuse(err)
		return
	}
	if m.cancel(p.member, msgID, &p.notices) {
		return
	}
	if to := p.server.hub.target(m, p.now); to != nil && to.agreed && p.fits(m, to, len(data)) {
		out := p.link.NewFrame(data)
		p.server.forward(to, &out, p)
	}
}

// kept returns a message, for which nobody wants a receipt, as it waits for clients.
func (p *peer) kept(f frame.Frame, data []byte) []byte {
	return appendTracked(nil, data, f, p.run.deliveries.nextID())
}

// keepFor has what kept has returned wait for a client that is away, or for which others
// wait already. It reports whether it is on its way.
func (p *peer) keepFor(m *member, kept []byte) bool {
	switch why := p.bring(m, newLetter(sender{}, kept, true)); why {
	case "":
		return true
	case failedTooLarge:
		p.refuse(fmt.Errorf("a message of %d bytes is too large for %.64q", len(kept), m.id))
	}
	return false
}

// keepForAbsent has a message to all wait for those whom it has not reached, if that is
// wanted. It may be that one of them has come meanwhile.
func (p *peer) keepForAbsent(f frame.Frame, data []byte, there reached) {
	missed := p.server.hub.missed(there)
	if len(missed) == 0 {
		return
	}
	kept := p.kept(f, data)
	for _, m := range missed {
		p.keepFor(m, kept)
	}
}

// reported takes what a client tells of the tracked messages that it was sent.
func (p *peer) reported(f frame.Frame) error {
	r, err := parseReport(f.Content)
	if err != nil {
		return err
	}
	if box := p.member.mailbox.Load(); box != nil {
		box.report(p, r, &p.notices)
	}
	return nil
}

// marked is called when the peer has answered a mark.
func (p *peer) marked(mark uint64) {
	if p.member == nil {
		return
	}
	if box := p.member.mailbox.Load(); box != nil {
		box.answered(p, mark, &p.notices)
	}
}

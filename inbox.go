package crosscomm

import (
	"sync"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/dedup"
	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// inbox knows the tracked messages that a client has got, on all its sessions, so that
// none is handled twice.
type inbox struct {
	epoch time.Time

	mu      sync.Mutex
	had     *dedup.Window[handling]
	running map[dedup.Key]*arriving // of which the listeners are not done yet
}

// arriving is a message that is being handled, and what it is to be reported as.
type arriving struct {
	sess   *session
	number uint64
}

func newInbox() *inbox {
	return &inbox{epoch: time.Now(), had: dedup.New[handling](maxRemembered, rememberFor), running: map[dedup.Key]*arriving{}}
}

// begin notes a message that has come with this number on the session. If it is new, the
// caller has it handled, and then calls end. If it is not, it is reported by itself.
func (in *inbox) begin(key dedup.Key, sess *session, number uint64) (isNew bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if a := in.running[key]; a != nil {
		a.sess, a.number = sess, number
		return false
	}
	if h, ok := in.had.Get(key, int64(time.Since(in.epoch))); ok {
		sess.reports.done(number, *h)
		return false
	}
	in.running[key] = &arriving{sess, number}
	return true
}

// end notes what has become of a message, and reports it.
func (in *inbox) end(key dedup.Key, h handling) {
	in.mu.Lock()
	defer in.mu.Unlock()
	a := in.running[key]
	delete(in.running, key)
	if h.failure == unfinished {
		return // it comes again
	}
	h.reason = limitReason(h.reason)
	in.had.Add(key, int64(time.Since(in.epoch)), h)
	a.sess.reports.done(a.number, h)
}

// receiveTracked handles a message that is to be reported.
func (sess *session) receiveTracked(how delivery, data []byte, f frame.Frame, h headers) {
	number := sess.reports.arrived()
	key := dedup.Of(f.From, f.MsgID)
	in := sess.client.inbox
	if !in.begin(key, sess, number) {
		return
	}
	s := sess.client.s
	if string(f.From) == s.cfg.ClientID { // nobody hears himself
		in.end(key, handling{failure: failedUnheard})
		return
	}
	if h.ReplyTo != "" {
		s.replies.came(h.ReplyTo, newMessage(data, f))
		in.end(key, handling{})
		return
	}
	how.tally = newTally(func(outcome handling) { in.end(key, outcome) })
	if h.Request {
		how = s.inquiries.begin(s, how, f, h)
	}
	s.dispatch(how, data, f)
}

// reportEvery is how often a client reports at most.
const reportEvery = time.Millisecond

// reports collects what a session has to report of the messages that it has brought.
type reports struct {
	sess *session

	mu       sync.Mutex
	received uint64 // how many tracked messages have come
	ended    uint64 // how many of them are done with
	unsent   report
	told     uint64    // the Received of the last report
	last     time.Time // when that was sent
	timer    *time.Timer
	timed    bool // whether it runs
	closed   bool
}

// arrived counts a tracked message, and returns its number.
func (r *reports) arrived() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received++
	r.sendSoon()
	return r.received
}

// done notes what has become of one. A report is sent at once if there is nothing more
// to come for it and the last one was sent a while ago.
func (r *reports) done(number uint64, h handling) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended++
	if h.failure == "" {
		r.unsent.add(number)
	} else {
		r.unsent.Failed = append(r.unsent.Failed, reportFailure{number, h.failure, h.reason})
	}
	if r.ended == r.received && time.Since(r.last) >= reportEvery {
		r.send()
	} else {
		r.sendSoon()
	}
}

// sendSoon has a report sent a little later; with mu held, as the rest.
func (r *reports) sendSoon() {
	switch {
	case r.timed || r.closed:
		return
	case r.timer == nil:
		r.timer = time.AfterFunc(reportEvery, r.flush)
	default:
		r.timer.Reset(reportEvery)
	}
	r.timed = true
}

// flush sends what there is to report.
func (r *reports) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timed = false
	r.send()
}

// A report has at most so many ranges, and failures, so that servers with narrow limits
// take it, too.
const (
	maxRangesInReport   = 500
	maxFailuresInReport = 50
)

func (r *reports) send() {
	for !r.closed && (r.told < r.received || len(r.unsent.Handled) > 0 || len(r.unsent.Failed) > 0) {
		part := report{Received: r.received, Handled: r.unsent.Handled, Failed: r.unsent.Failed}
		part.Handled = part.Handled[:min(len(part.Handled), maxRangesInReport)]
		part.Failed = part.Failed[:min(len(part.Failed), maxFailuresInReport)]
		data := r.frame(part)
		for len(data) > r.sess.serverTakes && len(part.Handled)+len(part.Failed) > 1 {
			part.Handled, part.Failed = part.Handled[:(len(part.Handled)+1)/2], part.Failed[:len(part.Failed)/2]
			data = r.frame(part)
		}
		r.unsent.Handled, r.unsent.Failed = r.unsent.Handled[len(part.Handled):], r.unsent.Failed[len(part.Failed):]
		r.told, r.last = r.received, time.Now()
		_ = r.sess.link.Send(data) // if it fails, all that was not reported comes again
	}
	r.unsent = report{}
}

func (r *reports) frame(part report) []byte {
	content, err := marshal(part)
	if err != nil {
		panic(err) // numbers and strings can always be written
	}
	return r.sess.client.s.newFrame(typeReceived, ServerID, content)
}

// close ends the reports of a session that has ended.
func (r *reports) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
}

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
	running map[dedup.Key]*arriving // those of which the listeners are not done yet
}

// arriving is a message that is being handled.
type arriving struct {
	run  *clientRun // in which; what an earlier one has not finished is handled again
	as   []arrivedAs
	done *outcomes // of all runs
}

// arrivedAs is what it is to be reported as: once for each time that it has come.
type arrivedAs struct {
	reports *reports // of a session
	number  uint64
}

// outcomes are what the listeners have made of one message. It may be used concurrently; a
// nil one remembers nothing.
type outcomes struct {
	mu sync.Mutex
	by map[*registration]handling
}

// note notes what a listener has made of it.
func (o *outcomes) note(reg *registration, h handling) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.by == nil {
		o.by = map[*registration]handling{}
	}
	o.by[reg] = h
}

// of returns what a listener has made of it, if it has.
func (o *outcomes) of(reg *registration) (h handling, ok bool) {
	if o == nil {
		return handling{}, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	h, ok = o.by[reg]
	return h, ok
}

func newInbox() *inbox {
	return &inbox{epoch: time.Now(), had: dedup.New[handling](maxRemembered, rememberFor), running: map[dedup.Key]*arriving{}}
}

// begin notes a message that has come with this number on the session. If it is to be
// handled the caller does so, and then calls end. If not, it is reported by itself.
func (in *inbox) begin(key dedup.Key, sess *session, number uint64) (done *outcomes, isNew bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	as := arrivedAs{&sess.reports, number}
	switch a := in.running[key]; {
	case a == nil:
	case a.run == sess.run:
		a.as = append(a.as, as)
		return nil, false
	default:
		// A listener may still be at it that has not seen the end of its context, and may
		// yet finish. Meanwhile the message gets its place in the order anew.
		a.run, a.as = sess.run, []arrivedAs{as}
		return a.done, true
	}
	if h, ok := in.had.Get(key, int64(time.Since(in.epoch))); ok {
		sess.reports.done(number, *h)
		return nil, false
	}
	a := &arriving{sess.run, []arrivedAs{as}, new(outcomes)}
	in.running[key] = a
	return a.done, true
}

// end notes what has become of a message in a run, and reports it.
func (in *inbox) end(key dedup.Key, run *clientRun, h handling) {
	in.mu.Lock()
	defer in.mu.Unlock()
	a := in.running[key]
	if a == nil || a.run != run {
		return // it has come again in a later run
	}
	delete(in.running, key)
	if h.failure == unfinished {
		return // it comes again
	}
	h.reason = limitReason(h.reason)
	in.had.Add(key, int64(time.Since(in.epoch)), h)
	for _, as := range a.as {
		as.reports.done(as.number, h)
	}
}

// receiveTracked handles a message that is to be reported.
func (sess *session) receiveTracked(how delivery, data []byte, f frame.Frame, h headers) {
	in, s := sess.client.inbox, sess.client.s
	key := dedup.Of(f.From, f.MsgID, []byte(h.QueuedAs))
	done, isNew := in.begin(key, sess, sess.reports.arrived())
	if !isNew {
		return
	}
	if string(f.From) == s.cfg.ClientID { // nobody hears himself
		in.end(key, sess.run, handling{failure: failedUnheard})
		return
	}
	if h.ReplyTo != "" {
		s.replies.came(h.ReplyTo, newMessage(data, f))
		in.end(key, sess.run, handling{})
		return
	}
	how.tally = newTally(func(outcome handling) { in.end(key, sess.run, outcome) })
	how.noWait = true // the server sends no more ahead of the reports than there is room for
	how.done = done
	if h.Request {
		how = s.inquiries.begin(s, how, f, h)
	}
	s.dispatch(how, data, f)
}

// A client reports at most every reportEvery. If more than one message has come since
// the last report nobody waits for the report of each, and it waits for more of them, for
// reportTogether: a frame for each few would cost the server as much as they do.
const (
	reportEvery    = time.Millisecond
	reportTogether = 5 * time.Millisecond // must be well below spillAfter
)

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
	waited   bool // whether it runs for the second time
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
	if r.ended == r.received && r.received <= r.told+1 && time.Since(r.last) >= reportEvery {
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
		r.timer = time.AfterFunc(reportEvery, r.due)
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

// due is called when reportEvery is over.
func (r *reports) due() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if together := r.received > r.told+1; together && !r.waited && !r.closed {
		r.waited = true
		r.timer.Reset(reportTogether - reportEvery)
		return
	}
	r.timed, r.waited = false, false
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
	return r.sess.client.s.newFrame(typeReport, ServerID, content)
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

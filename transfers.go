package crosscomm

import (
	"context"
	"slices"
	"sync"
)

// maxWaitingTransfers is how many downloads of one sender may wait. Beyond it
// their messages come with an error, or else a sender of many could fill the
// memory.
const maxWaitingTransfers = 5000

// transfers decides which downloads run: a bounded number at once, those of
// different senders by turns, and none while another brings the same to the
// same place. One sender may not take all the room, if there is more than one.
type transfers struct {
	room int

	mu      sync.Mutex
	running int
	sources []*transferSource // whose turn comes first is first
	places  map[string]bool   // that running transfers write to
}

// transferSource is a sender, or, with an empty name, this program itself.
type transferSource struct {
	name    string
	running int
	waiting []*transferJob
}

type transferJob struct {
	source *transferSource
	place  string
	start  func() // must not block
}

func newTransfers(room int) *transfers { return &transfers{room: room, places: map[string]bool{}} }

// run runs f on a goroutine of its own when its turn comes. Until then it costs
// none: there may be thousands. It reports false if too many of the source wait.
func (t *transfers) run(source, place string, f func()) bool {
	job := &transferJob{place: place}
	job.start = func() {
		go func() {
			defer t.ended(job)
			f()
		}()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.add(source, job, maxWaitingTransfers)
}

// begin waits for the turn of a transfer of this program, and returns what ends
// it, or the error of ctx.
func (t *transfers) begin(ctx context.Context, place string) (end func(), err error) {
	started := make(chan struct{})
	job := &transferJob{place: place, start: func() { close(started) }}
	t.mu.Lock()
	t.add("", job, 0)
	t.mu.Unlock()
	select {
	case <-started:
		return func() { t.ended(job) }, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if isClosed(started) {
		t.remove(job)
	} else {
		job.source.waiting = slices.DeleteFunc(job.source.waiting, func(other *transferJob) bool { return other == job })
		t.forget(job.source)
	}
	return nil, context.Cause(ctx)
}

// add starts a job or queues it, unless limit, if not 0, are waiting. Call it
// with mu held.
func (t *transfers) add(source string, job *transferJob, limit int) bool {
	i := slices.IndexFunc(t.sources, func(s *transferSource) bool { return s.name == source })
	if i < 0 {
		i = len(t.sources)
		t.sources = append(t.sources, &transferSource{name: source})
	}
	job.source = t.sources[i]
	switch {
	case t.running < t.room && t.mayStart(job):
		t.start(job)
	case limit > 0 && len(job.source.waiting) >= limit:
		return false
	default:
		job.source.waiting = append(job.source.waiting, job)
	}
	return true
}

func (t *transfers) ended(job *transferJob) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(job)
}

// remove takes a job that runs out, with mu held.
func (t *transfers) remove(job *transferJob) {
	t.running--
	job.source.running--
	delete(t.places, job.place)
	t.forget(job.source)
	t.startNext()
}

// forget removes a source that has nothing any more, with mu held.
func (t *transfers) forget(s *transferSource) {
	if s.running == 0 && len(s.waiting) == 0 {
		t.sources = slices.DeleteFunc(t.sources, func(other *transferSource) bool { return other == s })
	}
}

// startNext starts what may run, with mu held.
func (t *transfers) startNext() {
	for t.running < t.room {
		job := t.next()
		if job == nil {
			return
		}
		t.start(job)
	}
}

// next takes the job whose turn it is out of its queue, with mu held.
func (t *transfers) next() *transferJob {
	for _, s := range t.sources {
		if i := slices.IndexFunc(s.waiting, t.mayStart); i >= 0 {
			job := s.waiting[i]
			s.waiting = slices.Delete(s.waiting, i, i+1)
			return job
		}
	}
	return nil
}

// mayStart reports whether nothing but the bound for all keeps the job from
// running.
func (t *transfers) mayStart(job *transferJob) bool {
	s := job.source
	return !t.places[job.place] && (s.name == "" || s.running < max(1, t.room-1))
}

// start starts a job. Its source's next turn comes after those of all others.
func (t *transfers) start(job *transferJob) {
	t.running++
	job.source.running++
	t.places[job.place] = true
	t.sources = append(slices.DeleteFunc(t.sources, func(s *transferSource) bool { return s == job.source }), job.source)
	job.start()
}

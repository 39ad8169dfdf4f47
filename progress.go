package crosscomm

import (
	"sync"
	"time"
)

// progressEvery is how often Config.OnProgress is told of one transfer.
const progressEvery = 100 * time.Millisecond

// The values of [Progress.Op] and [TransferError.Op].
const (
	Upload   = "upload"
	Download = "download"
)

// Progress tells how far a file, an image or a folder has come.
type Progress struct {
	Op   string // Upload or Download
	Key  string // the object, or the folder's prefix
	Path string // the file or folder on this machine

	Bytes int64 // moved so far, those included that were there from an earlier try
	Total int64 // how many it will be; 0 as long as that is not known
	File  int   // files that are whole so far
	Files int   // how many it will be; 1 unless it is a folder

	Done bool  // this is the last that is told of this transfer
	Err  error // why it has failed, if it is done
}

// progress collects what Config.OnProgress is told of a transfer. It may be
// used concurrently.
type progress struct {
	s *Service // nil: nobody is told

	mu      sync.Mutex
	now     Progress
	last    time.Time
	waiting bool // for its turn to be told
}

// newProgress begins a transfer.
func (s *Service) newProgress(first Progress) *progress {
	p := &progress{now: first}
	if s.cfg.OnProgress != nil {
		p.s = s
	}
	return p
}

// change changes what is known, and tells of it unless that was done just now.
func (p *progress) change(f func(*Progress)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now.Done {
		return
	}
	f(&p.now)
	if p.s == nil || p.waiting || !p.now.Done && time.Since(p.last) < progressEvery {
		return
	}
	// One call at a time waits for its turn, and tells what is true then: a
	// function that is slow misses the middle, never the end.
	p.waiting = true
	p.s.event(func() {
		p.mu.Lock()
		p.waiting = false
		p.last = time.Now()
		now := p.now
		p.mu.Unlock()
		p.s.cfg.OnProgress(now)
	})
}

// files returns how many files there are.
func (p *progress) files() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now.Files
}

func (p *progress) add(n int64) { p.change(func(now *Progress) { now.Bytes += n }) }

func (p *progress) fileDone() { p.change(func(now *Progress) { now.File++ }) }

// done ends it, and returns err.
func (p *progress) done(err error) error {
	p.change(func(now *Progress) { now.Done, now.Err = true, err })
	return err
}

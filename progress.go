package crosscomm

import (
	"sync"
	"time"
)

// progressEvery is how often Config.OnProgress is told of one transfer.
const progressEvery = 100 * time.Millisecond

// TransferOp is which way a file, an image or a folder goes.
type TransferOp string

// The two ways.
const (
	OpUpload   TransferOp = "upload"
	OpDownload TransferOp = "download"
)

// Progress tells how far a file, an image or a folder has come.
type Progress struct {
	Op   TransferOp
	Key  string // the object, or the folder's prefix
	Path string // the file or folder on this machine; for a download its directory, until it is known
	// Name is what people call it: the base name of the sender's path, or, if
	// that is not known, of the key.
	Name string

	Bytes     int64 // moved so far, those included that were there from an earlier try
	Total     int64 // how many it will be; 0 as long as that is not known
	Checked   int64 // bytes that were read on this machine to see whether an earlier try has moved them
	FilesDone int   // files that are whole so far
	Files     int   // how many it will be; 1 unless it is a folder

	Done bool  // this is the last that is told of this transfer; the message of an upload goes after it
	Err  error // why it has failed, if it is done: a *[TransferError]
}

// progress collects what Config.OnProgress is told of a transfer. It may be used
// concurrently.
type progress struct {
	s *Service

	mu   sync.Mutex
	now  Progress
	last time.Time // when it was told; the zero time for not yet

	telling sync.Mutex // held during a call
}

// newProgress begins a transfer.
func (s *Service) newProgress(first Progress) *progress { return &progress{s: s, now: first} }

// change changes what is known, and tells of it unless that was done just now.
func (p *progress) change(f func(*Progress)) {
	p.mu.Lock()
	f(&p.now)
	due := time.Since(p.last) >= progressEvery
	p.mu.Unlock()
	// Only one of the workers of a transfer waits for a function that is slow.
	if due && p.s.cfg.OnProgress != nil && p.telling.TryLock() {
		p.tell()
	}
}

// tell calls the function, with telling held, which it gives up.
func (p *progress) tell() {
	defer p.telling.Unlock()
	defer logPanic(p.s.log, "Config.OnProgress panicked", nil)
	p.mu.Lock()
	now := p.now
	p.last = time.Now()
	p.mu.Unlock()
	p.s.cfg.OnProgress(now)
}

// files returns how many files there are.
func (p *progress) files() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now.Files
}

func (p *progress) add(n int64) { p.change(func(now *Progress) { now.Bytes += n }) }

func (p *progress) checked(n int64) { p.change(func(now *Progress) { now.Checked += n }) }

func (p *progress) fileDone() { p.change(func(now *Progress) { now.FilesDone++ }) }

// done ends it, which is told before done returns, and returns err. Nothing may
// change any more.
func (p *progress) done(err error) error {
	p.mu.Lock()
	p.now.Done, p.now.Err = true, err
	p.mu.Unlock()
	if p.s.cfg.OnProgress != nil {
		p.telling.Lock()
		p.tell()
	}
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

// settleTime bounds the wait for the last that is told of a transfer.
const settleTime = 3 * time.Second

// reporter shows how far files, images and folders have come: as events, or as
// bars if standard error is a terminal.
type reporter struct {
	out  *printer // of the events; nil for none
	bars *bars    // nil for none

	told sync.Mutex // held while a report is shown

	mu      sync.Mutex
	running map[string]crosscomm.Progress // the furthest that each has come
	ended   int                           // how many are done
	moved   func()                        // is called when there is progress, if not nil
	changed chan struct{}                 // closed and replaced when one is done
	closed  bool                          // nothing is shown any more
}

// newReporter returns a reporter, and the console that is to be used as long as
// it may show bars. There are none with events: standard output may well go to
// another program that writes to this terminal.
func newReporter(con console, json bool) (*reporter, *printer, console) {
	r := &reporter{running: map[string]crosscomm.Progress{}, changed: make(chan struct{})}
	if !json && isTerminal(con.stderr) {
		s := newScreen(con.stderr)
		r.bars = newBars(s)
		con.stderr = s.over(con.stderr)
		if isTerminal(con.stdout) {
			con.stdout = s.over(con.stdout)
		}
	}
	out := &printer{w: con.stdout}
	if json {
		r.out = out
	}
	return r, out, con
}

func transferID(p crosscomm.Progress) string { return p.Op + " " + p.Key }

// report is crosscomm.Config.OnProgress.
func (r *reporter) report(p crosscomm.Progress) {
	r.note(p)
	r.show(p)
	if p.Done {
		r.done(p)
	}
}

// note notes how far the transfer has come, and tells if that is further than
// ever: bytes that are sent once more are no progress.
func (r *reporter) note(p crosscomm.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := transferID(p)
	furthest, known := r.running[id]
	if known && p.Bytes <= furthest.Bytes && p.File <= furthest.File && p.Total == furthest.Total && !p.Done {
		return
	}
	furthest.Bytes, furthest.File, furthest.Total = max(p.Bytes, furthest.Bytes), max(p.File, furthest.File), p.Total
	r.running[id] = furthest
	if r.moved != nil {
		r.moved()
	}
}

func (r *reporter) show(p crosscomm.Progress) {
	r.told.Lock()
	defer r.told.Unlock()
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	switch {
	case closed:
	case r.out != nil:
		r.out.progress(p)
	case r.bars != nil:
		r.bars.show(p)
	}
}

func (r *reporter) done(p crosscomm.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, transferID(p))
	r.ended++
	close(r.changed)
	r.changed = make(chan struct{})
}

// limit returns a context that ends when nothing has moved for d.
func (r *reporter) limit(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(d, func() { cancel(fmt.Errorf("no progress within %v", d)) })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moved = func() { timer.Reset(d) }
	return ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.moved = nil
		timer.Stop()
		cancel(nil)
	}
}

// settle waits until the end of every transfer that was begun has been told, and
// of at least as many as are expected: that comes after the call that has made
// the transfer returns. After that nothing is shown.
func (r *reporter) settle(expected int) {
	patience := time.NewTimer(settleTime)
	defer patience.Stop()
	for r.wait(expected, patience.C) {
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	if r.bars != nil {
		r.told.Lock()
		defer r.told.Unlock()
		r.bars.close()
	}
}

// wait waits for a change, and reports false if there is nothing to wait for.
func (r *reporter) wait(expected int, patience <-chan time.Time) bool {
	r.mu.Lock()
	changed, settled := r.changed, len(r.running) == 0 && r.ended >= expected
	r.mu.Unlock()
	if settled {
		return false
	}
	select {
	case <-changed:
		return true
	case <-patience:
		return false
	}
}

// begun returns how many transfers a call that has returned err must have made
// of one.
func begun(err error) int {
	var te *crosscomm.TransferError
	if err == nil || errors.As(err, &te) && te.Key != "" {
		return 1
	}
	return 0
}

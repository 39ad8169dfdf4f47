package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

// reporter shows how far files, images and folders have come: as events, or as
// bars if standard error is a terminal.
type reporter struct {
	out  *printer // of the events; nil for none
	bars *bars    // nil for none

	told sync.Mutex // held while a report is shown

	mu      sync.Mutex
	running map[string]crosscomm.Progress // the furthest that each has come
	moved   func()                        // is called when there is progress, if not nil
}

// newReporter returns a reporter, and the console that is to be used as long as
// it may show bars. There are none with events: standard output may well go to
// another program that writes to this terminal.
func newReporter(con console, json bool) (*reporter, *printer, console) {
	r := &reporter{running: map[string]crosscomm.Progress{}}
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

func transferID(p crosscomm.Progress) string { return string(p.Op) + " " + p.Key }

// report is crosscomm.Config.OnProgress.
func (r *reporter) report(p crosscomm.Progress) {
	r.note(p)
	r.show(p)
}

// note notes how far the transfer has come, and tells if that is further than
// ever: bytes that are sent once more are no progress.
func (r *reporter) note(p crosscomm.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := transferID(p)
	furthest, known := r.running[id]
	if known && p.Bytes <= furthest.Bytes && p.Checked <= furthest.Checked && p.FilesDone <= furthest.FilesDone && p.Total == furthest.Total && !p.Done {
		return
	}
	furthest.Bytes, furthest.Checked, furthest.Total = max(p.Bytes, furthest.Bytes), max(p.Checked, furthest.Checked), p.Total
	furthest.FilesDone = max(p.FilesDone, furthest.FilesDone)
	r.running[id] = furthest
	if p.Done {
		delete(r.running, id)
	}
	if r.moved != nil {
		r.moved()
	}
}

func (r *reporter) show(p crosscomm.Progress) {
	r.told.Lock()
	defer r.told.Unlock()
	switch {
	case r.out != nil:
		r.out.progress(p)
	case r.bars != nil:
		r.bars.show(p)
	}
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

// close ends all bars. No transfer may be under way.
func (r *reporter) close() {
	if r.bars != nil {
		r.told.Lock()
		defer r.told.Unlock()
		r.bars.close()
	}
}

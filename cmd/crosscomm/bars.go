package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/crosscomm/crosscomm-go"
)

// nameWidth is how many columns the name of a bar has.
const nameWidth = 24

// bars shows transfers as bars on a terminal. Its methods must not be called
// concurrently.
type bars struct {
	screen *screen
	group  *mpb.Progress // nil while nothing is shown
	shown  map[string]*bar
}

func newBars(s *screen) *bars { return &bars{screen: s, shown: map[string]*bar{}} }

// bar is one transfer. Its columns are drawn by mpb's goroutines.
type bar struct {
	*mpb.Bar
	began time.Time
	first int64 // bytes that were there from an earlier try
	now   atomic.Pointer[crosscomm.Progress]
}

// show shows what is known of a transfer now. When it is done its bar is left
// where it is.
func (b *bars) show(p crosscomm.Progress) {
	id := transferID(p)
	one := b.shown[id]
	if one == nil {
		one = b.add(p)
		b.shown[id] = one
	}
	one.now.Store(&p)
	switch {
	case p.Done && p.Err != nil:
		one.Abort(false)
	case p.Done:
		one.SetTotal(max(p.Total, p.Bytes), true)
	default:
		one.SetTotal(p.Total, false)
		one.SetCurrent(p.Bytes)
		return
	}
	delete(b.shown, id)
	if len(b.shown) == 0 {
		b.group.Wait()
		b.end()
	}
}

func (b *bars) add(p crosscomm.Progress) *bar {
	if b.group == nil {
		b.group = mpb.New(mpb.WithConsoleWriter(b.screen), mpb.PopCompletedMode())
	}
	one := &bar{began: time.Now(), first: p.Bytes}
	one.now.Store(&p)
	// Columns of a fixed width: mpb could make them all as wide as the widest
	// one, but leaves goroutines behind then when it is shut down.
	column := func(width int, text func(decor.Statistics) string) decor.Decorator {
		return decor.Any(text, decor.WC{W: width, C: decor.DindentRight})
	}
	// A total of 0 lets the bar end only when it is told to: what is there from
	// an earlier try may be all, and still has to be checked.
	one.Bar = b.group.AddBar(0,
		mpb.PrependDecorators(column(nameWidth, func(decor.Statistics) string { return barName(*one.now.Load()) })),
		mpb.AppendDecorators(
			column(7, one.percent),
			column(0, func(decor.Statistics) string { return one.details() }),
		))
	return one
}

// close ends all bars at once.
func (b *bars) close() {
	if b.group != nil {
		b.group.Shutdown()
		b.end()
	}
}

func (b *bars) end() {
	b.group = nil
	clear(b.shown)
	b.screen.leave()
}

func barName(p crosscomm.Progress) string {
	return runewidth.Truncate(strings.ReplaceAll(printable(p.Name), "\t", " "), nameWidth, "…")
}

func (b *bar) percent(stat decor.Statistics) string {
	switch {
	case stat.Completed:
		return "100 %"
	case stat.Aborted:
		return "failed"
	case stat.Total <= 0:
		return ""
	}
	return fmt.Sprintf("%d %%", min(stat.Current*100/stat.Total, 99))
}

// details are what a narrow terminal does not show.
func (b *bar) details() string {
	p := b.now.Load()
	var parts []string
	if p.Files > 1 || strings.HasSuffix(p.Key, "/") {
		parts = append(parts, fmt.Sprintf("file %d of %d", min(p.FilesDone+1, p.Files), p.Files))
	}
	if p.Bytes == p.Total {
		parts = append(parts, describeSize(p.Total))
	} else {
		parts = append(parts, describeSize(p.Bytes)+" of "+describeSize(p.Total))
	}
	if took := time.Since(b.began); took > time.Second && p.Bytes > b.first {
		perSecond := float64(p.Bytes-b.first) / took.Seconds()
		if left := p.Total - p.Bytes; left > 0 && !p.Done {
			parts = append(parts, describeSize(int64(perSecond))+"/s",
				time.Duration(float64(left)/perSecond*float64(time.Second)).Round(time.Second).String()+" left")
		}
	}
	return strings.Join(parts, ", ")
}

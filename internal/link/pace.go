package link

import (
	"fmt"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// pace is what a link has that sends pings.
type pace struct {
	timer  *time.Timer
	pingAt time.Time // when the next ping is due
}

// keepPace has pings sent, and ends the link when the peer is silent for twice
// the time between them, although its input is waited for.
func (l *Link) keepPace() {
	if l.opts.PingEvery == 0 {
		return
	}
	l.input.timed, l.input.epoch = true, time.Now().Add(-1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pace = &pace{time.AfterFunc(l.opts.PingEvery, l.beat), time.Now().Add(l.opts.PingEvery)}
}

// Ping queues a ping, and writes it as Send does.
func (l *Link) Ping() {
	l.mu.Lock()
	_ = l.enqueue(message{op: wsframe.OpPing}) // if it fails, the link is ending
	l.mu.Unlock()
	l.write()
}

// beat does what is due, and sees when something is due next.
func (l *Link) beat() {
	now := time.Now()
	next := 2 * l.opts.PingEvery
	if since := l.input.waiting.Load(); since != 0 {
		silentFor := now.Sub(l.input.epoch.Add(time.Duration(since)))
		if next -= silentFor; next <= 0 {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.failLocked(fmt.Errorf("the peer has been silent for %v", 2*l.opts.PingEvery))
			return
		}
	}
	l.mu.Lock()
	defer l.write() // after the unlock
	defer l.mu.Unlock()
	if l.closing.Load() {
		return
	}
	if !now.Before(l.pace.pingAt) {
		_ = l.enqueue(message{op: wsframe.OpPing})
		l.pace.pingAt = now.Add(l.opts.PingEvery)
	}
	l.pace.timer.Reset(min(next, l.pace.pingAt.Sub(now)))
}

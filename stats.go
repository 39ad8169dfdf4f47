package crosscomm

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Stats are counters of a server since it was made, and what there is at present.
type Stats struct {
	Received    uint64 // frames that came in, of every kind
	Delivered   uint64 // frames queued for a client
	Undelivered uint64 // frames of a client for one that was not there, or too slow, and that could not be kept for it
	Refused     uint64 // frames that were malformed, or not the sender's to send
	Kept        uint64 // frames that were written to disk, where they wait for their client
	Expired     uint64 // messages dropped from the queues on disk, for their age or for want of room
	TooSlow     uint64 // clients disconnected because they did not keep up

	TurnedAway   uint64 // connections refused before they were WebSockets
	FailedLogins uint64 // of them and of logins, those with what does not allow it
	Throttled    uint64 // pauses of clients that sent too much
	Forgotten    uint64 // clients that were known, and are not any more

	Connections int // WebSockets there are now
	Queued      int // bytes that are held now for clients that do not keep up
	Waiting     int // messages that are on disk now, for clients that are away or do not keep up
}

// counters are the live Stats.
type counters struct {
	received, delivered, undelivered, refused, tooSlow atomic.Uint64
	kept, expired                                      atomic.Uint64
	turnedAway, failedLogins, throttled, forgotten     atomic.Uint64

	warnings logLimiter // of what hostile or careless clients cause
	comings  logLimiter // and goings of clients
}

// How many lines are logged in a second of what clients cause: a hostile client shall
// not fill the disk. Comings and goings are told while they are not a flood.
const (
	warningsPerSecond = 3
	comingsPerSecond  = 20
)

func newCounters() counters {
	return counters{warnings: logLimiter{perSecond: warningsPerSecond}, comings: logLimiter{perSecond: comingsPerSecond}}
}

// snapshot returns the counters; it lacks what there is now.
func (c *counters) snapshot() Stats {
	return Stats{
		Received:    c.received.Load(),
		Delivered:   c.delivered.Load(),
		Undelivered: c.undelivered.Load(),
		Refused:     c.refused.Load(),
		Kept:        c.kept.Load(),
		Expired:     c.expired.Load(),
		TooSlow:     c.tooSlow.Load(),

		TurnedAway:   c.turnedAway.Load(),
		FailedLogins: c.failedLogins.Load(),
		Throttled:    c.throttled.Load(),
		Forgotten:    c.forgotten.Load(),
	}
}

// logLimiter logs so many lines a second at most, and with the first one after that
// how many were left out. It may be used concurrently.
type logLimiter struct {
	perSecond int

	mu      sync.Mutex
	second  int64
	lines   int
	leftOut int
}

func (l *logLimiter) warn(to *slog.Logger, msg string, args ...any) {
	l.log(to, slog.LevelWarn, msg, args...)
}

func (l *logLimiter) log(to *slog.Logger, level slog.Level, msg string, args ...any) {
	ctx := context.Background()
	if !to.Enabled(ctx, level) {
		return
	}
	l.mu.Lock()
	if now := time.Now().Unix(); now != l.second {
		l.second, l.lines = now, 0
	}
	l.lines++
	if l.lines > l.perSecond {
		l.leftOut++
		l.mu.Unlock()
		return
	}
	leftOut := l.leftOut
	l.leftOut = 0
	l.mu.Unlock()
	if leftOut > 0 {
		args = append(args, "not_logged", leftOut)
	}
	to.Log(ctx, level, msg, args...)
}

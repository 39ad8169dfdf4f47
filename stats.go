package crosscomm

import (
	"cmp"
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
	Undelivered uint64 // frames of a client for one that was not there, or too slow
	Refused     uint64 // frames that were malformed, or not the sender's to send
	TooSlow     uint64 // clients disconnected because they did not keep up

	TurnedAway   uint64 // connections refused before they were WebSockets
	FailedLogins uint64 // of them and of logins, those with what does not allow it
	Throttled    uint64 // pauses of clients that sent too much
	Forgotten    uint64 // clients that were known, and are not any more

	Connections int // WebSockets there are now
	Queued      int // bytes that are held now for clients that do not keep up
}

// counters are the live Stats.
type counters struct {
	received, delivered, undelivered, refused, tooSlow atomic.Uint64
	turnedAway, failedLogins, throttled, forgotten     atomic.Uint64

	warnings logLimiter // of what hostile or careless clients cause
	presence logLimiter // of who comes and goes
}

// snapshot returns the counters; it lacks what there is now.
func (c *counters) snapshot() Stats {
	return Stats{
		Received:    c.received.Load(),
		Delivered:   c.delivered.Load(),
		Undelivered: c.undelivered.Load(),
		Refused:     c.refused.Load(),
		TooSlow:     c.tooSlow.Load(),

		TurnedAway:   c.turnedAway.Load(),
		FailedLogins: c.failedLogins.Load(),
		Throttled:    c.throttled.Load(),
		Forgotten:    c.forgotten.Load(),
	}
}

// A hostile client shall not fill the disk: warningsPerSecond is how many lines are
// logged in a second of what clients cause, and presencePerSecond how many of their
// logins and logouts, which one connection can repeat as fast as it sends.
const warningsPerSecond, presencePerSecond = 3, 20

// logLimiter logs at most so many lines a second, and with the first one after that
// how many were left out.
type logLimiter struct {
	most int // warningsPerSecond if 0

	mu      sync.Mutex
	second  int64
	lines   int
	leftOut int
}

// log logs a warning.
func (l *logLimiter) log(to *slog.Logger, msg string, args ...any) {
	l.logAt(to, slog.LevelWarn, msg, args...)
}

func (l *logLimiter) logAt(to *slog.Logger, level slog.Level, msg string, args ...any) {
	l.mu.Lock()
	if now := time.Now().Unix(); now != l.second {
		l.second, l.lines = now, 0
	}
	l.lines++
	if l.lines > cmp.Or(l.most, warningsPerSecond) {
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
	to.Log(context.Background(), level, msg, args...)
}

package crosscomm

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Stats are counters of a server since it was made.
type Stats struct {
	Received    uint64 // frames that came in, of every kind
	Delivered   uint64 // frames queued for a client
	Undelivered uint64 // frames of a client for one that was not there, or too slow
	Refused     uint64 // frames that were malformed, or not the sender's to send
	TooSlow     uint64 // clients disconnected because they did not keep up
}

// counters are the live Stats.
type counters struct {
	received, delivered, undelivered, refused, tooSlow atomic.Uint64

	warnings logLimiter // of what hostile or careless clients cause
}

func (c *counters) snapshot() Stats {
	return Stats{
		Received:    c.received.Load(),
		Delivered:   c.delivered.Load(),
		Undelivered: c.undelivered.Load(),
		Refused:     c.refused.Load(),
		TooSlow:     c.tooSlow.Load(),
	}
}

// warningsPerSecond is how many lines are logged in a second of what clients
// cause; a hostile client shall not fill the disk.
const warningsPerSecond = 3

// logLimiter logs at most warningsPerSecond lines a second, and with the first
// one after that how many were left out.
type logLimiter struct {
	mu      sync.Mutex
	second  int64
	lines   int
	leftOut int
}

func (l *logLimiter) log(to *slog.Logger, msg string, args ...any) {
	l.mu.Lock()
	if now := time.Now().Unix(); now != l.second {
		l.second, l.lines = now, 0
	}
	l.lines++
	if l.lines > warningsPerSecond {
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
	to.Warn(msg, args...)
}

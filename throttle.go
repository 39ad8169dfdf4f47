package crosscomm

import (
	"time"

	"golang.org/x/time/rate"
)

// throttle bounds how much is taken from one client. What a connection brings at
// once is counted together, when all of it has been handled: the limits are far
// above what comes at once, and each message would cost more.
type throttle struct {
	messages, bytes *rate.Limiter // nil before anything has come
}

// take counts what has come, and returns how long nothing more may be taken.
func (t *throttle) take(limits *Limits, messages, bytes int) time.Duration {
	if t.messages == nil {
		t.messages = rate.NewLimiter(rate.Limit(limits.MessagesPerSecond), limits.MessagesPerSecond)
		t.bytes = rate.NewLimiter(rate.Limit(limits.BytesPerSecond), limits.BytesPerSecond)
	}
	now := time.Now()
	return max(reserve(t.messages, now, messages), reserve(t.bytes, now, bytes))
}

// reserve takes n at once, although a limiter gives no more than its burst.
func reserve(l *rate.Limiter, now time.Time, n int) (delay time.Duration) {
	for n > 0 {
		part := min(n, l.Burst())
		delay = l.ReserveN(now, part).DelayFrom(now)
		n -= part
	}
	return delay
}

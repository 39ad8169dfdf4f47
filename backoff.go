package crosscomm

import (
	"math/rand/v2"
	"time"
)

// stableAfter is how long a link must have lasted for the next attempt to
// connect to count as a first one again, so that a server that drops logins at
// once is not hammered.
const stableAfter = 5 * time.Second

// backoff tells how long to wait before the next attempt to connect: full
// jitter, so that clients that lost the same server do not come back all at once.
type backoff struct {
	min, max time.Duration
	attempts int
}

func (b *backoff) next() time.Duration {
	bound := b.max
	// Shifted step by step, for it must not overflow.
	for d, n := b.min, 0; d < b.max; d, n = d*2, n+1 {
		if n == b.attempts {
			bound = d
			break
		}
	}
	b.attempts++
	return time.Duration(rand.Int64N(int64(bound) + 1))
}

func (b *backoff) reset() { b.attempts = 0 }

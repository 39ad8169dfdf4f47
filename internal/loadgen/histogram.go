package loadgen

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts times with an error of at most 1/16. It may be used
// concurrently.
type histogram struct {
	counts [64 * 16]atomic.Uint64
	max    atomic.Int64
}

func (h *histogram) add(d time.Duration) {
	n := uint64(max(d, 0))
	h.counts[bucket(n)].Add(1)
	for {
		old := h.max.Load()
		if int64(n) <= old || h.max.CompareAndSwap(old, int64(n)) {
			return
		}
	}
}

// bucket is 16 times the number's bits, and the four bits after the first.
func bucket(n uint64) int {
	if n < 16 {
		return int(n)
	}
	shift := bits.Len64(n) - 5
	return 16*(shift+1) + int(n>>shift&15)
}

// upTo is the largest number in the bucket.
func upTo(i int) uint64 {
	if i < 16 {
		return uint64(i)
	}
	shift := i/16 - 1
	return (uint64(16+i%16)+1)<<shift - 1
}

func (h *histogram) reset() {
	for i := range h.counts {
		h.counts[i].Store(0)
	}
	h.max.Store(0)
}

func (h *histogram) latency() Latency {
	total := uint64(0)
	for i := range h.counts {
		total += h.counts[i].Load()
	}
	most := time.Duration(h.max.Load())
	quantile := func(q float64) time.Duration {
		want, seen := uint64(q*float64(total)), uint64(0)
		for i := range h.counts {
			if seen += h.counts[i].Load(); seen > want {
				return min(time.Duration(upTo(i)), most)
			}
		}
		return most
	}
	if total == 0 {
		return Latency{}
	}
	return Latency{Median: quantile(0.5), P90: quantile(0.9), P99: quantile(0.99), Max: most}
}

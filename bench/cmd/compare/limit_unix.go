//go:build unix

package main

import (
	"math"
	"syscall"
)

// raiseLimit raises how many files a process may have open as far as it may, and
// returns how many that are. Go's own runtime does so too, but for itself: its
// children do not inherit that, and Python does not do it.
func raiseLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxUint64 // then a connection that cannot be had will tell
	}
	highest := limit
	highest.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &highest); err != nil {
		// Some systems do not give what they call the highest.
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
		return uint64(limit.Cur)
	}
	return uint64(highest.Cur)
}

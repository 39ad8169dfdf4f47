// Package torture attacks the server and the client, and has networks, processes,
// clocks and disks fail under them, always with real sockets, files and processes.
//
// As part of all tests each one runs small, so that all take less than a minute.
// With -full they run at length, as "make torture" does, and print figures that say
// something: those of a small run, under the race detector, say only that the test
// works. No time is asserted.
package torture

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

var (
	full     = flag.Bool("full", false, "attack at length, with thousands of clients: that takes hours")
	soakFor  = flag.Duration("soak", 0, "how long TestSoak takes; 0 is 4s, or 2h with -full")
	rssBound = flag.Int64("rss-bound", 0, "how many bytes of memory a server may have at most in TestStalledReaders; 0 is no bound")
)

// ofFull returns how much of something a test does.
func ofFull(small, large int) int {
	if *full {
		return large
	}
	return small
}

// sideBySide lets a test run together with others, unless it is to measure something.
func sideBySide(t *testing.T) {
	t.Helper()
	if !*full {
		t.Parallel()
	}
}

// asChild makes the test binary something else than a test: see roles.
const asChild = "CROSSCOMM_TORTURE_AS"

// roles are what a child process does; each returns the exit code.
var roles = map[string]func() int{"server": runServer}

func TestMain(m *testing.M) {
	if role, ok := os.LookupEnv(asChild); ok {
		run := roles[role]
		if run == nil {
			fmt.Fprintf(os.Stderr, "there is no role %q\n", role)
			os.Exit(2)
		}
		os.Exit(run())
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(programDir)
		os.Exit(code)
	}))
}

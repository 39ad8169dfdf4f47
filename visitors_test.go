package crosscomm

import (
	"net/netip"
	"testing"
	"time"
)

// Failures are kept for a bounded number of addresses, those that have failed within a
// minute rather than others.
func TestFailuresAreBounded(t *testing.T) {
	f := failures{perMinute: 2}
	now := time.Now()
	nth := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}) }
	for n := range mostFailing {
		f.note(nth(n), now)
	}
	recent := nth(mostFailing - 1)
	now = now.Add(time.Minute)
	f.note(recent, now)
	f.note(recent, now)
	f.note(nth(mostFailing), now)
	if len(f.each) != 2 || !f.tooMany(recent, now) || f.tooMany(nth(mostFailing), now) {
		t.Errorf("of those of a minute ago %d are kept, too", len(f.each)-2)
	}
	for n := range 3 * mostFailing {
		f.note(nth(n), now)
		if len(f.each) > mostFailing {
			t.Fatalf("%d are kept", len(f.each))
		}
	}
	if len(f.each) < mostFailing*9/10 {
		t.Errorf("only %d are kept", len(f.each))
	}
}

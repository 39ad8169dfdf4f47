// Package testkit is what the tests of several packages share.
package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// FreePort returns a port of 127.0.0.1 that is free, and will be again when a
// server of the test's has left it. A port that the system chooses would not do:
// while it is free, the system may give it to any outgoing connection.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 20_000 + rand.IntN(12_000) // below where Linux and Windows take theirs
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("there is no free port")
	return 0
}

// Package testport finds ports for tests that need one twice.
package testport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Free returns a port of 127.0.0.1 that is free, and will be again when a
// server of the test's has left it. A port that the system chooses would not do:
// while it is free, the system may give it to any outgoing connection.
func Free(t *testing.T) int {
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

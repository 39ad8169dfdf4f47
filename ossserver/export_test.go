package ossserver

import "time"

// SetStall shortens for a test how long a peer may stall.
func (s *Server) SetStall(d time.Duration) { s.stall.Store(int64(d)) }

// RemoveOld removes what is too old now.
func (s *Server) RemoveOld() { s.removeOld() }

// ParseRange and CheckKey are for fuzz tests.
var (
	ParseRange = parseRange
	CheckKey   = checkKey
)

//go:build !unix

package crosscomm

// openNonblocking is 0 where no pipe can take the place of a file.
const openNonblocking = 0

//go:build unix

package crosscomm

import "syscall"

// openNonblocking has a pipe opened at once: one that has taken the place of a
// file would else wait for a writer for ever. To files it means nothing.
const openNonblocking = syscall.O_NONBLOCK

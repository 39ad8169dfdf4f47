// Package diskfull tells a full disk from other failures of a file system.
package diskfull

import (
	"errors"
	"runtime"
	"syscall"
)

// Is reports whether there was no room for what was written.
func Is(err error) bool {
	const windowsDiskFull = syscall.Errno(112)
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || runtime.GOOS == "windows" && errors.Is(err, windowsDiskFull)
}

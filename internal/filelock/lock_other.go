//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package filelock

import "os"

// tryLock has no lock to take here; Python's filelock has none either.
func tryLock(*os.File) error { return nil }

func tryLockDirectory(*os.File) error { return nil }

func unlock(*os.File) {}

//go:build linux && (amd64 || arm64)

package objects

import (
	"os"
	"syscall"
)

// beginWriteback tells the system to begin with bringing the bytes to the disk.
// It does not make them durable, and that it fails does no harm.
func beginWriteback(w any, offset, n int64) {
	file, ok := w.(*os.File)
	if !ok {
		return
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return
	}
	const write = 2 // SYNC_FILE_RANGE_WRITE
	_ = raw.Control(func(fd uintptr) { _ = syscall.SyncFileRange(int(fd), offset, n, write) })
}

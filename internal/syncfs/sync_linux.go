package syncfs

import (
	"os"

	"golang.org/x/sys/unix"
)

func sync(file *os.File) (bool, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return true, err
	}
	var syncErr error
	err = conn.Control(func(fd uintptr) { syncErr = unix.Syncfs(int(fd)) })
	if err == nil {
		err = syncErr
	}
	return true, err
}

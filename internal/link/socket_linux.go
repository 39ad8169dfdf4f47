package link

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// errWouldBlock is returned by readSocket if there is nothing to read yet.
const errWouldBlock = syscall.EAGAIN

// plainSocket returns how to read and write the connection without waiting, or
// nil if it is not a socket itself.
func plainSocket(conn net.Conn) syscall.RawConn {
	var raw syscall.RawConn
	var err error
	switch c := conn.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	}
	if err != nil {
		return nil
	}
	return raw
}

// readSocket reads what there is. The calls are those of package syscall where
// it has them: the race detector knows what these order.
func readSocket(fd uintptr, p []byte) (n int, err error) {
	for {
		n, err = syscall.Read(int(fd), p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// writeNow writes as much as the socket takes without waiting, and returns how
// many bytes that were.
func writeNow(raw syscall.RawConn, parts [][]byte) (n int, err error) {
	var writeErr error
	err = raw.Write(func(fd uintptr) bool {
		for {
			if len(parts) == 1 {
				n, writeErr = syscall.Write(int(fd), parts[0])
			} else {
				n, writeErr = unix.Writev(int(fd), parts)
			}
			if writeErr != syscall.EINTR {
				return true // also if there is no room: it is not waited for
			}
		}
	})
	switch {
	case err != nil:
		return 0, err
	case writeErr == syscall.EAGAIN:
		return 0, nil
	}
	return max(n, 0), writeErr
}

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

// writeSocket writes as much as the socket takes without waiting.
func writeSocket(fd uintptr, parts [][]byte) (n int, err error) {
	for {
		if len(parts) == 1 {
			n, err = syscall.Write(int(fd), parts[0])
		} else {
			n, err = unix.Writev(int(fd), parts)
		}
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

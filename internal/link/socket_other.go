//go:build !linux

package link

import (
	"errors"
	"net"
	"syscall"
)

// errWouldBlock is not returned here, where nothing is called with a socket.
var errWouldBlock error = errors.New("would block")

// plainSocket returns nil: sockets are read and written as any connection.
func plainSocket(net.Conn) syscall.RawConn { return nil }

func readSocket(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

func writeSocket(uintptr, [][]byte) (int, error) { return 0, errors.ErrUnsupported }

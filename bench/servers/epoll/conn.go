//go:build linux

package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mostWaiting is how much may wait for a client that does not take it.
const mostWaiting = 64 << 20

// conn is a connection. One that is idle has nothing but this.
type conn struct {
	fd       int
	upgraded bool
	closed   bool   // and soon no more
	id       string // that has logged in, or ""
	place    int    // among those that have logged in, or -1
	last     *conn  // the last receiver

	rest    []byte  // what was read of a frame that is not there whole
	parts   []byte  // of a message in parts
	todo    []piece // what of the relay's output is to be written
	waiting []byte  // what the kernel had no room for; it goes first
}

// piece is a part of the relay's output.
type piece struct{ begin, end int }

// send has the connection get the output from at on.
func (r *relay) send(c *conn, at int) {
	end := len(r.out)
	if n := len(c.todo); n > 0 {
		if c.todo[n-1].end == at {
			c.todo[n-1].end = end
			return
		}
	} else {
		r.dirty = append(r.dirty, c)
	}
	c.todo = append(c.todo, piece{at, end})
}

// flush writes all output.
func (r *relay) flush() {
	for i, c := range r.dirty {
		r.write(c)
		r.dirty[i] = nil
	}
	r.dirty = r.dirty[:0]
	if cap(r.out) > 4*flushAt {
		r.out = make([]byte, 0, 2*flushAt)
	}
	r.out = r.out[:0]
}

// write writes what the connection is to get, or as much as there is room for.
func (r *relay) write(c *conn) {
	waited := len(c.waiting) > 0
	var n int
	var errno unix.Errno
	switch {
	case waited:
		for _, p := range c.todo {
			c.waiting = append(c.waiting, r.out[p.begin:p.end]...)
		}
		c.todo = c.todo[:0]
		if n, errno = call(unix.SYS_WRITE, c.fd, c.waiting); errno == 0 {
			c.waiting = c.waiting[n:]
		}
	case len(c.todo) == 1:
		p := c.todo[0]
		if n, errno = call(unix.SYS_WRITE, c.fd, r.out[p.begin:p.end]); errno == 0 {
			c.todo[0].begin += n
		}
	case len(c.todo) > 1:
		n, errno = r.writev(c)
		for i := range c.todo {
			p := &c.todo[i]
			part := min(n, p.end-p.begin)
			p.begin += part
			n -= part
		}
	}
	for _, p := range c.todo {
		c.waiting = append(c.waiting, r.out[p.begin:p.end]...)
	}
	c.todo = c.todo[:0]
	if cap(c.todo) > 64 {
		c.todo = nil
	}
	if len(c.waiting) == 0 {
		c.waiting = nil
	}
	broken := errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR || len(c.waiting) > mostWaiting
	if waits := len(c.waiting) > 0; waits != waited && !broken && !c.closed {
		events := uint32(unix.EPOLLIN)
		if waits {
			events |= unix.EPOLLOUT
		}
		broken = r.watch(unix.EPOLL_CTL_MOD, c.fd, events) != nil
	}
	if broken {
		c.waiting = nil
		r.close(c)
	}
}

// mostVectors is how many pieces the kernel takes in a call.
const mostVectors = 1024

func (r *relay) writev(c *conn) (n int, errno unix.Errno) {
	var vectors [mostVectors]unix.Iovec
	pieces := c.todo[:min(len(c.todo), mostVectors)]
	for i, p := range pieces {
		vectors[i].Base = &r.out[p.begin]
		vectors[i].SetLen(p.end - p.begin)
	}
	got, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(c.fd), uintptr(unsafe.Pointer(&vectors)), uintptr(len(pieces)))
	if errno != 0 {
		return 0, errno
	}
	return int(got), 0
}

// call reads or writes without telling the scheduler: it does not block, and
// there is no other goroutine to run meanwhile.
func call(number uintptr, fd int, b []byte) (n int, errno unix.Errno) {
	got, _, errno := unix.RawSyscall(number, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(got), 0
}

//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/crosscomm/crosscomm-go/bench/internal/wire"
	"github.com/crosscomm/crosscomm-go/internal/frame"
)

const (
	eventsAtOnce = 512
	// readSize is how much is read of a connection at once, so that one cannot
	// keep the others waiting.
	readSize = 256 << 10
	// flushAt is how much output is gathered before it is written although
	// there is input left: what is written should still be in the caches.
	flushAt = 1 << 20
)

// relay is the whole server.
//
// What its connections send is copied into the room for output, without a mask
// and each frame once, whoever gets it. A connection has the ranges of that which
// it is to get: of frames one after another a single one. When the input that
// epoll has told of is used up, each is written what is its own in one call.
type relay struct {
	listener, epoll int
	conns           []*conn          // by their file descriptors
	clients         map[string]*conn // those that have logged in, by their ids
	everybody       []*conn          // the same; each knows its place

	in    []byte  // what is read
	out   []byte  // what is to be written
	dirty []*conn // who is to be written to
	dying []*conn // who is to be closed
}

func newRelay(listener int) (*relay, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	r := &relay{listener: listener, epoll: epoll, clients: map[string]*conn{}, in: make([]byte, readSize), out: make([]byte, 0, 2*flushAt)}
	return r, r.watch(unix.EPOLL_CTL_ADD, listener, unix.EPOLLIN)
}

func (r *relay) watch(op, fd int, events uint32) error {
	if err := unix.EpollCtl(r.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

func (r *relay) run() error {
	events := make([]unix.EpollEvent, eventsAtOnce)
	for {
		n, err := unix.EpollWait(r.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		arrivals := false
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == r.listener {
				arrivals = true
				continue
			}
			c := r.conns[e.Fd]
			if e.Events&unix.EPOLLOUT != 0 {
				r.write(c)
			}
			if e.Events&^unix.EPOLLOUT != 0 && !c.closed {
				r.read(c)
			}
			if len(r.out) >= flushAt {
				r.flush()
			}
		}
		r.flush()
		for _, c := range r.dying {
			r.conns[c.fd] = nil
			unix.Close(c.fd)
		}
		r.dying = r.dying[:0]
		if arrivals { // now, as a new connection may get the number of a closed one
			if err := r.accept(); err != nil {
				return err
			}
		}
	}
}

// accept takes all connections that are there.
func (r *relay) accept() error {
	for {
		fd, _, err := unix.Accept4(r.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil:
			return fmt.Errorf("accept: %w", err)
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		for len(r.conns) <= fd {
			r.conns = append(r.conns, nil)
		}
		r.conns[fd] = &conn{fd: fd, place: -1}
		if err := r.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN); err != nil {
			return err
		}
	}
}

// read reads once, and handles all that is there whole.
func (r *relay) read(c *conn) {
	have := copy(r.in, c.rest)
	n, errno := call(unix.SYS_READ, c.fd, r.in[have:])
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return
	}
	if errno != 0 || n == 0 {
		r.close(c)
		return
	}
	data := r.in[:have+n]
	used := 0
	if !c.upgraded {
		used = r.upgrade(c, data)
	}
	need := 0
	for c.upgraded && !c.closed {
		f, size := parse(data[used:])
		if size <= 0 || size > len(data)-used {
			need = size
			break
		}
		r.handle(c, f, data[used:used+size])
		used += size
	}
	c.rest = append(c.rest[:0], data[used:]...)
	if len(c.rest) == 0 {
		c.rest = nil // most have none most of the time
	}
	switch {
	case need < 0 || len(c.parts) > wire.MaxMessage:
		r.close(c)
	case need > len(r.in)/2: // or there would be no room for its end
		r.in = make([]byte, 2*need)
	}
}

// handle handles a WebSocket frame.
func (r *relay) handle(c *conn, f header, data []byte) {
	payload := data[f.size:]
	if f.op >= opClose { // a control frame; these are few
		unmask(payload, payload, f.mask)
		switch f.op {
		case opClose:
			r.own(c, opClose, payload[:min(len(payload), 2)])
			r.close(c)
		case opPing:
			r.own(c, opPong, payload)
		}
		return
	}
	if !f.final || f.op == opContinuation { // a message in parts
		begin := len(c.parts)
		c.parts = append(c.parts, payload...)
		unmask(c.parts[begin:], payload, f.mask)
		if f.final {
			at := len(r.out)
			r.out = append(appendHeader(r.out, opText, len(c.parts)), c.parts...)
			r.message(c, r.out[len(r.out)-len(c.parts):], at)
			c.parts = nil
		}
		return
	}
	at := len(r.out)
	r.out = appendHeader(r.out, opText, len(payload))
	begin := len(r.out)
	r.out = append(r.out, payload...)
	unmask(r.out[begin:], payload, f.mask)
	r.message(c, r.out[begin:], at)
}

// message handles a message of the protocol: the text at the end of the output,
// whose frame begins at the index.
func (r *relay) message(c *conn, text []byte, at int) {
	if *check {
		if _, err := frame.Scan(text); err != nil {
			r.out = r.out[:at]
			return
		}
	}
	f, ok := wire.Scan(text)
	if !ok {
		var err error
		if f, err = wire.Decode(text); err != nil {
			r.out = r.out[:at]
			return
		}
	}
	switch {
	case f.Relayed() && f.To == wire.All:
		for _, to := range r.everybody {
			if to != c {
				r.send(to, at)
			}
		}
		return
	case f.Relayed():
		// Most send to the same one again.
		to := c.last
		if to == nil || to.place < 0 || to.id != f.To {
			to = r.clients[f.To]
			c.last = to
		}
		if to != nil {
			r.send(to, at)
			return
		}
	case f.Type == wire.Login && f.From != "":
		id := strings.Clone(f.From) // the output is used again
		r.out = r.out[:at]
		r.login(c, id)
		return
	case f.Type == wire.Logout:
		r.logout(c)
	}
	r.out = r.out[:at] // nobody gets it
}

// own sends a frame of the server itself.
func (r *relay) own(c *conn, op byte, payload []byte) {
	at := len(r.out)
	r.out = append(appendHeader(r.out, op, len(payload)), payload...)
	r.send(c, at)
}

func (r *relay) login(c *conn, id string) {
	r.logout(c)
	if old := r.clients[id]; old != nil {
		r.logout(old)
	}
	c.id, c.place = id, len(r.everybody)
	r.clients[id] = c
	r.everybody = append(r.everybody, c)
	r.own(c, opText, wire.LoginResponse(id))
}

func (r *relay) logout(c *conn) {
	if c.place < 0 {
		return
	}
	delete(r.clients, c.id)
	end := len(r.everybody) - 1
	r.everybody[c.place] = r.everybody[end]
	r.everybody[c.place].place = c.place
	r.everybody[end] = nil
	r.everybody = r.everybody[:end]
	c.id, c.place = "", -1
}

// close ends a connection when the output is written.
func (r *relay) close(c *conn) {
	if !c.closed {
		c.closed = true
		r.logout(c)
		r.dying = append(r.dying, c)
	}
}

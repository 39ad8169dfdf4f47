//go:build linux

// Command epoll is the practical limit for the comparison, a ruler and no
// server: a relay in one thread that uses the kernel's epoll directly and does
// the least that brings the messages to where they belong. One thread is best
// for the processor time of a message: nothing is handed over, nobody is woken,
// and the busier it is the more messages go into one write.
//
// It has no timeouts, no TLS, no logging; without --check it does not look whether a
// frame is JSON and UTF-8 but where that matters to itself, and it keeps what slow clients do
// not take, up to a bound at which it disconnects them.
package main

import (
	"flag"
	"log"
	"net"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/crosscomm/crosscomm-go/bench/internal/serve"
)

var check = flag.Bool("check", false, "relay only what is a valid frame, as a server must")

func main() {
	runtime.LockOSThread()
	l, ok := serve.Listen().(*net.TCPListener)
	if !ok {
		log.Fatal("that is no TCP address")
	}
	file, err := l.File()
	if err != nil {
		log.Fatal(err)
	}
	l.Close() // the file is a second one; the runtime shall not watch the first
	listener := int(file.Fd())
	if err := unix.SetNonblock(listener, true); err != nil {
		log.Fatal(err)
	}
	r, err := newRelay(listener)
	if err != nil {
		log.Fatal(err)
	}
	err = r.run()
	runtime.KeepAlive(file)
	log.Fatal(err)
}

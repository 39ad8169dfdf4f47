package link

import (
	"bufio"
	"net"
	"net/http"
)

// Batch collects links that messages were queued for, and wakes their writers
// later, all at once: the messages of one burst of input then go out in one
// write for each link. It belongs to one goroutine, which must call Flush before
// it waits for anything. The zero value is ready.
type Batch struct {
	links []*Link
}

// Send is [Link.Send], but for the writer, which learns of the message at the
// next Flush at the latest.
func (b *Batch) Send(l *Link, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.sendLocked(data)
	if err == nil && l.batch != b {
		l.batch = b
		b.links = append(b.links, l)
	}
	return err
}

// Flush wakes the writers.
func (b *Batch) Flush() {
	for i, l := range b.links {
		l.mu.Lock()
		if l.batch == b { // else it is in another one, too
			l.batch = nil
		}
		l.signal()
		l.mu.Unlock()
		b.links[i] = nil
	}
	b.links = b.links[:0]
}

// Input tells when the input of a connection is used up.
type Input struct {
	dry func()
}

// OnDry has f called by the reading goroutine each time that it is about to ask
// the network for more. It must be set before Run.
func (i *Input) OnDry(f func()) { i.dry = f }

// Watch returns a ResponseWriter for a WebSocket handshake, whose connection's
// input the Input tells of.
func (i *Input) Watch(w http.ResponseWriter) http.ResponseWriter { return &watched{w, i} }

type watched struct {
	http.ResponseWriter
	input *Input
}

// Unwrap is for http.ResponseController.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w *watched) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return &inputConn{conn, w.input}, rw, nil
}

// inputConn is a connection whose reads are told of.
type inputConn struct {
	net.Conn
	input *Input
}

// Read implements net.Conn.
func (c *inputConn) Read(p []byte) (int, error) {
	if c.input.dry != nil {
		c.input.dry()
	}
	return c.Conn.Read(p)
}

// CloseWrite closes one direction of a TCP connection; others it leaves alone.
func (c *inputConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

package main

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy brings connections to a server, and can hold up large uploads.
type proxy struct {
	addr string

	mu    sync.Mutex
	now   *phase // of the connections that come
	conns []net.Conn
}

// phase lasts from one call of hold to the next.
type phase struct {
	mu    sync.Mutex
	sent  int64         // bytes of large uploads
	limit int64         // from which on they are held up
	full  chan struct{} // closed when it is reached
	open  chan struct{} // closed to let them go on
}

func startProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String()}
	p.hold(1 << 60)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", server)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			ph := p.now
			p.mu.Unlock()
			work.Go(func() {
				_, _ = io.Copy(in, out)
				in.Close()
			})
			work.Go(func() {
				ph.forward(out, in)
				out.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.hold(1 << 60)
		for _, c := range p.conns {
			c.Close()
		}
		work.Wait()
	})
	return p
}

// hold lets pass what is held up, and holds up large uploads on connections that
// come from now on when so many bytes of them have passed. It returns what is
// closed then.
func (p *proxy) hold(limit int64) (full <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != nil {
		close(p.now.open)
	}
	p.now = &phase{limit: limit, full: make(chan struct{}), open: make(chan struct{})}
	return p.now.full
}

// passed returns how many bytes of large uploads have passed since hold.
func (p *proxy) passed() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.mu.Lock()
	defer p.now.mu.Unlock()
	return p.now.sent
}

// count returns what is to be waited for after n bytes, or nil.
func (ph *phase) count(n int) (open <-chan struct{}) {
	ph.mu.Lock()
	defer ph.mu.Unlock()
	before := ph.sent
	ph.sent += int64(n)
	if ph.sent < ph.limit {
		return nil
	}
	if before < ph.limit {
		close(ph.full)
	}
	return ph.open
}

// forward counts only connections that carry parts of files: the login and the
// logout pass.
func (ph *phase) forward(out io.Writer, in io.Reader) {
	buf := make([]byte, 64<<10)
	for mine := 0; ; {
		n, err := in.Read(buf)
		mine += n
		if mine > 1<<20 {
			if open := ph.count(n); open != nil {
				<-open
			}
		}
		if _, writeErr := out.Write(buf[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

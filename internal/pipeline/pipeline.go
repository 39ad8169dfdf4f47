// Package pipeline has two things done to a stream of bytes at once: one by who
// reads it, buffer by buffer, and one on a goroutine beside.
package pipeline

import (
	"context"
	"errors"
	"io"
	"sync"
)

const (
	// Size is that of a Buffer, in bytes: the unit in which bytes go to a disk.
	Size = 256 << 10
	// depth is how many buffers a pipeline may have.
	depth = 3
)

// Buffer holds a piece of the stream.
type Buffer [Size]byte

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// Pipeline gives buffers to a function, in order. All methods are for one
// goroutine.
type Pipeline struct {
	work   func([]byte) error
	made   []*Buffer
	idle   chan *Buffer
	todo   chan piece // nil while there is no goroutine
	failed chan struct{}
	ended  chan struct{}
	err    error // once failed or ended is closed
	closed bool
}

type piece struct {
	buf *Buffer
	n   int
}

// New makes a pipeline, which must be closed. The first error of work is its
// last call.
func New(work func([]byte) error) *Pipeline {
	return &Pipeline{work: work, idle: make(chan *Buffer, depth)}
}

// Buffer returns a buffer that nobody uses, and waits for one if there are
// enough. It must be given to Add or Return.
func (p *Pipeline) Buffer() *Buffer {
	if len(p.made) == depth {
		return <-p.idle
	}
	select {
	case buf := <-p.idle:
		return buf
	default:
	}
	buf := buffers.Get().(*Buffer)
	p.made = append(p.made, buf)
	return buf
}

// Return gives a buffer back.
func (p *Pipeline) Return(buf *Buffer) { p.idle <- buf }

// Add has the first n bytes of the buffer worked on. They must stay as they are
// until Buffer returns it again, or Close. If the first one is the last there is
// no goroutine.
func (p *Pipeline) Add(buf *Buffer, n int, last bool) {
	if p.todo == nil {
		if last {
			p.err = p.work(buf[:n])
			return
		}
		p.todo, p.failed, p.ended = make(chan piece, depth), make(chan struct{}), make(chan struct{})
		go p.run()
	}
	p.todo <- piece{buf, n}
}

func (p *Pipeline) run() {
	defer close(p.ended)
	for next := range p.todo {
		if p.err == nil {
			if p.err = p.work(next.buf[:next.n]); p.err != nil {
				close(p.failed)
			}
		}
		p.idle <- next.buf
	}
}

// Failed reports whether there is no use in going on.
func (p *Pipeline) Failed() bool {
	select {
	case <-p.failed: // nil, and never ready, while there is no goroutine
		return true
	default:
		return p.failed == nil && p.err != nil
	}
}

// Close waits until all is done, and returns the error of that. It may be called
// again.
func (p *Pipeline) Close() error {
	if p.closed {
		return p.err
	}
	p.closed = true
	if p.todo != nil {
		close(p.todo)
		<-p.ended
	}
	for _, buf := range p.made {
		buffers.Put(buf)
	}
	return p.err
}

// Copy is io.Copy that ends with ctx, and tells of each piece as it goes.
func Copy(ctx context.Context, w io.Writer, r io.Reader, told func(int64)) (n int64, err error) {
	buf := buffers.Get().(*Buffer)
	defer buffers.Put(buf)
	for {
		got, end, err := Fill(ctx, r, buf[:], told)
		if _, err := w.Write(buf[:got]); err != nil {
			return n, err
		}
		n += int64(got)
		if end || err != nil {
			return n, err
		}
	}
}

// Fill reads until buf is full, r ends, or ctx does, whose cause is the error
// then, and tells of each piece as it goes.
func Fill(ctx context.Context, r io.Reader, buf []byte, told func(int64)) (n int, end bool, err error) {
	for n < len(buf) {
		if ctx.Err() != nil {
			return n, false, context.Cause(ctx)
		}
		got, err := r.Read(buf[n:])
		n += got
		told(int64(got))
		if errors.Is(err, io.EOF) {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

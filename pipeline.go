package crosscomm

import (
	"context"
	"errors"
	"hash"
	"io"
	"os"
	"sync"
)

const (
	// copyBuffer is the unit in which bytes go to the disk, and pipelineDepth
	// how many such units a transfer may have in memory.
	copyBuffer    = 256 << 10
	pipelineDepth = 3
)

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// copyContext is io.Copy that ends with ctx, and tells of each piece as it goes.
// An error of w is a *localError.
func copyContext(ctx context.Context, w io.Writer, r io.Reader, told func(int64)) (n int64, err error) {
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	for {
		got, end, err := readFull(ctx, r, buf[:], told)
		if _, err := w.Write(buf[:got]); err != nil {
			return n, &localError{err}
		}
		n += int64(got)
		if end || err != nil {
			return n, err
		}
	}
}

// readFull reads until buf is full, r ends, or ctx does, and tells as it goes.
func readFull(ctx context.Context, r io.Reader, buf []byte, told func(int64)) (n int, end bool, err error) {
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

// copySummed is copyContext to a file, with a sum of what was copied. Beyond the
// first buffer it reads and sums up while it writes: neither the network nor the
// disk waits for the other. The function told is called for what was read.
func copySummed(ctx context.Context, file io.Writer, sum hash.Hash, r io.Reader, told func(int64)) (n int64, err error) {
	p := &pipeline{w: file, idle: make(chan *[copyBuffer]byte, pipelineDepth)}
	defer p.free()
	for {
		buf := p.buffer()
		got, end, err := readFull(ctx, r, buf[:], told)
		sum.Write(buf[:got])
		p.write(buf, got, end)
		n += int64(got)
		if p.broken() || end || err != nil {
			// What was summed up must be written, also before trying again.
			if writeErr := p.wait(); writeErr != nil {
				return n, &localError{writeErr}
			}
			return n, err
		}
	}
}

// pipeline writes buffers, in order, on a goroutine of its own.
type pipeline struct {
	w    io.Writer
	idle chan *[copyBuffer]byte
	made []*[copyBuffer]byte
	todo chan chunk // nil while there is no goroutine

	failed chan struct{} // closed when err is set
	ended  chan struct{}
	err    error
}

type chunk struct {
	buf *[copyBuffer]byte
	n   int
}

// buffer returns one that is not being written, and waits for that.
func (p *pipeline) buffer() *[copyBuffer]byte {
	if len(p.made) == pipelineDepth {
		return <-p.idle
	}
	select {
	case buf := <-p.idle:
		return buf
	default:
	}
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	p.made = append(p.made, buf)
	return buf
}

// write writes n bytes of a buffer, which must stay as they are until buffer
// returns it again. If it is the first one and the last, there is no goroutine.
func (p *pipeline) write(buf *[copyBuffer]byte, n int, last bool) {
	if p.todo == nil {
		if last {
			_, p.err = p.w.Write(buf[:n])
			return
		}
		p.todo, p.failed, p.ended = make(chan chunk, pipelineDepth), make(chan struct{}), make(chan struct{})
		go p.run()
	}
	p.todo <- chunk{buf, n}
}

func (p *pipeline) run() {
	defer close(p.ended)
	var flush flusher
	defer flush.wait()
	for c := range p.todo {
		if p.err == nil {
			if _, err := p.w.Write(c.buf[:c.n]); err != nil {
				p.err = err
				close(p.failed)
			}
			flush.wrote(p.w, c.n)
		}
		p.idle <- c.buf
	}
}

// broken reports whether there is no use in going on.
func (p *pipeline) broken() bool {
	return p.failed != nil && isClosed(p.failed)
}

// wait waits until all is written, and returns the error of that. Nothing may be
// written any more.
func (p *pipeline) wait() error {
	if p.todo != nil {
		close(p.todo)
		<-p.ended
	}
	return p.err
}

func (p *pipeline) free() {
	for _, buf := range p.made {
		copyBuffers.Put(buf)
	}
}

// flushEvery is how much is written before the disk is told to begin with it.
const flushEvery = 32 << 20

// flusher has a large file go to the disk while the rest of it still comes, so
// that the sync at the end does not find all of it waiting.
type flusher struct {
	since int // bytes
	busy  chan struct{}
}

func (f *flusher) wrote(w io.Writer, n int) {
	file, ok := w.(*os.File)
	if f.since += n; !ok || f.since < flushEvery || f.busy != nil && !isClosed(f.busy) {
		return
	}
	done := make(chan struct{})
	f.since, f.busy = 0, done
	go func() {
		defer close(done)
		_ = file.Sync() // the last one counts, and tells what is wrong
	}()
}

// wait waits for a sync that is under way: the file may be closed then.
func (f *flusher) wait() {
	if f.busy != nil {
		<-f.busy
	}
}

// waitFor runs f, which nothing can interrupt, such as a sync of the disk, and
// returns its error; or that of ctx, if it ends before. The function abandon, if
// not nil, is then called when f has ended at last.
func waitFor(ctx context.Context, f func() error, abandon func()) error {
	done, left := make(chan error), make(chan struct{})
	go func() {
		err := f()
		select {
		case done <- err:
		case <-left:
			if abandon != nil {
				abandon()
			}
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		close(left)
		return context.Cause(ctx)
	}
}

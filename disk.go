package crosscomm

import (
	"context"
	"hash"
	"io"

	"github.com/crosscomm/crosscomm-go/internal/pipeline"
)

// copySummed copies to a file, with a sum of what was copied, and writes while it
// reads and sums up: neither the network nor the disk waits for the other. The
// function told is called for what was read. An error of the file is a
// *localError.
func copySummed(ctx context.Context, file io.Writer, sum hash.Hash, r io.Reader, told func(int64)) (n int64, err error) {
	var flush flusher
	defer flush.wait()
	p := pipeline.New(func(b []byte) error {
		if _, err := file.Write(b); err != nil {
			return err
		}
		flush.wrote(file, len(b))
		return nil
	})
	for {
		buf := p.Buffer()
		got, end, err := pipeline.Fill(ctx, r, buf[:], told)
		sum.Write(buf[:got])
		p.Add(buf, got, end)
		n += int64(got)
		if p.Failed() || end || err != nil {
			// What was summed up must be written, also before trying again.
			if writeErr := p.Close(); writeErr != nil {
				return n, &localError{writeErr}
			}
			return n, err
		}
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
	file, ok := w.(interface{ Sync() error })
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

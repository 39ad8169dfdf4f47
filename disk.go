package crosscomm

import (
	"context"
	"hash"
	"io"
	"os"

	"github.com/crosscomm/crosscomm-go/internal/pipeline"
)

// copySummed copies to a file, with a sum of what was copied, and writes while it
// reads and sums up: neither the network nor the disk waits for the other. The
// function told is called for what was read. An error of the file is a
// *localError.
func copySummed(ctx context.Context, file io.Writer, sum hash.Hash, r io.Reader, told func(int64)) (n int64, err error) {
	p := pipeline.New(func(b []byte) error {
		_, err := file.Write(b)
		return err
	})
	defer p.Close() // r, which may be an application's, may panic
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
	since int           // bytes
	busy  chan struct{} // closed when the last sync that was begun has ended; nil if there was none
}

func (f *flusher) wrote(file *os.File, n int) {
	if f.since += n; f.since < flushEvery || f.busy != nil && !isClosed(f.busy) {
		return
	}
	done := make(chan struct{})
	f.since, f.busy = 0, done
	go func() {
		defer close(done)
		_ = file.Sync() // the last one counts, and tells what is wrong
	}()
}

// sync makes the file durable, after what is under way.
func (f *flusher) sync(file *os.File) error {
	if f.busy != nil {
		<-f.busy
	}
	return file.Sync()
}

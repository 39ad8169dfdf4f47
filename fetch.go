package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"

	"github.com/crosscomm/crosscomm-go/internal/checksum"
	"github.com/crosscomm/crosscomm-go/internal/diskfull"
	"github.com/crosscomm/crosscomm-go/internal/pipeline"
)

const (
	// maxMismatches is how often a file may come with other bytes than the store
	// has, and maxChanges how often the object may change while it comes.
	maxMismatches = 3
	maxChanges    = 5
	// progressWorth is how many bytes must come for a broken link to count as a
	// first failure again.
	progressWorth = 64 << 10
)

var (
	errSumMismatch = errors.New("the bytes that came are not those that the store has: the link or a disk has changed them")
	errChanging    = errors.New("the object changes again and again while it is downloaded")
	errLonger      = errors.New("the store has given more bytes than it says that the object has")
)

// fetch is one object on its way to a file. The bytes go to a file of another
// name, which is the same for the same bytes, so that a later run finds it.
type fetch struct {
	*download
	dir       *directory
	key, name string           // the name is one in dir
	begun     func(size int64) // is told when it is known; nil for nobody

	info ObjectInfo
	part *partialFile // nil until it is known what comes
	sum  hash.Hash64
	have int64 // how many bytes the part has, of which sum is

	taken int64 // how many bytes are counted in download.size
}

// run downloads until the file is whole, as long as there is progress.
func (f *fetch) run(ctx context.Context) (err error) {
	defer func() {
		if f.part != nil {
			// On a full disk what is left would fill it until somebody looks.
			f.part.keep = f.part.keep && !diskfull.Is(err) && !diskfull.Is(context.Cause(ctx))
			f.part.abandon()
		}
	}()
	wait := backoff{min: retryMin, max: retryMax}
	for {
		body, err := f.open(ctx)
		if err != nil {
			return err // the store has tried often enough
		}
		before := f.have
		err = f.read(ctx, body)
		if f.have-before >= progressWorth {
			wait.reset() // it goes on, however bad the link is
		}
		switch {
		case err == nil:
			return f.finish(ctx)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !isTransient(err) || diskfull.Is(err) || wait.attempts+1 >= maxAttempts:
			return err
		}
		if !sleep(ctx, wait.next()) {
			return context.Cause(ctx)
		}
	}
}

// open returns the bytes of the object that are missing in the part.
func (f *fetch) open(ctx context.Context) (io.ReadCloser, error) {
	for range maxChanges {
		offset := f.have
		body, info, err := f.store.Get(ctx, f.key, offset)
		if errors.Is(err, ErrShorter) && offset > 0 {
			f.startOver()
			continue
		}
		if err != nil {
			return nil, err
		}
		if f.part == nil || !f.same(info) {
			if err := f.begin(ctx, info); err != nil {
				body.Close()
				return nil, err
			}
		}
		if f.have == offset {
			return body, nil
		}
		body.Close() // there is something of an earlier run, or it must begin anew
		if f.have == info.Size {
			return http.NoBody, nil
		}
	}
	return nil, errChanging
}

func (f *fetch) same(info ObjectInfo) bool {
	return info.ETag == f.info.ETag && info.Size == f.info.Size && info.CRC64 == f.info.CRC64
}

// startOver forgets what has come.
func (f *fetch) startOver() {
	f.told.add(-f.have)
	f.download.size.Add(-f.taken)
	if f.part != nil {
		f.part.keep = false // nobody has these bytes any more
		f.part.abandon()
	}
	f.part, f.have, f.taken, f.sum = nil, 0, 0, checksum.New()
}

// begin opens a part for the object, with what an earlier run has left.
func (f *fetch) begin(ctx context.Context, info ObjectInfo) (err error) {
	if info.Size < 0 {
		return errors.New("the store does not say how large the object is")
	}
	f.startOver()
	if err := f.take(info.Size); err != nil {
		return err
	}
	f.info, f.taken = info, info.Size
	if f.begun != nil {
		f.begun(info.Size)
	}
	id := ""
	if info.Size >= resumeFrom && (info.ETag != "" || info.HasCRC64) {
		f.dir.removeOldParts()
		id = fmt.Sprint(f.key, "\x00", info.ETag, info.CRC64, info.Size)
	}
	if f.part, err = openPartialFile(f.dir.Root, id, info.Mode); err != nil {
		return &localError{err}
	}
	f.have, err = pipeline.Copy(ctx, f.sum, io.LimitReader(f.part, info.Size), f.told.checked)
	f.told.add(f.have)
	return err
}

// read reads the body to its end.
func (f *fetch) read(ctx context.Context, body io.ReadCloser) error {
	defer body.Close()
	missing := f.info.Size - f.have
	n, err := copySummed(ctx, f.part, f.sum, io.LimitReader(body, missing), f.told.add)
	f.have += n
	switch {
	case err != nil:
		return err
	case n < missing:
		return io.ErrUnexpectedEOF
	}
	if n, _ := body.Read(make([]byte, 1)); n > 0 {
		f.part.keep = false
		return &localError{errLonger}
	}
	return nil
}

// finish verifies the file and gives it its name.
func (f *fetch) finish(ctx context.Context) error {
	part := f.part
	f.part = nil
	if f.info.HasCRC64 && f.sum.Sum64() != f.info.CRC64 {
		part.keep = false
		part.abandon()
		f.told.add(-f.have)
		f.download.size.Add(-f.taken)
		return errSumMismatch
	}
	durable := !f.lazy || f.info.Size >= resumeFrom
	err := part.complete(ctx, f.name, f.info, f.umask, durable)
	if errors.Is(err, fs.ErrNotExist) {
		// Another program, which had the part before, has given it its name.
		if there, _ := f.isThere(ctx, f.dir, f.key, f.name); there {
			return nil
		}
	}
	return err
}

package ossserver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/objects"
)

const (
	// stallTime is how long a peer may neither send nor take a byte, before it
	// is given up and its connection closed.
	stallTime = time.Minute
	// sendStep is how much of an object is sent before the time for it begins
	// anew.
	sendStep = 1 << 20
	// maxDrain is how much of a refused body is read.
	maxDrain = 1 << 20
)

// transfer is what comes and goes over the connection of a request, with time
// limits if the http.ResponseWriter supports them.
type transfer struct {
	w     http.ResponseWriter
	r     *http.Request
	limit *http.ResponseController
	stall time.Duration
	// detach stops ending the transfer with the context of the request.
	detach func() bool

	begun  bool // to read the body
	ended  bool // the body was read to its end
	failed bool // the body cannot be read to its end

	mu       sync.Mutex
	over     bool // the context has ended, so there is no more time
	detached bool // it is of no matter any more
}

func newTransfer(w http.ResponseWriter, r *http.Request, stall time.Duration) *transfer {
	t := &transfer{w: w, r: r, limit: http.NewResponseController(w), stall: stall}
	// Neither reading nor writing ends with the context by itself.
	t.detach = context.AfterFunc(r.Context(), t.end)
	if r.ContentLength == 0 {
		t.ended = true
	} else {
		// net/http reads what is left of a body before it answers, also of one
		// that is not wanted.
		t.allowRead()
	}
	return t
}

func (t *transfer) allowRead() { t.allow(t.limit.SetReadDeadline) }

func (t *transfer) allowWrite() { t.allow(t.limit.SetWriteDeadline) }

// allow gives the peer the time of a stall, or none if the context has ended.
func (t *transfer) allow(setDeadline func(time.Time) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	deadline := time.Now().Add(t.stall)
	if t.over {
		deadline = time.Unix(1, 0)
	}
	_ = setDeadline(deadline)
}

// end ends the transfer, since the context has ended.
func (t *transfer) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.detached {
		return
	}
	t.over = true
	_ = t.limit.SetReadDeadline(time.Unix(1, 0))
	_ = t.limit.SetWriteDeadline(time.Unix(1, 0))
}

// settle makes the end of the context of no matter any more. Net/http ends it
// also when a body cannot be read, which is to be answered all the same, and
// shortly.
func (t *transfer) settle() {
	t.detach()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.detached = true
	if t.failed {
		t.over = false
	}
}

// bodyError is the error of a body: the client's fault, or that of the way to
// it.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "reading the body: " + e.err.Error() }

func (e *bodyError) Unwrap() error { return e.err }

// Read reads the body of the request. The errors are io.EOF or a *bodyError.
func (t *transfer) Read(p []byte) (int, error) {
	t.begun = true
	t.allowRead()
	n, err := t.r.Body.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		t.bodyEnded()
		return n, io.EOF
	case err != nil:
		t.failed = true
		return n, &bodyError{err}
	}
	return n, nil
}

// bodyEnded lifts the time limit for reading: from now on net/http reads in
// order to see whether the client is gone, and no limit must make it believe
// so.
func (t *transfer) bodyEnded() {
	t.ended = true
	_ = t.limit.SetReadDeadline(time.Time{})
}

// drain reads what is left of a body that is not wanted before the answer, since
// a client that is still sending sees a reset else. The time for all of it is
// that of one stall. A client that waits to be told to send is not told to.
func (t *transfer) drain() {
	waits := !t.begun && strings.EqualFold(t.r.Header.Get("Expect"), "100-continue")
	if t.ended || t.failed || waits {
		return
	}
	t.allowRead()
	_, err := io.CopyN(io.Discard, t.r.Body, maxDrain)
	switch {
	case errors.Is(err, io.EOF):
		t.bodyEnded()
	case err != nil:
		t.failed = true
	}
}

// write writes the body of an answer.
func (t *transfer) write(text []byte) {
	t.allowWrite()
	_, _ = t.w.Write(text)
}

// send writes a range of the object.
func (t *transfer) send(object *objects.Reader, offset, length int64) error {
	t.drain() // the limit for reading must not end a long download
	for length > 0 {
		t.allowWrite()
		n, err := object.WriteRange(t.w, offset, min(length, sendStep))
		offset, length = offset+n, length-n
		if n > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			continue // it is slow, but has not stalled
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// finish sends what is in buffers, while there is a time limit, and then lifts
// it: the connection may go on to other handlers. The limit for reading stays,
// since net/http may still read; it sets its own for the next request.
func (t *transfer) finish() {
	t.settle()
	t.allowWrite()
	_ = t.limit.Flush()
	_ = t.limit.SetWriteDeadline(time.Time{})
}

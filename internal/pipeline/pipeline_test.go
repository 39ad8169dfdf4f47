package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"

	"github.com/crosscomm/crosscomm-go/internal/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func nothing(int64) {}

// All bytes are worked on, in order, whatever the sizes.
func TestOrder(t *testing.T) {
	for _, size := range []int{0, 1, pipeline.Size - 1, pipeline.Size, pipeline.Size + 1, 20*pipeline.Size + 7} {
		data := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
		var got bytes.Buffer
		p := pipeline.New(func(b []byte) error { _, err := got.Write(b); return err })
		r := iotest.HalfReader(bytes.NewReader(data))
		for end := false; !end; {
			buf := p.Buffer()
			var n int
			var err error
			if n, end, err = pipeline.Fill(context.Background(), r, buf[:], nothing); err != nil {
				t.Fatal(err)
			}
			p.Add(buf, n, end)
			p.Return(p.Buffer()) // one that is not needed
		}
		if err := p.Close(); err != nil || !bytes.Equal(got.Bytes(), data) {
			t.Errorf("%d bytes: got %d, %v", size, got.Len(), err)
		}
	}
}

// An error of the work is the last call, is seen by who fills the buffers, and
// does not block him.
func TestFailure(t *testing.T) {
	failure := errors.New("full")
	calls := 0
	p := pipeline.New(func([]byte) error {
		calls++
		return failure
	})
	for range 10 {
		p.Add(p.Buffer(), 5, false)
	}
	if err := p.Close(); !errors.Is(err, failure) || calls != 1 || !p.Failed() {
		t.Errorf("%d calls, failed %v, %v", calls, p.Failed(), err)
	}
	if err := p.Close(); !errors.Is(err, failure) {
		t.Errorf("the second Close: %v", err)
	}
	alone := pipeline.New(func([]byte) error { return failure })
	alone.Add(alone.Buffer(), 1, true)
	if !alone.Failed() || !errors.Is(alone.Close(), failure) {
		t.Error("the error of the only buffer is lost")
	}
}

func TestCopy(t *testing.T) {
	told := int64(0)
	var got strings.Builder
	text := strings.Repeat("text", pipeline.Size)
	n, err := pipeline.Copy(context.Background(), &got, strings.NewReader(text), func(n int64) { told += n })
	if err != nil || n != int64(len(text)) || told != n || got.String() != text {
		t.Errorf("%d bytes, %d told, %v", n, told, err)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if n, err := pipeline.Copy(ctx, io.Discard, strings.NewReader(text), nothing); n != 0 || !errors.Is(err, cause) {
		t.Errorf("after the end of the context: %d bytes, %v", n, err)
	}
	broken := errors.New("cut")
	if n, err := pipeline.Copy(context.Background(), io.Discard, io.MultiReader(strings.NewReader("some"), iotest.ErrReader(broken)), nothing); n != 4 || !errors.Is(err, broken) {
		t.Errorf("of a broken reader: %d bytes, %v", n, err)
	}
}

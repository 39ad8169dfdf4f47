package loadgen

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Compression is permessage-deflate (RFC 7692) without context takeover: each
// message is compressed for itself, as the servers do it that know no other way.

// rsv1 marks a compressed message in a frame's first byte.
const rsv1 = 0x40

const (
	// syncMarker ends what was flushed; it is not sent.
	syncMarker = "\x00\x00\xff\xff"
	// finalBlock is empty; it ends the stream, which no message does.
	finalBlock = "\x01\x00\x00\xff\xff"
)

// agreesToDeflate reports whether a server's answer to the handshake does.
func agreesToDeflate(h http.Header) bool {
	return strings.Contains(strings.Join(h.Values("Sec-WebSocket-Extensions"), ","), "permessage-deflate")
}

// A deflater takes more than a megabyte: a client has one only while it writes.
type deflater struct {
	w   *flate.Writer
	out bytes.Buffer
}

var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	var err error
	if d.w, err = flate.NewWriter(&d.out, flate.BestSpeed); err != nil {
		panic(err) // there is that level
	}
	return d
}}

// appendDeflated appends the frame of a text, compressed.
func appendDeflated(b, text []byte) []byte {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.out.Reset()
	d.w.Reset(&d.out)
	_, _ = d.w.Write(text) // a bytes.Buffer takes all
	_ = d.w.Flush()
	payload := bytes.TrimSuffix(d.out.Bytes(), []byte(syncMarker))
	return append(appendHeader(b, rsv1|opText, len(payload)), payload...)
}

// An inflater, too, is a connection's only while it is used.
type inflater struct {
	compressed []byte // with its end
	in         bytes.Reader
	r          io.ReadCloser
	out        bytes.Buffer
}

var inflaters = sync.Pool{New: func() any { return &inflater{r: flate.NewReader(nil)} }}

// inflate gives the text of a compressed message, which may have so many bytes
// at most, to the function, which must not keep it.
func inflate(payload []byte, most int, handle func(text []byte) error) error {
	i := inflaters.Get().(*inflater)
	defer inflaters.Put(i)
	i.compressed = append(append(i.compressed[:0], payload...), syncMarker+finalBlock...)
	i.in.Reset(i.compressed)
	if err := i.r.(flate.Resetter).Reset(&i.in, nil); err != nil {
		return err
	}
	i.out.Reset()
	switch n, err := i.out.ReadFrom(io.LimitReader(i.r, int64(most)+1)); {
	case err != nil:
		return fmt.Errorf("%w: it cannot be inflated: %w", errChanged, err)
	case n > int64(most):
		return errors.New("a compressed message is larger than any that was sent")
	}
	return handle(i.out.Bytes())
}

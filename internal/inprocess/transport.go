// Package inprocess lets an http.Client talk to an http.Handler of the same
// program without a network.
package inprocess

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// Transport is an http.RoundTripper that gives each request to the Handler, on
// a goroutine of its own, which ends when the handler returns. The answer's
// body is written while it is read. It may be used concurrently.
type Transport struct {
	Handler http.Handler
}

// RoundTrip implements http.RoundTripper. The error is the context's, or that
// of a handler that panicked before it answered.
func (t Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	in.RemoteAddr = "in-process"
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	if in.ContentLength == 0 && in.Body != http.NoBody {
		in.ContentLength = -1 // as a server sees a body of unknown length
	}
	reader, writer := io.Pipe()
	w := &responseWriter{header: http.Header{}, body: writer, started: make(chan struct{})}
	failed := make(chan error, 1)
	go func() {
		defer in.Body.Close()
		defer func() {
			err := error(io.EOF)
			if ctxErr := in.Context().Err(); ctxErr != nil {
				err = ctxErr // what there is of the answer may not be all
			}
			if p := recover(); p != nil {
				err = fmt.Errorf("the handler panicked: %v", p)
				if e, ok := p.(error); ok && errors.Is(e, http.ErrAbortHandler) {
					err = io.ErrUnexpectedEOF
				}
				failed <- err
			} else {
				w.WriteHeader(http.StatusOK)
			}
			writer.CloseWithError(err)
		}()
		t.Handler.ServeHTTP(w, in)
	}()
	select {
	case <-w.started:
	case err := <-failed:
		select {
		case <-w.started: // it panicked after it had begun to answer
		default:
			return nil, err
		}
	case <-r.Context().Done():
		reader.CloseWithError(r.Context().Err())
		return nil, r.Context().Err()
	}
	resp := &http.Response{
		Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: http.NoBody, ContentLength: -1, Request: r,
	}
	if n, err := strconv.ParseInt(w.sent.Get("Content-Length"), 10, 64); err == nil {
		resp.ContentLength = n
	}
	if r.Method == http.MethodHead {
		reader.Close()
		return resp, nil
	}
	ctx := r.Context()
	stop := context.AfterFunc(ctx, func() { writer.CloseWithError(ctx.Err()) })
	resp.Body = &body{reader, stop}
	return resp, nil
}

// body is an answer's, which ends with the context of the request.
type body struct {
	*io.PipeReader
	stop func() bool
}

func (b *body) Close() error {
	b.stop()
	return b.PipeReader.Close()
}

// responseWriter is the answer of a handler.
type responseWriter struct {
	header  http.Header
	body    *io.PipeWriter
	once    sync.Once
	status  int
	sent    http.Header // as it was when the answer began
	started chan struct{}
}

func (w *responseWriter) Header() http.Header { return w.header }

func (w *responseWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status = status
		w.sent = http.Header{}
		for name, values := range w.header {
			// As they would be read from the wire.
			w.sent[http.CanonicalHeaderKey(name)] = append([]string(nil), values...)
		}
		close(w.started)
	})
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

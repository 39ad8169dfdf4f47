package link

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ErrHandshake is wrapped by the error of Handshake if the answer is none to a
// WebSocket handshake.
var ErrHandshake = errors.New("the server does not answer as WebSocket")

const (
	// mostAnswer is how long a server's answer to the handshake may be, and
	// mostBody what of its body is kept, if there is one.
	mostAnswer = 64 << 10
	mostBody   = 1 << 10
	// acceptGUID is RFC 6455's, for Sec-WebSocket-Accept.
	acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

// Handshake makes a client's handshake over the connection that Take was given,
// which stays open, and returns the server's answer. With ErrHandshake that is there,
// too, with the beginning of its body. The header is what is asked for beside that:
// a subprotocol, and an extension; whether the server agrees is for the caller to
// see. When ctx ends, the error is its cause, and the connection is of no use.
func (i *Input) Handshake(ctx context.Context, u *url.URL, header http.Header) (*http.Response, error) {
	stop := context.AfterFunc(ctx, func() { _ = i.conn.SetDeadline(time.Unix(1, 0)) }) // long ago
	resp, err := i.handshake(u, header)
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return resp, err
}

func (i *Input) handshake(u *url.URL, header http.Header) (*http.Response, error) {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // it never fails
	key := base64.StdEncoding.EncodeToString(nonce)
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: header.Clone()}
	// Spelled as in the RFC: some servers look for that.
	req.Header["Upgrade"] = []string{"websocket"}
	req.Header["Connection"] = []string{"Upgrade"}
	req.Header["Sec-WebSocket-Key"] = []string{key}
	req.Header["Sec-WebSocket-Version"] = []string{"13"}
	var out bytes.Buffer // for one write
	if err := req.Write(&out); err != nil {
		return nil, err
	}
	if _, err := i.conn.Write(out.Bytes()); err != nil {
		return nil, err
	}
	answer := bufio.NewReader(io.LimitReader(&answerReader{input: i}, mostAnswer))
	resp, err := http.ReadResponse(answer, req)
	if err != nil {
		return nil, err
	}
	accept := sha1.Sum([]byte(key + acceptGUID))
	switch {
	case resp.StatusCode != http.StatusSwitchingProtocols:
		err = fmt.Errorf("%w: the status is %s", ErrHandshake, resp.Status)
	case !hasToken(resp.Header, "Upgrade", "websocket"), !hasToken(resp.Header, "Connection", "upgrade"):
		err = fmt.Errorf("%w: it does not say that it switches to WebSocket", ErrHandshake)
	case resp.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(accept[:]):
		err = fmt.Errorf("%w: its Sec-WebSocket-Accept is wrong", ErrHandshake)
	}
	if err != nil {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, mostBody))
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	return resp, err
}

// answerReader reads a server's answer. Who parses it reads ahead, and what he has read
// of the first frames would be lost: so he gets no more at once than up to an empty
// line, with which the headers end.
type answerReader struct {
	input     *Input
	blankLine bool // whether the line that comes is empty so far
}

// Read implements io.Reader.
func (r *answerReader) Read(p []byte) (int, error) {
	i := r.input
	if len(i.left) == 0 {
		if err := i.fill(); err != nil {
			return 0, err
		}
	}
	n := r.upToBlankLine(i.left[:min(len(p), len(i.left))])
	copy(p, i.left[:n])
	i.left = i.left[n:]
	return n, nil
}

// upToBlankLine returns how many of the bytes come before the end of the first empty
// line, that included.
func (r *answerReader) upToBlankLine(b []byte) int {
	for n, c := range b {
		switch {
		case c == '\n' && r.blankLine:
			return n + 1
		case c == '\n':
			r.blankLine = true
		case c != '\r':
			r.blankLine = false
		}
	}
	return len(b)
}

// hasToken reports whether a header's list has the token, whatever its case.
func hasToken(h http.Header, name, token string) bool {
	for part := range strings.SplitSeq(strings.Join(h.Values(name), ","), ",") {
		if strings.EqualFold(strings.Trim(part, " \t"), token) {
			return true
		}
	}
	return false
}

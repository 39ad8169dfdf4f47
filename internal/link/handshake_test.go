package link_test

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// answering is a server that writes what answer makes of the request, in pieces of so
// many bytes, and then waits for the end of the connection.
func answering(t *testing.T, piece int, answer func(accept string) string) (u *url.URL, conn net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			t.Error(err)
			return
		}
		if req.Host != l.Addr().String() || req.URL.String() != "/path?query=1" || req.Header.Get("Upgrade") != "websocket" || req.Header.Get("Sec-WebSocket-Version") != "13" {
			t.Errorf("asked for %s %s, %v", req.Host, req.URL, req.Header)
		}
		sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		text := answer(base64.StdEncoding.EncodeToString(sum[:]))
		for part := range slices.Chunk([]byte(text), piece) {
			_, _ = conn.Write(part)
		}
		_, _ = io.Copy(io.Discard, conn)
	}()
	conn, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		l.Close()
		<-done
	})
	return &url.URL{Scheme: "ws", Host: l.Addr().String(), Path: "/path", RawQuery: "query=1"}, conn
}

const switching = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: "

// What a server sends right behind its answer comes, however that is cut and its
// lines end.
func TestFramesBehindTheAnswer(t *testing.T) {
	frames := string(append(wsframe.AppendHeader(nil, wsframe.OpText, 9, 0), "\r\n\r\nHTTP/"...))
	frames += string(append(wsframe.AppendHeader(nil, wsframe.OpClose, 2, 0), 1000>>8, 1000&0xff))
	for _, piece := range []int{1, 7, 1 << 20} {
		for _, eol := range []string{"\r\n", "\n"} {
			u, conn := answering(t, piece, func(accept string) string {
				return strings.ReplaceAll(switching+accept+"\r\nX: y\r\n\r\n", "\r\n", eol) + frames
			})
			input := new(link.Input)
			input.Take(conn)
			resp, err := input.Handshake(t.Context(), u, http.Header{})
			if err != nil || resp.Header.Get("X") != "y" {
				t.Fatalf("in pieces of %d: %v", piece, err)
			}
			opts := roomy
			opts.Client = true
			var got []string
			err = link.New(input, opts).Run(func(data []byte, _ bool) bool {
				got = append(got, string(data))
				return true
			})
			var end *link.CloseError
			if len(got) != 1 || got[0] != "\r\n\r\nHTTP/" || !errors.As(err, &end) || end.Code != 1000 {
				t.Errorf("in pieces of %d: got %q, %v", piece, got, err)
			}
		}
	}
}

// What is no answer to a handshake is not taken for one.
func TestNoHandshake(t *testing.T) {
	for want, answer := range map[string]func(accept string) string{
		"401 Unauthorized": func(string) string { return "HTTP/1.1 401 Unauthorized\r\nContent-Length: 6\r\n\r\nno\n\nno" },
		"200 OK": func(a string) string {
			return strings.Replace(switching, "101 Switching Protocols", "200 OK", 1) + a + "\r\nContent-Length: 0\r\n\r\n"
		},
		"does not say":            func(a string) string { return strings.Replace(switching, "WebSocket", "h2c", 1) + a + "\r\n\r\n" },
		"not say that":            func(a string) string { return strings.Replace(switching, ", Upgrade", "", 1) + a + "\r\n\r\n" },
		"Accept is wrong":         func(a string) string { return switching + a[1:] + "\r\n\r\n" },
		"Sec-WebSocket-Accept is": func(string) string { return strings.TrimSuffix(switching, "Sec-WebSocket-Accept: ") + "\r\n" },
	} {
		u, conn := answering(t, 1<<20, answer)
		input := new(link.Input)
		input.Take(conn)
		resp, err := input.Handshake(t.Context(), u, http.Header{})
		if !errors.Is(err, link.ErrHandshake) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
			continue
		}
		if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode == 401 && string(body) != "no\n\nno" {
			t.Errorf("%s: the body is %q, %v", want, body, err)
		}
	}
	for name, answer := range map[string]string{
		"no HTTP":           "SSH-2.0\r\n\r\n",
		"an endless header": "HTTP/1.1 101 X\r\n" + strings.Repeat("X: y\r\n", 100_000),
	} {
		u, conn := answering(t, 1<<20, func(string) string { return answer })
		input := new(link.Input)
		input.Take(conn)
		if _, err := input.Handshake(t.Context(), u, http.Header{}); err == nil || errors.Is(err, link.ErrHandshake) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A server that does not answer is waited for only as long as the context lasts.
func TestHandshakeCanceled(t *testing.T) {
	because := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	u, conn := answering(t, 1, func(string) string {
		cancel(because)
		return ""
	})
	input := new(link.Input)
	input.Take(conn)
	failed := make(chan error, 1)
	go func() {
		_, err := input.Handshake(ctx, u, http.Header{})
		failed <- err
	}()
	if err := testkit.Receive(t, failed); !errors.Is(err, because) {
		t.Errorf("got %v", err)
	}
}

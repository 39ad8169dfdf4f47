package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// handshakeBuffer is what gorilla is given to write with: it writes only the
// handshake, and what it says by itself of malformed frames.
const handshakeBuffer = 1 << 10

// openFunc opens a network connection, as net.Dialer's DialContext does.
type openFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// dial makes the WebSocket handshake.
func (c *client) dial(ctx context.Context) (l *link.Link, agreed bool, err error) {
	input := new(link.Input)
	watched := func(open openFunc) openFunc {
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := open(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return input.Conn(conn), nil
		}
	}
	secure := &tlsDial{client: c}
	dialer := websocket.Dialer{
		NetDialContext:    watched(c.open),
		NetDialTLSContext: watched(secure.open),
		Subprotocols:      []string{subprotocol},
		EnableCompression: c.s.cfg.Compression,
		ReadBufferSize:    link.ReadBufferSize,
		WriteBufferSize:   handshakeBuffer,
	}
	header := http.Header{}
	if token := c.s.cfg.Token; token != "" {
		header.Set("Authorization", "Bearer "+string(token))
	}
	conn, resp, err := dialer.DialContext(ctx, c.s.cfg.URL, header)
	if err == nil {
		l = link.New(conn, input, link.Options{
			MaxMessage: c.s.cfg.MaxMessageSize,
			MaxQueued:  math.MaxInt, // messages go by Write; only a few short frames of our own go by Send
			PingEvery:  pingEvery,
			Client:     true,
			Deflate:    wsframe.AgreesToDeflate(resp.Header),
		})
		return l, conn.Subprotocol() == subprotocol, nil
	}
	if resp == nil || !errors.Is(err, websocket.ErrBadHandshake) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, false, secure.explain(err)
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	err = explainAnswer(fmt.Errorf("the server answered %s: %q", resp.Status, strings.TrimSpace(string(body))))
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		err = fmt.Errorf("%w: %w", ErrLoginRejected, err)
	}
	return nil, false, err
}

// open opens a network connection.
func (c *client) open(ctx context.Context, network, addr string) (net.Conn, error) {
	if dial := c.s.cfg.DialContext; dial != nil {
		return dial(ctx, network, addr)
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

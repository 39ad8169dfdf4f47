package crosscomm

import (
	"context"
	"crypto/tls"
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
// handshake.
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
	dialer := websocket.Dialer{
		NetDialContext:    watched(c.open),
		NetDialTLSContext: watched(c.openSecure),
		Subprotocols:      []string{subprotocol},
		EnableCompression: c.s.cfg.Compression,
		ReadBufferSize:    link.ReadBufferSize,
		WriteBufferSize:   handshakeBuffer,
	}
	conn, resp, err := dialer.DialContext(ctx, c.s.cfg.URL, nil)
	if err == nil {
		deflate, err := wsframe.AgreesToDeflate(resp.Header, c.s.cfg.Compression)
		if err != nil {
			conn.Close()
			return nil, false, err
		}
		l = link.New(input, link.Options{
			MaxMessage: c.s.cfg.MaxMessageSize,
			MaxQueued:  math.MaxInt, // messages go by Write; only a few short frames of our own go by Send
			PingEvery:  pingEvery,
			Client:     true,
			Deflate:    deflate,
		})
		return l, conn.Subprotocol() == subprotocol, nil
	}
	if resp == nil || !errors.Is(err, websocket.ErrBadHandshake) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, false, err
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	err = fmt.Errorf("the server answered %s: %q", resp.Status, strings.TrimSpace(string(body)))
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

// openSecure opens one with TLS. gorilla would do so, too, but the link must know
// what it writes to.
func (c *client) openSecure(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := c.open(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	cfg := c.s.cfg.TLS.Clone()
	if cfg == nil {
		cfg = new(tls.Config)
	}
	if cfg.ServerName == "" {
		if cfg.ServerName, _, err = net.SplitHostPort(addr); err != nil {
			conn.Close()
			return nil, err
		}
	}
	cfg.NextProtos = []string{"http/1.1"} // HTTP/2 has no such handshake
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

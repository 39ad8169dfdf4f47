package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// openFunc opens a network connection, as net.Dialer's DialContext does.
type openFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// dial opens a connection, makes the WebSocket handshake, and reports whether the
// server has agreed on our subprotocol.
func (c *client) dial(ctx context.Context) (l *link.Link, agreed bool, err error) {
	u, err := url.Parse(c.s.cfg.URL)
	if err != nil {
		return nil, false, err
	}
	secure := &tlsDial{client: c}
	open, port := openFunc(c.open), "80"
	if u.Scheme == "wss" {
		open, port = secure.open, "443"
	}
	if u.Port() != "" {
		port = u.Port()
	}
	conn, err := open(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err == nil {
		if l, agreed, err = c.shakeHands(ctx, conn, u); err != nil {
			conn.Close()
		}
	}
	switch {
	case err == nil:
		return l, agreed, nil
	case ctx.Err() != nil:
		return nil, false, context.Cause(ctx)
	}
	return nil, false, secure.explain(err)
}

// shakeHands is dial with an open connection, which an error leaves open.
func (c *client) shakeHands(ctx context.Context, conn net.Conn, u *url.URL) (l *link.Link, agreed bool, err error) {
	input := new(link.Input)
	input.Take(conn)
	ask := http.Header{"Sec-WebSocket-Protocol": {subprotocol}}
	if c.s.cfg.Compression {
		wsframe.SetOffer(ask)
	}
	if token := c.s.cfg.Token; token != "" {
		ask.Set("Authorization", "Bearer "+string(token))
	}
	resp, err := input.Handshake(ctx, u, ask)
	if errors.Is(err, link.ErrHandshake) {
		return nil, false, answerError(resp)
	}
	if err != nil {
		return nil, false, err
	}
	deflate, err := wsframe.AgreesToDeflate(resp.Header, c.s.cfg.Compression)
	if err != nil {
		return nil, false, err
	}
	selected := resp.Header.Get("Sec-WebSocket-Protocol")
	if selected != "" && selected != subprotocol {
		return nil, false, fmt.Errorf("the server wants the subprotocol %.40q, which was not offered to it", selected)
	}
	return link.New(input, link.Options{
		MaxMessage: c.s.cfg.MaxMessageSize + headersRoom,
		MaxQueued:  math.MaxInt, // messages go by Write; only a few short frames of our own go by Send
		PingEvery:  pingEvery,
		Client:     true,
		Deflate:    deflate,
	}), selected == subprotocol, nil
}

// answerError says what a server has answered in place of a handshake.
func answerError(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // from memory
	err := explainAnswer(fmt.Errorf("the server answered %s: %q", resp.Status, strings.TrimSpace(string(body))))
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		err = fmt.Errorf("%w: %w", ErrLoginRejected, err)
	}
	return err
}

// withoutQuery returns the part of a URL that logs and errors may tell: behind it there
// may be a token.
func withoutQuery(url string) string {
	before, _, _ := strings.Cut(url, "?")
	return before
}

// open opens a network connection.
func (c *client) open(ctx context.Context, network, addr string) (net.Conn, error) {
	if dial := c.s.cfg.DialContext; dial != nil {
		return dial(ctx, network, addr)
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

package link_test

import (
	"crypto/tls"
	"net"
	"net/http"
	neturl "net/url"
	"testing"
	"unicode/utf8"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// dialLink makes a link of a client's end, and runs it.
func dialLink(t testing.TB, url string, opts link.Options, handle func(l *link.Link, data []byte, text bool) bool) (*link.Link, <-chan error) {
	t.Helper()
	u, err := neturl.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	switch way {
	case goroutine:
		conn = hidden{conn}
	case secure:
		conn = tls.Client(conn, unverified)
	}
	t.Cleanup(func() { conn.Close() })
	input := new(link.Input)
	input.Take(conn)
	ask := http.Header{}
	if way == deflating {
		wsframe.SetOffer(ask)
	}
	resp, err := input.Handshake(t.Context(), u, ask)
	if err != nil {
		t.Fatal(err)
	}
	opts.Client = true
	if opts.Deflate, err = wsframe.AgreesToDeflate(resp.Header, way == deflating); err != nil {
		t.Fatal(err)
	}
	l := link.New(input, opts)
	ended := make(chan error, 1)
	go func() { ended <- l.Run(func(data []byte, text bool) bool { return handle(l, data, text) }) }()
	return l, ended
}

// echo sends back what is well-formed.
func echo(l *link.Link, data []byte, text bool) bool {
	if text && !utf8.Valid(data) {
		return false
	}
	_ = l.Echo(data, text) // it fails while the link is closing
	return true
}

// echoServer is a server whose links echo. How each ends goes to the channel.
func echoServer(t testing.TB, opts link.Options) (url string, ended <-chan error) {
	t.Helper()
	ends := make(chan error, 1<<10)
	return newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if l := accept(t, w, r, opts); l != nil {
			ends <- l.Run(func(data []byte, text bool) bool { return echo(l, data, text) })
		}
	}), ends
}

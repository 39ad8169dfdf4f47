package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// tokensFresh is how often is looked whether the file of tokens has changed, beside
// each time that one is shown.
const tokensFresh = time.Second

// credentials are what a connection has come with, by which each of its logins is
// judged. It is nil where none are asked for.
type credentials struct {
	digest      tokenDigest        // of its token
	token       bool               // whether it has one that is known
	certificate *clientCertificate // nil without one
	request     *http.Request      // the handshake, for Config.Authorize; nil if there is no such function
}

var errNoToken = errors.New("a token is needed: --token or CROSSCOMM_TOKEN for crosscomm's own clients, ?token=TOKEN in the address or Authorization: Bearer TOKEN for others")

// authenticate says what a handshake has come with, or why it is turned away
// whoever it may be: a certificate, or else a token if these are asked for. The error
// is for its sender.
func (srv *server) authenticate(run *serverRun, r *http.Request) (*credentials, error) {
	c := &credentials{certificate: clientCertificateOf(r)}
	if run.tokens != nil && c.certificate == nil {
		token := tokenOf(r)
		if token == "" {
			return nil, errNoToken
		}
		srv.refreshTokens(run)
		c.digest = run.tokens.digest(token)
		if _, c.token = run.tokens.owner(c.digest); !c.token {
			return nil, errors.New("the token is not known here")
		}
	}
	if srv.s.cfg.Authorize != nil {
		c.request = r.Clone(handshakeContext{run.ctx, r.Context()})
		c.request.Body = http.NoBody
		if err := srv.ask(c.request, "", r.Context().Done()); err != nil {
			return nil, err
		}
	}
	if c.certificate == nil && !c.token && c.request == nil {
		return nil, nil
	}
	return c, nil
}

// handshakeContext ends with the server, since that of net/http ends with the
// handshake, and has the values of the latter: what stands in front of a mounted server
// may have put there who has logged in.
type handshakeContext struct {
	context.Context
	handshake context.Context
}

// Value implements context.Context.
func (c handshakeContext) Value(key any) any {
	if value := c.Context.Value(key); value != nil {
		return value
	}
	return c.handshake.Value(key)
}

// ask asks Config.Authorize, whose context ends when gone is closed, too: whoever is
// gone needs no answer.
func (srv *server) ask(r *http.Request, id string, gone <-chan struct{}) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	return srv.s.cfg.Authorize(r.WithContext(ctx), id)
}

// admit says why the credentials of the connection do not allow a login with the id.
func (p *peer) admit(id string) error {
	c := p.credentials
	if c == nil {
		return nil
	}
	if err := c.certificate.check(id); err != nil {
		return err
	}
	switch {
	case c.token && !p.run.tokens.allow(c.digest, id):
		return fmt.Errorf("the token is not for %.64q", id)
	case c.request != nil:
		return p.server.ask(c.request, id, p.link.Closing())
	}
	return nil
}

// refreshTokens has tokens count, and count no more, as their file says now. Clients
// whose token does not count any more are disconnected.
func (srv *server) refreshTokens(run *serverRun) {
	if !run.tokens.refresh() {
		return
	}
	for _, m := range srv.hub.all() {
		if p := m.peer.Load(); p != nil && !p.mayStay(m.id) {
			p.link.Close(CloseLoginRejected, "the token does not count any more", closeTimeout)
			if run.endpoint != nil {
				id, _ := run.endpoint.keys.ofClient(m.id)
				run.endpoint.server.Disconnect(id)
			}
		}
	}
}

// mayStay reports whether the token with which the connection was made is still one
// for the id.
func (p *peer) mayStay(id string) bool {
	c := p.credentials
	return c == nil || !c.token || p.run.tokens.allow(c.digest, id)
}

// allowsOrigin reports whether the page of a browser may connect. Programs tell no
// origin.
func (srv *server) allowsOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	if u, err := url.Parse(origin); err == nil && strings.EqualFold(u.Host, r.Host) {
		return true
	}
	return slices.ContainsFunc(srv.s.cfg.AllowedOrigins, func(allowed string) bool {
		return allowed == "*" || strings.EqualFold(allowed, origin)
	})
}

// checkOrigin says what is wrong with an entry of Config.AllowedOrigins.
func checkOrigin(origin string) error {
	if origin == "*" {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
		return fmt.Errorf(`AllowedOrigins has %q; an origin looks like "https://app.example.com" or "http://localhost:3000"; "*" allows all`, origin)
	}
	return nil
}

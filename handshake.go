package crosscomm

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// serveHTTP is Service.ServeHTTP.
func (srv *server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	upgrade := websocket.IsWebSocketUpgrade(r)
	forEndpoint := !upgrade && srv.s.cfg.DataDir != "" && isForEndpoint(r)
	if !forEndpoint { // which has limits of its own
		boundBody(w, r, srv.s.cfg.Limits.HeaderTimeout)
	}
	answerTime := srv.s.cfg.Limits.HeaderTimeout
	if strings.HasPrefix(r.URL.Path, reservedPrefix) && !upgrade {
		http.NotFound(w, r)
		finishAnswer(w, answerTime)
		return
	}
	if !upgrade && !forEndpoint {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		scheme := "ws"
		if r.TLS != nil {
			scheme = "wss"
		}
		http.Error(w, fmt.Sprintf("This is a crosscomm server: it speaks WebSocket.\nConnect a client to it, for instance:  crosscomm listen --server %s://%s%s\n", scheme, r.Host, r.URL.EscapedPath()), http.StatusUpgradeRequired)
		finishAnswer(w, answerTime)
		return
	}
	run, err := srv.enter()
	if err != nil {
		http.Error(w, "The server cannot serve this now; its log says why.", http.StatusServiceUnavailable)
		finishAnswer(w, answerTime)
		return
	}
	if forEndpoint {
		defer run.work.Done()
		srv.serveEndpoint(run, w, r)
		return
	}
	if !srv.serveWebSocket(run, w, r) {
		finishAnswer(w, answerTime)
	}
}

// boundBody bounds the time for the body of a request, which nobody wants. Net/http
// reads what is left of it before it answers, and would wait for it for ever.
func boundBody(w http.ResponseWriter, r *http.Request, timeout time.Duration) {
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout))
	}
}

// finishAnswer sends a short answer within that time after boundBody's, if there is a
// body: to a client that asks again and again, and reads no answer, net/http would
// write for ever.
func finishAnswer(w http.ResponseWriter, timeout time.Duration) {
	limit := http.NewResponseController(w)
	_ = limit.SetWriteDeadline(time.Now().Add(2 * timeout))
	_ = limit.Flush()
	_ = limit.SetWriteDeadline(time.Time{}) // the connection may go on to other handlers
}

// serveWebSocket makes the handshake, has the connection served, and reports true; or
// it answers why not. It calls work.Done of the run when there is no connection, or
// that has ended.
func (srv *server) serveWebSocket(run *serverRun, w http.ResponseWriter, r *http.Request) bool {
	addr := visitorAddr(r, srv.s.cfg.TrustedProxies)
	why := srv.visitors.enter(addr)
	var p *peer
	defer func() {
		if p == nil { // also if Config.Authorize panics
			srv.visitors.leave(addr)
			run.work.Done()
		}
	}()
	if why != "" {
		status := http.StatusServiceUnavailable
		if why == tooManyFromAddress {
			status = http.StatusTooManyRequests
		}
		srv.turnAway(w, addr, status, string(why))
		return false
	}
	if p = srv.handshake(run, w, r, addr); p == nil {
		return false
	}
	// On a goroutine of its own, for that of net/http holds much memory that is
	// needed no more.
	go func() {
		defer run.work.Done()
		defer srv.visitors.leave(addr)
		srv.servePeer(p)
	}()
	return true
}

const tooManyFailures = "too many logins from this address have failed; it may try again in a minute"

// handshake answers one, and returns nil if it is refused.
func (srv *server) handshake(run *serverRun, w http.ResponseWriter, r *http.Request, addr netip.Addr) *peer {
	if srv.failures.tooMany(addr, time.Now()) {
		srv.turnAway(w, addr, http.StatusTooManyRequests, tooManyFailures)
		return nil
	}
	// Before the token: a page of anywhere must not use up the failures of those who
	// look at it.
	if !srv.allowsOrigin(r) {
		srv.turnAway(w, addr, http.StatusForbidden, "pages of this origin may not connect")
		return nil
	}
	with, err := srv.authenticate(run, r)
	// Again, for Config.Authorize may take long: whoever asks a thousand times at once
	// must not learn more than who asks one time after the other.
	late := srv.failures.tooMany(addr, time.Now())
	if err != nil {
		srv.loginFailed(addr)
	}
	if late {
		srv.turnAway(w, addr, http.StatusTooManyRequests, tooManyFailures)
		return nil
	}
	if err != nil {
		w.Header().Set("WWW-Authenticate", "Bearer")
		srv.turnAway(w, addr, http.StatusUnauthorized, err.Error())
		return nil
	}
	deflate := wsframe.OfferDeflate(r.Header) && srv.s.cfg.Compression
	input := new(link.Input)
	conn, err := srv.upgrader.Upgrade(input.Watch(w), r, nil) // answers by itself if it fails
	if err != nil {
		srv.turnedAway(addr, err.Error())
		return nil
	}
	p := &peer{server: srv, run: run, agreed: conn.Subprotocol() == subprotocol, remote: conn.RemoteAddr(), credentials: with}
	if addrOf(p.remote) != addr && addr.IsValid() {
		p.remote = &net.IPAddr{IP: addr.AsSlice()} // behind the proxy
	}
	p.link = link.New(input, link.Options{
		MaxMessage:  min(maxLogin, srv.s.cfg.MaxMessageSize),
		MaxQueued:   srv.s.cfg.Limits.QueuedBytes,
		Budget:      &srv.queues,
		Deflate:     deflate,
		BeforeFlush: p.endBurst,
		Throttle:    p.throttled,
		OnPong:      func() { p.ponged.Store(srv.hub.now()) },
		OnMark:      p.marked,
	})
	return p
}

// turnAway answers a handshake that is refused.
func (srv *server) turnAway(w http.ResponseWriter, addr netip.Addr, status int, reason string) {
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "60")
	}
	http.Error(w, reason, status)
	srv.turnedAway(addr, reason)
}

// turnedAway counts and logs a connection that is refused.
func (srv *server) turnedAway(addr netip.Addr, reason string) {
	srv.stats.turnedAway.Add(1)
	remote := "" // of a connection that has no IP address
	if addr.IsValid() {
		remote = addr.String()
	}
	srv.stats.warnings.warn(srv.s.log, "a connection was turned away", "remote", remote, "reason", reason)
}

// loginFailed counts a login with what does not allow it.
func (srv *server) loginFailed(addr netip.Addr) {
	srv.stats.failedLogins.Add(1)
	srv.failures.note(addr, time.Now())
}

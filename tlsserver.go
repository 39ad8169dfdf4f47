package crosscomm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"

	"github.com/gorilla/websocket"
)

// checkTLS is the part of check about TLS.
func (c *Config) checkTLS() error {
	switch {
	case c.Role == Client && c.TLSPort != 0:
		return errors.New("TLSPort is a server's; a client's Port is that of its URL, which begins with wss if TLS is set")
	case c.Role == Client && c.TLSRedirect:
		return errors.New("TLSRedirect is a server's")
	case c.Role == Client:
		return nil
	case c.TLSRedirect && c.TLSPort == 0:
		return errors.New("TLSRedirect is set, but not TLSPort, to which it leads")
	case c.TLSPort != 0 && c.TLS == nil:
		return errors.New("TLSPort is set, but not TLS, which has the certificate")
	case c.TLSPort > 65535 || c.TLSPort < 0 && c.TLSPort != AnyPort:
		return fmt.Errorf("TLSPort %d: it must be between 1 and 65535, or AnyPort", c.TLSPort)
	case c.TLSPort == c.Port && c.Port != AnyPort:
		return fmt.Errorf("TLSPort and Port are both %d; without TLSPort the server speaks TLS at Port, and nothing else", c.Port)
	case c.TLS == nil:
		return nil
	case len(c.TLS.Certificates) == 0 && c.TLS.GetCertificate == nil && c.TLS.GetConfigForClient == nil:
		return errors.New("TLS has no certificate: set its Certificates (SelfSigned makes one) or its GetCertificate (LoadCertificate reads one)")
	case c.TLS.MaxVersion != 0 && c.TLS.MaxVersion < tls.VersionTLS12:
		return errors.New("TLS.MaxVersion is less than TLS 1.2, which a server demands")
	}
	return nil
}

// serverTLS returns the configuration for a listener. What a GetConfigForClient of
// the caller's returns is left as it is.
func serverTLS(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.NextProtos = []string{"http/1.1"} // HTTP/2 has no such handshake
	return cfg
}

// listen listens on a port of Config.IP.
func (s *Service) listen(ctx context.Context, port int) (net.Listener, error) {
	number := strconv.Itoa(max(port, 0)) // AnyPort is the system's 0
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(s.cfg.IP, number))
	if err != nil {
		hint := ""
		if errors.Is(err, syscall.EADDRINUSE) {
			hint = " (is another server running there? stop it, or choose another port)"
		}
		return nil, fmt.Errorf("crosscomm: cannot listen: %w%s", err, hint)
	}
	return l, nil
}

// listeners are what a server serves on in one run.
type listeners struct {
	all     []net.Listener
	addr    net.Addr // of the first
	tlsAddr net.Addr // of that which speaks TLS by Config.TLS; nil if none does
}

// listenTLS makes l, which is for Config.Port, speak TLS, or listens for that on
// Config.TLSPort, as the configuration demands. If it fails, l is closed.
func (s *Service) listenTLS(ctx context.Context, l net.Listener) (*listeners, error) {
	on := &listeners{all: []net.Listener{l}, addr: l.Addr()}
	if s.cfg.TLS == nil {
		return on, nil
	}
	secure := &on.all[0]
	if s.cfg.TLSPort != 0 {
		other, err := s.listen(ctx, s.cfg.TLSPort)
		if err != nil {
			l.Close()
			return nil, err
		}
		on.all = append(on.all, other)
		secure = &on.all[1]
	}
	on.tlsAddr = (*secure).Addr()
	*secure = tls.NewListener(*secure, serverTLS(s.cfg.TLS))
	return on, nil
}

func (on *listeners) close() {
	for _, l := range on.all {
		l.Close()
	}
}

// addrs are for the log.
func (on *listeners) addrs() []any {
	attrs := []any{"addr", on.addr.String()}
	if on.tlsAddr != nil {
		attrs = append(attrs, "tls_addr", on.tlsAddr.String())
	}
	return attrs
}

// handler returns what answers the requests.
func (on *listeners) handler(s *Service) http.Handler {
	if !s.cfg.TLSRedirect {
		return s
	}
	_, port, err := net.SplitHostPort(on.tlsAddr.String())
	if err != nil {
		return s // no such address has no port
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			s.ServeHTTP(w, r)
			return
		}
		boundBody(w, r, s.cfg.Limits.HeaderTimeout)
		came := url.URL{Host: r.Host}
		to := *r.URL
		to.Scheme, to.Host = "https", net.JoinHostPort(came.Hostname(), port)
		if websocket.IsWebSocketUpgrade(r) {
			to.Scheme = "wss"
		}
		w.Header().Set("Location", to.String())
		http.Error(w, "This server speaks TLS alone, at "+to.Scheme+"://"+to.Host, http.StatusTemporaryRedirect)
		finishAnswer(w, s.cfg.Limits.HeaderTimeout)
	})
}

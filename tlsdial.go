package crosscomm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
)

// tlsConfig returns a client's configuration for one use.
func (c *client) tlsConfig() *tls.Config {
	cfg := c.s.cfg.TLS.Clone()
	if cfg == nil {
		cfg = new(tls.Config)
	}
	cfg.NextProtos = []string{"http/1.1"} // HTTP/2 has no such handshake
	return cfg
}

// tlsDial opens the connection for a WebSocket handshake with TLS, and knows what
// may be wrong if that fails.
type tlsDial struct {
	client *client
	// Whether the server has asked for a certificate, and was shown one: with TLS
	// 1.3 a client is told only by the failure of its first read, or write, that this
	// was not enough.
	asked, shown bool
}

// open opens it.
func (d *tlsDial) open(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := d.client.open(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	cfg := d.client.tlsConfig()
	if cfg.ServerName == "" {
		if cfg.ServerName, _, err = net.SplitHostPort(addr); err != nil {
			conn.Close()
			return nil, err
		}
	}
	cfg.GetClientCertificate = d.watch(cfg)
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// watch returns a GetClientCertificate that does what the configuration says.
func (d *tlsDial) watch(cfg *tls.Config) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	choose := cfg.GetClientCertificate
	if choose == nil {
		own := cfg.Certificates
		choose = func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			for i := range own {
				if request.SupportsCertificate(&own[i]) == nil {
					return &own[i], nil
				}
			}
			return new(tls.Certificate), nil
		}
	}
	return func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert, err := choose(request)
		d.asked, d.shown = true, cert != nil && len(cert.Certificate) > 0
		return cert, err
	}
}

// explain adds to the error of a handshake what may help.
func (d *tlsDial) explain(err error) error {
	var record tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &record):
		return fmt.Errorf("%w (the server does not speak TLS there: take ws://, or the port at which it does)", err)
	case errors.As(err, &unknown) && unknown.Cert != nil:
		return fmt.Errorf("%w (if the server has printed the pin %s, trust that, or the file with its certificate)", err, Pin(unknown.Cert))
	case d.asked && !d.shown:
		return fmt.Errorf("%w (the server asks for a certificate of the client, and there is none that it would take)", err)
	case d.asked && strings.Contains(err.Error(), "remote error: tls"):
		return fmt.Errorf("%w (the server does not take the client's certificate: it must be of an authority that the server trusts, and valid)", err)
	}
	return err
}

// explainAnswer is explain for a server's answer to a handshake without TLS.
func explainAnswer(err error) error {
	if strings.Contains(err.Error(), "HTTPS") {
		return fmt.Errorf("%w (the server speaks TLS there: take wss://, or the port at which it does not)", err)
	}
	return err
}

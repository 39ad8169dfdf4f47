package crosscomm

import (
	"fmt"
	"net/http"
	"slices"
)

// clientCertificate is a certificate that a client has shown, and that TLS has
// verified.
type clientCertificate struct {
	names []string // that it may log in with: its common name and its DNS names
}

// clientCertificateOf returns that with which a request came, or nil for none. One
// that TLS was only to ask for, and not to verify, says nothing.
func clientCertificateOf(r *http.Request) *clientCertificate {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return nil
	}
	leaf := r.TLS.VerifiedChains[0][0] // all chains begin with it
	names := slices.Clone(leaf.DNSNames)
	if name := leaf.Subject.CommonName; name != "" && !slices.Contains(names, name) {
		names = slices.Insert(names, 0, name)
	}
	return &clientCertificate{names}
}

// check says why a client with the certificate may not log in with the id. For one
// without it says nothing.
func (c *clientCertificate) check(id string) error {
	if c == nil || slices.Contains(c.names, id) {
		return nil
	}
	return fmt.Errorf("the client's certificate is for %.64q, and does not let it log in as %.64q", c.names, id)
}

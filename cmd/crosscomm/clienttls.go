package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"

	"github.com/crosscomm/crosscomm-go"
)

// clientTLSFlags say whom a client trusts, and who it is.
type clientTLSFlags struct {
	TLSCA   string   `name:"tls-ca" help:"Trust the server whose certificate is of an authority in this PEM file, or is itself in it, in place of those that this system trusts." placeholder:"FILE"`
	TLSPin  []string `name:"tls-pin" help:"Trust the server whose key has this pin, and no other; may be given more than once." placeholder:"PIN"`
	TLSCert string   `name:"tls-cert" help:"This client's own certificate, for a server that asks for one; read again when it changes. Without --id its name is the id." placeholder:"FILE"`
	TLSKey  string   `name:"tls-key" help:"The key of --tls-cert." placeholder:"FILE"`
}

// given reports whether there is any of the flags: TLS is meant then.
func (f clientTLSFlags) given() bool {
	return f.TLSCA != "" || len(f.TLSPin) > 0 || f.TLSCert != "" || f.TLSKey != ""
}

// config returns the configuration that the flags describe, nil for none, and the
// name of the client's own certificate, if it has one.
func (f clientTLSFlags) config(server string, log *slog.Logger) (cfg *tls.Config, name string, err error) {
	switch {
	case !f.given():
		return nil, "", nil
	case f.TLSCA != "" && len(f.TLSPin) > 0:
		return nil, "", usageError{"--tls-ca and --tls-pin are two ways to know the server; give one of them"}
	case (f.TLSCert == "") != (f.TLSKey == ""):
		return nil, "", usageError{"--tls-cert and --tls-key belong together; give both"}
	case strings.HasPrefix(server, "ws://"):
		return nil, "", usageError{fmt.Sprintf("--server is %q, which is without TLS, but the --tls flags are about it: give wss://HOST:PORT", server)}
	}
	cfg = new(tls.Config)
	switch {
	case f.TLSCA != "":
		if cfg, err = crosscomm.TrustCA(f.TLSCA); err != nil {
			return nil, "", fmt.Errorf("--tls-ca: %w", err)
		}
	case len(f.TLSPin) > 0:
		if cfg, err = crosscomm.TrustPin(f.TLSPin...); err != nil {
			return nil, "", usageError{fmt.Sprintf("--tls-pin: %v", err)}
		}
	}
	if f.TLSCert == "" {
		return cfg, "", nil
	}
	own, err := crosscomm.LoadCertificate(f.TLSCert, f.TLSKey, log)
	if err != nil {
		return nil, "", fmt.Errorf("--tls-cert: %w", err)
	}
	cfg.GetClientCertificate = own.GetClientCertificate
	leaf := own.Certificate().Leaf
	if name = leaf.Subject.CommonName; name == "" && len(leaf.DNSNames) > 0 {
		name = leaf.DNSNames[0]
	}
	return cfg, name, nil
}

package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

// serverTLSFlags make a server speak TLS.
type serverTLSFlags struct {
	TLSCert       string `name:"tls-cert" help:"Speak TLS with the certificate, and its chain, in this PEM file; read again when it changes." group:"TLS:" placeholder:"FILE"`
	TLSKey        string `name:"tls-key" help:"The key of --tls-cert." group:"TLS:" placeholder:"FILE"`
	TLSSelfSigned bool   `name:"tls-self-signed" help:"Speak TLS with a certificate of the server's own, which is made once and kept in --data-dir; its pin is printed for the clients." group:"TLS:"`
	TLSPort       *int   `name:"tls-port" help:"Speak TLS at this port, and none at --port; 0 takes a free one. Without it --port speaks TLS, and nothing else." group:"TLS:" placeholder:"PORT"`
	TLSRedirect   bool   `name:"tls-redirect" help:"Serve nothing at --port, but send whoever comes there to --tls-port: Python peers follow that." group:"TLS:"`
	TLSClientCA   string `name:"tls-client-ca" help:"Let only clients in that have a certificate of an authority in this PEM file, which is read at the start, or else a token, if there are tokens; the certificate's name is the client's id." group:"TLS:" placeholder:"FILE"`
}

// wanted reports whether the server shall speak TLS.
func (f serverTLSFlags) wanted() bool { return f.TLSSelfSigned || f.TLSCert != "" }

// alone reports whether it shall serve nothing without TLS.
func (f serverTLSFlags) alone() bool { return f.wanted() && (f.TLSPort == nil || f.TLSRedirect) }

// checkTLS says what makes no sense.
func (c serverCommand) checkTLS() error {
	const how = "give --tls-cert and --tls-key, or --tls-self-signed"
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return usageError{"--tls-cert and --tls-key belong together; give both"}
	case c.TLSSelfSigned && c.TLSCert != "":
		return usageError{"--tls-self-signed makes a certificate, and --tls-cert has one; give one of them"}
	case c.TLSSelfSigned && c.dataDir() == "":
		return usageError{"--tls-self-signed keeps its certificate in --data-dir, which is empty; name a directory, or give --tls-cert and --tls-key"}
	case c.TLSPort != nil && !c.wanted():
		return usageError{"--tls-port needs a certificate: " + how}
	case c.TLSRedirect && c.TLSPort == nil:
		return usageError{"--tls-redirect leads to --tls-port, which is not given"}
	case c.TLSRedirect && c.PrintOSSEnv && *c.TLSPort == 0:
		return usageError{"--print-oss-env needs the port that the server has: give --tls-port"}
	case c.TLSClientCA != "" && !c.wanted():
		return usageError{"--tls-client-ca is about clients that speak TLS, which the server does not: " + how}
	case c.TLSPort != nil && (*c.TLSPort < 0 || *c.TLSPort > 65535):
		return usageError{fmt.Sprintf("--tls-port is %d; it must be between 0 and 65535", *c.TLSPort)}
	case c.TLSPort != nil && *c.TLSPort == c.Port && c.Port != 0:
		return usageError{fmt.Sprintf("--port and --tls-port are both %d; without --tls-port the server speaks TLS at --port, and nothing else", c.Port)}
	}
	return nil
}

// useTLS adds to the configuration what the flags say, and returns the certificate
// that the server begins with, nil for none. To print settings none is needed.
func (c serverCommand) useTLS(cfg *crosscomm.Config, stderr io.Writer) (leaf *x509.Certificate, err error) {
	if !c.wanted() || c.PrintOSSEnv {
		return nil, nil
	}
	secure := new(tls.Config)
	if c.TLSSelfSigned {
		addr, err := c.address("1")
		if err != nil {
			return nil, err
		}
		host, _, _ := net.SplitHostPort(addr)
		own, err := crosscomm.SelfSigned(cfg.DataDir, host)
		if err != nil {
			return nil, fmt.Errorf("--tls-self-signed: %w", err)
		}
		if own.Leaf.VerifyHostname(host) != nil { // it was made when the machine had another address
			file := filepath.Join(cfg.DataDir, crosscomm.SelfSignedCertFile)
			fmt.Fprintf(stderr, "the certificate %s is not for %s, which only clients with the pin accept; for the others delete it and start again: the pin stays\n", printable(file), printable(host))
		}
		secure.Certificates, leaf = []tls.Certificate{own}, own.Leaf
	} else {
		files, err := crosscomm.LoadCertificate(c.TLSCert, c.TLSKey, cfg.Logger)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert: %w", err)
		}
		secure.GetCertificate, leaf = files.GetCertificate, files.Certificate().Leaf
	}
	if now := time.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		fmt.Fprintf(stderr, "the certificate is valid from %s to %s, and so not now: is this machine's clock right? Clients refuse it unless they trust its pin\n", leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly))
	}
	if c.TLSClientCA != "" {
		clients, err := crosscomm.TrustCA(c.TLSClientCA)
		if err != nil {
			return nil, fmt.Errorf("--tls-client-ca: %w", err)
		}
		secure.ClientCAs, secure.ClientAuth = clients.RootCAs, tls.RequireAndVerifyClientCert
		switch {
		case cfg.Token != "" || cfg.TokenFile != "": // who has no certificate may have a token
			secure.ClientAuth = tls.VerifyClientCertIfGiven
		case !c.alone():
			fmt.Fprintln(stderr, "--tls-client-ca: no certificate is asked for at --port, where anybody may log in with any id; with --tls-redirect nobody may")
		}
	}
	cfg.TLS, cfg.TLSRedirect = secure, c.TLSRedirect
	if c.TLSPort != nil {
		if cfg.TLSPort = *c.TLSPort; cfg.TLSPort == 0 {
			cfg.TLSPort = crosscomm.AnyPort
		}
	}
	return leaf, nil
}

// tellsTLS are what the server tells of TLS when it has begun: its address and its
// pin, as keys and values.
func (c serverCommand) tellsTLS(svc *crosscomm.Service, leaf *x509.Certificate) (pairs []string) {
	if !c.wanted() {
		return nil
	}
	pairs = []string{"tls_addr", net.JoinHostPort(c.IP, c.tlsPortOf(svc))}
	if c.TLSSelfSigned { // the key of a certificate that others renew may be another one next time
		pairs = append(pairs, "tls_pin", crosscomm.Pin(leaf))
	}
	return pairs
}

func (c serverCommand) tlsPortOf(svc *crosscomm.Service) string {
	_, port, _ := net.SplitHostPort(svc.TLSAddr().String())
	return port
}

// commands are those that connect to the server, whose peers are told the address
// of --port.
func (c serverCommand) commands(svc *crosscomm.Service, leaf *x509.Certificate, peers string) string {
	plain := "crosscomm listen --server " + peers
	if !c.wanted() {
		return plain
	}
	host, port, _ := net.SplitHostPort(peers)
	if c.TLSPort != nil {
		port = c.tlsPortOf(svc)
	}
	// Clients that trust by the name must use one that is in the certificate.
	if c.Advertise == "" && !c.TLSSelfSigned && leaf.VerifyHostname(host) != nil {
		for _, name := range leaf.DNSNames {
			if !strings.HasPrefix(name, "*") {
				host = name
				break
			}
		}
	}
	secure := "crosscomm listen --server wss://" + net.JoinHostPort(host, port)
	if c.TLSSelfSigned {
		secure += " --tls-pin '" + crosscomm.Pin(leaf) + "'"
	}
	if c.TLSClientCA != "" {
		secure += " --tls-cert client-cert.pem --tls-key client-key.pem"
	}
	if c.alone() {
		return secure
	}
	return secure + "\nor, without TLS:\n  " + plain
}

// endpoint is what Python and Java peers are told of the files, which they reach
// at the address if it is without TLS.
func (c serverCommand) endpoint(addr string) string {
	if !c.alone() {
		return addr
	}
	if host, _, err := net.SplitHostPort(addr); c.TLSPort != nil && err == nil {
		addr = net.JoinHostPort(host, strconv.Itoa(*c.TLSPort))
	}
	return "https://" + addr
}

// hintOSSOverTLS says what Python and Java peers need besides the settings.
func (c serverCommand) hintOSSOverTLS(stderr io.Writer) {
	switch {
	case c.alone() && c.TLSClientCA != "":
		fmt.Fprintln(stderr, "the OSS clients of Python and Java have no certificate to show to --tls-client-ca; for them give the server --tls-port, without --tls-redirect")
	case c.alone() && c.TLSSelfSigned:
		fmt.Fprintf(stderr, "the OSS clients of Python and Java check the server's certificate against authorities of their own: for Python set REQUESTS_CA_BUNDLE to a copy of %s, for Java put that into its trust store (keytool -importcert)\n", printable(absolute(filepath.Join(c.dataDir(), crosscomm.SelfSignedCertFile))))
	case c.alone():
		fmt.Fprintln(stderr, "the OSS clients of Python and Java check the server's certificate against authorities of their own; for another one set REQUESTS_CA_BUNDLE for Python, and put it into Java's trust store")
	case c.wanted():
		fmt.Fprintln(stderr, "with these settings files go to --port, without TLS; with --tls-redirect they go by https://")
	}
}

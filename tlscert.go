package crosscomm

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateFresh is how long may pass until it is seen that the files of a
// certificate have changed.
const certificateFresh = time.Second

// CertificateFiles is a certificate with its key in two files, which are read
// again when they change: a server or a client that uses it goes on with the
// renewed one, for connections that are new. Make one with [LoadCertificate]. It
// may be used concurrently.
type CertificateFiles struct {
	certFile, keyFile string
	log               *slog.Logger

	mu     sync.Mutex
	cert   *tls.Certificate
	seen   [2]fs.FileInfo // of the files that cert is of, or that were tried last
	looked time.Time      // when these were last compared
	failed string         // why the files that are there now are not used; "" if they are
}

// LoadCertificate reads a certificate, with the chain that belongs to it, and its
// key from PEM files; both may be the same file. The error says which file cannot
// be read, or that they do not belong together.
//
// Later the files are looked at when the certificate is used, once a second at
// most. If one has changed, both are read again. While they cannot be read, or do
// not belong together, since whoever renews them has written only one so far, the
// certificate that was read before stays in use; the log, which may be nil, is
// told that once.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*CertificateFiles, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &CertificateFiles{certFile: certFile, keyFile: keyFile, log: log, looked: time.Now()}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("crosscomm: %w", err)
	}
	return c, nil
}

// GetCertificate is for the field of that name of a server's [tls.Config]. It
// returns no error.
func (c *CertificateFiles) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.Certificate(), nil
}

// GetClientCertificate is for the field of that name of a client's [tls.Config].
// It returns no error.
func (c *CertificateFiles) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return c.Certificate(), nil
}

// Certificate returns the certificate as it is in the files now, with its Leaf. It
// must not be changed.
func (c *CertificateFiles) Certificate() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < certificateFresh {
		return c.cert
	}
	c.looked = time.Now()
	// What could not be used is tried again even if it looks the same: it may have
	// been written within one tick of the file system's clock.
	if c.failed == "" && !c.changed() {
		return c.cert
	}
	if err := c.read(); err != nil {
		if c.failed != err.Error() {
			c.failed = err.Error()
			c.log.Error("the certificate files have changed and cannot be used; the certificate that was read before stays in use", "error", err)
		}
		return c.cert
	}
	c.failed = ""
	c.log.Info("the certificate files were read again", "cert", c.certFile, "valid_until", c.cert.Leaf.NotAfter)
	return c.cert
}

// changed reports whether a file is another one than that which was read.
func (c *CertificateFiles) changed() bool {
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil || !sameVersion(info, c.seen[i]) {
			return true
		}
	}
	return false
}

// read reads both files.
func (c *CertificateFiles) read() error {
	var data [2][]byte
	for i, name := range []string{c.certFile, c.keyFile} {
		var err error
		if data[i], c.seen[i], err = readSeen(name); err != nil {
			return err
		}
	}
	cert, err := tls.X509KeyPair(data[0], data[1])
	if err != nil {
		return fmt.Errorf("the certificate %s with the key %s: %w", c.certFile, c.keyFile, err)
	}
	c.cert = &cert
	return nil
}

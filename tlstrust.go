package crosscomm

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// pinMark begins a pin, as curl's --pinnedpubkey takes it.
const pinMark = "sha256//"

// Pin returns what tells the key of a certificate from all others, in curl's form:
// "sha256//" and the base64 of the SHA-256 of the SubjectPublicKeyInfo. A
// certificate that is renewed for the same key has the same pin.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return pinMark + base64.StdEncoding.EncodeToString(sum[:])
}

// TrustPin returns a client's [Config.TLS] that trusts the servers whose
// certificates have one of the pins, and no others: see [Pin]. Give it those of the
// key that is in use and of the next one, and the server can be given that without
// a client that does not know it. Neither who has signed the certificate nor its
// names and dates count. The error is about a pin that is malformed, or that there
// is none.
//
// The fields for the client's own certificate may be set in what is returned;
// VerifyConnection must be left alone.
func TrustPin(pins ...string) (*tls.Config, error) {
	if len(pins) == 0 {
		return nil, errors.New("crosscomm: TrustPin: there is no pin")
	}
	for _, pin := range pins {
		encoded, ok := strings.CutPrefix(pin, pinMark)
		sum, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if !ok || err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("crosscomm: the pin %.80q must be %s and 44 characters of base64, as crosscomm server prints it", pin, pinMark)
		}
	}
	trusted := slices.Clone(pins)
	return &tls.Config{
		InsecureSkipVerify: true, // which the pin takes the place of
		// Unlike VerifyPeerCertificate it is called for resumed sessions, too.
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errors.New("the server has no certificate")
			}
			seen := Pin(state.PeerCertificates[0])
			for _, pin := range trusted {
				if subtle.ConstantTimeCompare([]byte(seen), []byte(pin)) == 1 {
					return nil
				}
			}
			return fmt.Errorf("the server's certificate has the pin %s, and not %s: either it has been given another key (compare with what it prints at its start), or this is another server, maybe of somebody who wants to read along", seen, strings.Join(trusted, " or "))
		},
	}, nil
}

// TrustCA returns a client's [Config.TLS] that trusts the servers with certificates
// of the authorities in a PEM file, in place of the system's, or with those that
// are themselves in it, as that of [SelfSigned] may be. Names and dates are
// checked. Its RootCAs may also be a server's ClientCAs. The error is that of
// reading the file, or that it has no certificate.
func TrustCA(file string) (*tls.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("crosscomm: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("crosscomm: %s has no certificate in PEM", file)
	}
	return &tls.Config{RootCAs: roots}, nil
}

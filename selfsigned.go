package crosscomm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/filelock"
)

// The files of [SelfSigned].
const (
	SelfSignedCertFile = "tls-cert.pem"
	SelfSignedKeyFile  = "tls-key.pem"
)

const (
	selfSignedYears = 10
	// selfSignedLockTimeout bounds the wait for another program that makes the
	// files.
	selfSignedLockTimeout = 5 * time.Second
)

// SelfSigned returns the certificate that is kept in a directory, and makes it if
// it is not there: of no authority, with an ECDSA key (P-256), for a server, valid
// for 10 years, for localhost, 127.0.0.1, ::1, the name of this machine, and the
// hosts, which are names or addresses. Clients trust it by its [Pin], see
// [TrustPin], or by the file [SelfSignedCertFile], see [TrustCA]; in the latter
// case they must reach the server under one of these names.
//
// The directory is made if it is missing; the key is for its owner's eyes only (on
// Windows for those who may read the directory).
// If only the certificate is missing, another one is made for the same key, so that
// its pin stays: delete it to have further hosts in it. If the files are damaged,
// or the certificate's key is missing, the error says what to delete. Programs
// that call SelfSigned at once get the same certificate.
func SelfSigned(dir string, hosts ...string) (tls.Certificate, error) {
	cert, err := selfSigned(dir, hosts)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("crosscomm: the self-signed certificate: %w", err)
	}
	return cert, nil
}

func selfSigned(dir string, hosts []string) (tls.Certificate, error) {
	var none tls.Certificate
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return none, err
	}
	certFile, keyFile := filepath.Join(dir, SelfSignedCertFile), filepath.Join(dir, SelfSignedKeyFile)
	unlock, err := filelock.Lock(keyFile+".lock", selfSignedLockTimeout)
	if err != nil {
		return none, err
	}
	defer unlock()
	certPEM, certErr := os.ReadFile(certFile)
	keyPEM, keyErr := os.ReadFile(keyFile)
	const newPin = "to have others made; clients then need the new pin"
	switch noCert, noKey := errors.Is(certErr, fs.ErrNotExist), errors.Is(keyErr, fs.ErrNotExist); {
	case certErr != nil && !noCert:
		return none, certErr
	case keyErr != nil && !noKey:
		return none, keyErr
	case noKey && !noCert:
		return none, fmt.Errorf("%s is there, but not its key %s; delete it %s", certFile, keyFile, newPin)
	case noKey:
		if keyPEM, err = newKey(); err == nil {
			err = replaceFile(keyFile, keyPEM, 0o600)
		}
		if err != nil {
			return none, err
		}
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return none, fmt.Errorf("%s is damaged: %w; delete it and %s %s", keyFile, err, certFile, newPin)
	}
	if certErr != nil {
		if certPEM, err = newSelfSigned(key, hosts); err == nil {
			err = replaceFile(certFile, certPEM, 0o644)
		}
		if err != nil {
			return none, err
		}
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return none, fmt.Errorf("%s is damaged, or not of the key %s: %w; delete it to have another one made for the same key, whose pin stays", certFile, keyFile, err)
	}
	return cert, nil
}

func newKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("it is no ECDSA key")
	}
	return key, nil
}

func newSelfSigned(key *ecdsa.PrivateKey, hosts []string) ([]byte, error) {
	hosts = append([]string{"localhost", "127.0.0.1", "::1"}, hosts...)
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(spki)
	now := time.Now()
	// It is no authority: whoever trusts the file shall not trust, with a stolen key,
	// the certificates of other servers.
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "crosscomm server"},
		NotBefore:             now.Add(-24 * time.Hour), // clocks of devices are not exact
		NotAfter:              now.AddDate(selfSignedYears, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		SubjectKeyId:          id[:20],
	}
	seen := map[string]bool{}
	for _, host := range hosts {
		if host = strings.ToLower(host); host == "" || seen[host] {
			continue
		}
		seen[host] = true
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

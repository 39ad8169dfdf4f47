package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"math/big"
	"net"
	"os"
	"time"
)

// ListenSecure is Listen for the servers that are compared with TLS and with
// compression, too. The flags --tls and --cert are handled here; deflate says
// whether --deflate was given.
func ListenSecure() (l net.Listener, deflate bool) {
	secure := flag.Bool("tls", false, "speak TLS, with a certificate of its own for 127.0.0.1")
	certFile := flag.String("cert", "", "write that certificate to the `file`, for clients to trust")
	flag.BoolVar(&deflate, "deflate", false, "agree to permessage-deflate")
	l = listen(func(l net.Listener) (net.Listener, error) {
		if !*secure {
			return l, nil
		}
		if *certFile == "" {
			return nil, errors.New("without --cert nobody would trust what --tls makes")
		}
		cert, err := selfSigned()
		if err != nil {
			return nil, err
		}
		data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
		if err := os.WriteFile(*certFile, data, 0o644); err != nil {
			return nil, err
		}
		return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}}), nil
	})
	return l, deflate
}

// selfSigned makes a certificate that lasts longer than any comparison.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		NotBefore:    now.Add(-time.Hour), NotAfter: now.Add(7 * 24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true, // it is its own root
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

package crosscomm_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// A certificate is read again when its files have changed, a second later at most;
// one that is half renewed, or unreadable, changes nothing, and is told once.
func TestCertificateFiles(t *testing.T) {
	authority, dir := testkit.NewAuthority(t), t.TempDir()
	certFile, keyFile := authority.Issue(t, dir, "first")
	nextCert, nextKey := authority.Issue(t, t.TempDir(), "second")
	synctest.Test(t, func(t *testing.T) {
		logs := new(logBuffer)
		files, err := crosscomm.LoadCertificate(certFile, keyFile, logs.logger())
		if err != nil {
			t.Fatal(err)
		}
		expect := func(name string, lines int) {
			t.Helper()
			<-time.After(time.Second)
			for range 2 { // the second one is not looked at
				cert, err := files.GetCertificate(nil)
				if err != nil || cert.Leaf.Subject.CommonName != name {
					t.Fatalf("it is %v, want %s; %v", cert.Leaf.Subject, name, err)
				}
			}
			if got := strings.Count(logs.String(), "\n"); got != lines {
				t.Fatalf("%d lines, want %d: %s", got, lines, logs)
			}
		}
		expect("first", 0)
		replace(t, nextCert, certFile)
		if files.Certificate().Leaf.Subject.CommonName != "first" { // at once it is not looked at
			t.Error("it was read within a second")
		}
		for range 5 { // only half of it is there
			expect("first", 1)
		}
		if !strings.Contains(logs.String(), "private key does not match") || !strings.Contains(logs.String(), certFile) {
			t.Errorf("the log has %s", logs)
		}
		replace(t, nextKey, keyFile)
		expect("second", 2)
		if err := os.Remove(keyFile); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			expect("second", 3)
		}
		if err := os.WriteFile(keyFile, []byte("no PEM"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			expect("second", 4)
		}
		// In place, and not as another file.
		for _, files := range [][2]string{authorityFiles(t, authority, "third"), authorityFiles(t, authority, "fourth")} {
			for i, to := range []string{certFile, keyFile} {
				data, err := os.ReadFile(files[i])
				if err == nil {
					err = os.WriteFile(to, data, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		expect("fourth", 5)
		expect("fourth", 5)
	})
}

func authorityFiles(t *testing.T, a *testkit.Authority, name string) [2]string {
	cert, key := a.Issue(t, t.TempDir(), name)
	return [2]string{cert, key}
}

// replace renames a file over another.
func replace(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestLoadCertificateErrors(t *testing.T) {
	authority := testkit.NewAuthority(t)
	certFile, keyFile := authority.Issue(t, t.TempDir(), "a")
	_, otherKey := authority.Issue(t, t.TempDir(), "b")
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for _, tc := range [][3]string{
		{certFile, otherKey, "does not match"}, {missing, keyFile, missing}, {certFile, missing, missing}, {certFile, t.TempDir(), "directory"}, {keyFile, keyFile, keyFile},
	} {
		if _, err := crosscomm.LoadCertificate(tc[0], tc[1], nil); err == nil || !strings.Contains(err.Error(), tc[2]) {
			t.Errorf("%v: got %v", tc, err)
		}
	}
}

// The certificate is made once, also by several that start at once, and its names
// are those that clients may use.
func TestSelfSigned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	certs := make([]tls.Certificate, 4)
	var starting sync.WaitGroup
	for i := range certs {
		starting.Go(func() {
			var err error
			if certs[i], err = crosscomm.SelfSigned(dir, "nas.example", "192.0.2.7", "LOCALHOST"); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	for _, cert := range certs[1:] {
		if !bytes.Equal(cert.Certificate[0], certs[0].Certificate[0]) {
			t.Error("two have been made")
		}
	}
	leaf := certs[0].Leaf
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "[::1]", "nas.example", "192.0.2.7", host} {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for after, valid := range map[time.Duration]bool{0: true, 9 * 365 * 24 * time.Hour: true, 11 * 365 * 24 * time.Hour: false} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: time.Now().Add(after)}); (err == nil) != valid {
			t.Errorf("after %v: %v", after, err)
		}
	}
	if leaf.IsCA || len(leaf.DNSNames) > 3 {
		t.Errorf("it is an authority: %v; names: %v", leaf.IsCA, leaf.DNSNames)
	}
	certFile, keyFile := filepath.Join(dir, crosscomm.SelfSignedCertFile), filepath.Join(dir, crosscomm.SelfSignedKeyFile)
	if info, err := os.Stat(keyFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info.Mode(), err)
	}

	// Another certificate for the same key has the same pin, and other names.
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	other, err := crosscomm.SelfSigned(dir, "new.example")
	if err != nil || crosscomm.Pin(other.Leaf) != crosscomm.Pin(leaf) || other.Leaf.VerifyHostname("new.example") != nil || other.Leaf.VerifyHostname("nas.example") == nil {
		t.Errorf("%v, %v", err, other.Leaf.DNSNames)
	}

	// What is damaged is not replaced.
	damage := func(name, text, want string) {
		t.Helper()
		was, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if text == "" {
			err = os.Remove(name)
		} else {
			err = os.WriteFile(name, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := crosscomm.SelfSigned(dir); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "delete it") {
			t.Errorf("got %v, want %q", err, want)
		}
		if err := os.WriteFile(name, was, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damage(certFile, "x", certFile+" is damaged")
	damage(keyFile, "x", keyFile+" is damaged")
	damage(keyFile, "", "not its key "+keyFile)
	otherKey := t.TempDir()
	if _, err := crosscomm.SelfSigned(otherKey); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(otherKey, crosscomm.SelfSignedKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	damage(keyFile, string(text), "not of the key "+keyFile)
	if again, err := crosscomm.SelfSigned(dir); err != nil || crosscomm.Pin(again.Leaf) != crosscomm.Pin(leaf) {
		t.Errorf("after that: %v", err)
	}
	if _, err := crosscomm.SelfSigned(certFile); err == nil {
		t.Error("in a file it was made, too")
	}
}

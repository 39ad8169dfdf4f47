package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// startTLSServer starts a server with these flags, and returns what it tells of
// itself. It is stopped at the end of the test at the latest.
func startTLSServer(t *testing.T, dir string, args ...string) (server *command, told map[string]any, stop func()) {
	t.Helper()
	server = start(t, nil, append([]string{"server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", dir, "--json"}, args...)...)
	told = server.event("listening")
	stop = sync.OnceFunc(func() {
		server.stop()
		server.ends(exitOK, "stopped")
	})
	t.Cleanup(stop)
	return server, told, stop
}

// exchange has a file be sent by one client, and got by another as it comes and by
// its key, with these flags.
func exchange(t *testing.T, listenFlags, sendFlags, downloadFlags []string) {
	t.Helper()
	dir := testkit.WriteTree(t, t.TempDir(), map[string]string{"photo.jpg": strings.Repeat("pixels", 1e5)})
	listen := start(t, nil, append([]string{"listen", "--json", "--download-dir", t.TempDir(), "--count", "1"}, listenFlags...)...)
	listen.event("up")
	start(t, nil, append(append([]string{"send", "--type", "image"}, sendFlags...), filepath.Join(dir, "photo.jpg"))...).ends(exitOK, "")
	e, _ := listen.downloaded()
	listen.ends(exitOK, "")
	download := start(t, nil, append(append([]string{"download"}, downloadFlags...), e["oss_key"].(string), t.TempDir())...)
	path, _ := download.stdout.ReadString('\n')
	download.ends(exitOK, "")
	for _, path := range []string{e["path"].(string), strings.TrimSpace(path)} {
		if data, err := os.ReadFile(path); err != nil || len(data) != 6e5 {
			t.Errorf("%s: %d bytes, %v", path, len(data), err)
		}
	}
}

// The server makes a certificate, which it keeps; clients know it by its pin, or by
// its file, for files and for all commands.
func TestSelfSignedServer(t *testing.T) {
	dir := t.TempDir()
	_, told, stop := startTLSServer(t, dir, "--tls-self-signed")
	addr, pin := told["addr"].(string), told["tls_pin"].(string)
	if len(told) != 4 || told["tls_addr"] != addr {
		t.Errorf("got %v", told)
	}
	trust := []string{"--server", addr, "--tls-pin", pin}
	exchange(t, append(trust, "--id", "desk"), trust, trust)
	other := "sha256//" + strings.Repeat("A", 43) + "="
	certFile := filepath.Join(dir, crosscomm.SelfSignedCertFile)
	for _, flags := range [][]string{{"--tls-pin", other, "--tls-pin", pin}, {"--tls-ca", certFile}} {
		start(t, nil, append([]string{"clients", "--server", "wss://" + addr}, flags...)...).ends(exitOK, "")
	}
	start(t, nil, "send", "--server", addr, "--tls-pin", other, "x").ends(exitFail, pin)
	start(t, nil, "send", "--server", "wss://"+addr, "x").ends(exitFail, "unknown authority")
	start(t, nil, "send", "--server", addr, "x").ends(exitFail, "take wss://")
	if got := measured(t, append([]string{"p2p", "--clients", "2", "--warm-up", "0.01"}, trust...)...); got["delivered"] == 0.0 {
		t.Errorf("got %v", got)
	}
	stop()
	elsewhere, _, stop := startTLSServer(t, dir, "--tls-self-signed", "--advertise", "nas.example")
	elsewhere.untilStderr("is not for nas.example")
	stop()
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	renewed, again, stop := startTLSServer(t, dir, "--tls-self-signed", "--advertise", "nas.example")
	stop()
	if again["tls_pin"] != pin || strings.Contains(renewed.stderr.String(), "is not for") {
		t.Errorf("started again it has the pin %s; standard error has %s", again["tls_pin"], renewed.stderr)
	}
}

// What is printed for people works when it is copied.
func TestTLSStartUpLines(t *testing.T) {
	authority, dir := testkit.NewAuthority(t), t.TempDir()
	certFile, keyFile := authority.Issue(t, dir, "server")
	files := []string{"--tls-cert", certFile, "--tls-key", keyFile}
	for _, tc := range []struct {
		flags []string
		wss   string // that is printed
		lines int
	}{
		{[]string{"--tls-self-signed"}, "wss://127.0.0.1:", 5},
		{[]string{"--tls-self-signed", "--tls-port", "0"}, "wss://127.0.0.1:", 7},
		{[]string{"--tls-self-signed", "--tls-port", "0", "--tls-redirect"}, "wss://127.0.0.1:", 5},
		{files, "wss://127.0.0.1:", 5},
	} {
		server := start(t, nil, append([]string{"server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", t.TempDir()}, tc.flags...)...)
		var lines []string
		for range tc.lines {
			line, err := server.stdout.ReadString('\n')
			if err != nil {
				t.Fatalf("%v, %s", err, server.stderr)
			}
			lines = append(lines, strings.TrimSpace(line))
		}
		if !strings.Contains(lines[1], tc.wss) {
			t.Errorf("got %s", lines)
		}
		for _, line := range lines {
			args, ok := strings.CutPrefix(line, "crosscomm listen ")
			if !ok {
				continue
			}
			words := append([]string{"listen", "--json"}, strings.Fields(strings.ReplaceAll(args, "'", ""))...)
			if strings.Contains(line, "wss:") && !strings.Contains(line, "--tls-pin") {
				words = append(words, "--tls-ca", authority.File)
			}
			listen := start(t, nil, words...)
			listen.event("up")
			listen.stop()
			listen.ends(exitOK, "")
		}
		server.stop()
		server.ends(exitOK, "stopped")
	}
	// A name of the certificate is told where the address is none of it.
	elsewhere := serverCommand{IP: "127.0.0.2", serverTLSFlags: serverTLSFlags{TLSCert: certFile, TLSKey: keyFile}}
	var cfg crosscomm.Config
	leaf, err := elsewhere.useTLS(&cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if got := elsewhere.commands(nil, leaf, "127.0.0.2:9898"); got != "crosscomm listen --server wss://localhost:9898" {
		t.Errorf("got %s", got)
	}
	elsewhere.Advertise = "nas.example"
	if got := elsewhere.commands(nil, leaf, "nas.example:9898"); got != "crosscomm listen --server wss://nas.example:9898" {
		t.Errorf("got %s", got)
	}
}

// Beside the port with TLS there is one without, and both reach the same clients.
func TestBothPorts(t *testing.T) {
	_, told, _ := startTLSServer(t, t.TempDir(), "--tls-self-signed", "--tls-port", "0")
	if told["addr"] == told["tls_addr"] {
		t.Errorf("got %v", told)
	}
	secure := []string{"--server", told["tls_addr"].(string), "--tls-pin", told["tls_pin"].(string)}
	plain := []string{"--server", told["addr"].(string)}
	exchange(t, append(secure, "--id", "desk"), plain, secure)
	exchange(t, append(plain, "--id", "desk"), secure, plain)
	_, port, err := net.SplitHostPort(told["tls_addr"].(string))
	if err != nil {
		t.Fatal(err)
	}
	start(t, nil, "server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", t.TempDir(), "--tls-self-signed", "--tls-port", port).ends(exitFail, "choose another port")
}

// With certificates of clients the id is that of the certificate, by itself, too.
func TestClientCertificateFlags(t *testing.T) {
	authority, stranger := testkit.NewAuthority(t), testkit.NewAuthority(t)
	certFile, keyFile := authority.Issue(t, t.TempDir(), "server")
	server, told, _ := startTLSServer(t, t.TempDir(), "--tls-cert", certFile, "--tls-key", keyFile, "--tls-client-ca", authority.File)
	if len(told) != 3 {
		t.Errorf("got %v", told)
	}
	as := func(a *testkit.Authority, name string) []string {
		cert, key := a.Issue(t, t.TempDir(), name)
		return []string{"--server", told["tls_addr"].(string), "--tls-ca", authority.File, "--tls-cert", cert, "--tls-key", key}
	}
	robot := as(authority, "robot-7")
	exchange(t, as(authority, "desk"), robot, robot)
	var ids []any
	for range 2 {
		ids = append(ids, server.event("login")["client_id"])
		if len(ids) == 1 && ids[0] != "desk" {
			t.Errorf("%v has logged in first", ids)
		}
	}
	if ids[1] != "robot-7" {
		t.Errorf("got %v", ids)
	}
	start(t, nil, append([]string{"send", "--id", "desk", "x"}, robot...)...).ends(exitFail, "login rejected")
	start(t, nil, append([]string{"send", "x"}, as(stranger, "robot-7")...)...).ends(exitFail, "")
	start(t, nil, "send", "x", "--id", "robot-7", "--server", told["tls_addr"].(string), "--tls-ca", authority.File).ends(exitFail, "")
}

func TestTLSUsage(t *testing.T) {
	authority, dir := testkit.NewAuthority(t), t.TempDir()
	certFile, keyFile := authority.Issue(t, dir, "a")
	pin := "sha256//" + strings.Repeat("A", 43) + "="
	for _, tc := range []struct {
		code int
		want string
		args []string
	}{
		{exitUsage, "give both", []string{"server", "--tls-cert", certFile}},
		{exitUsage, "give both", []string{"server", "--tls-key", keyFile}},
		{exitUsage, "give one of them", []string{"server", "--tls-self-signed", "--tls-cert", certFile, "--tls-key", keyFile}},
		{exitUsage, "name a directory", []string{"server", "--tls-self-signed", "--data-dir="}},
		{exitUsage, "needs a certificate", []string{"server", "--tls-port", "9899"}},
		{exitUsage, "which the server does not", []string{"server", "--tls-client-ca", authority.File}},
		{exitUsage, "which is not given", []string{"server", "--tls-self-signed", "--tls-redirect"}},
		{exitUsage, "give --tls-port", []string{"server", "--tls-self-signed", "--tls-redirect", "--tls-port", "0", "--print-oss-env"}},
		{exitUsage, "both 9898", []string{"server", "--tls-self-signed", "--tls-port", "9898"}},
		{exitUsage, "between 0 and 65535", []string{"server", "--tls-self-signed", "--tls-port=-1"}},
		{exitUsage, "between 0 and 65535", []string{"server", "--tls-self-signed", "--tls-port", "70000"}},
		{exitFail, "--tls-cert", []string{"server", "--tls-cert", keyFile, "--tls-key", keyFile}},
		{exitFail, "--tls-client-ca", []string{"server", "--tls-cert", certFile, "--tls-key", keyFile, "--tls-client-ca", keyFile}},
		{exitFail, "--tls-self-signed", []string{"server", "--tls-self-signed", "--data-dir", certFile}},
		{exitUsage, "give wss://", []string{"listen", "--server", "ws://127.0.0.1:1", "--tls-pin", pin}},
		{exitUsage, "give wss://", []string{"bench", "p2p", "--server", "ws://127.0.0.1:1", "--tls-ca", authority.File}},
		{exitUsage, "give one of them", []string{"send", "x", "--tls-pin", pin, "--tls-ca", authority.File}},
		{exitUsage, "give both", []string{"clients", "--tls-cert", certFile}},
		{exitUsage, "44 characters", []string{"download", "k", "d", "--tls-pin", "sha256//AAAA"}},
		{exitFail, "--tls-ca", []string{"send", "x", "--tls-ca", keyFile}},
		{exitFail, "--tls-cert", []string{"send", "x", "--tls-cert", keyFile, "--tls-key", keyFile}},
	} {
		t.Chdir(t.TempDir())
		start(t, nil, tc.args...).ends(tc.code, tc.want)
		if made, err := os.ReadDir("."); err != nil || len(made) > 0 {
			t.Errorf("%v made %v, %v", tc.args, made, err)
		}
	}
	// Where there is no TLS flag, and where there is one, a server without a scheme.
	for flags, want := range map[string]string{"": "ws://127.0.0.1:1/", "--tls-pin=" + pin: "wss://127.0.0.1:1/"} {
		args := strings.Fields("send x --server 127.0.0.1:1 " + flags)
		start(t, nil, args...).ends(exitFail, "Login to "+want)
	}
}

// The settings for Python and Java peers name the port that they can use, and say
// what they need for it.
func TestOSSEnvWithTLS(t *testing.T) {
	authority, dir := testkit.NewAuthority(t), t.TempDir()
	certFile, keyFile := authority.Issue(t, dir, "server")
	files := []string{"--tls-cert", certFile, "--tls-key", keyFile}
	for _, tc := range []struct {
		flags             []string
		endpoint, advises string
	}{
		{[]string{"--tls-self-signed"}, "https://10.9.8.7:9898", "REQUESTS_CA_BUNDLE to a copy of " + filepath.Join(dir, crosscomm.SelfSignedCertFile)},
		{[]string{"--tls-self-signed", "--tls-port", "9899"}, "http://10.9.8.7:9898", "without TLS"},
		{[]string{"--tls-self-signed", "--tls-port", "9899", "--tls-redirect"}, "https://10.9.8.7:9899", "REQUESTS_CA_BUNDLE"},
		{files, "https://10.9.8.7:9898", "authorities of their own"},
		{append(files, "--tls-client-ca", authority.File), "https://10.9.8.7:9898", "no certificate to show"},
	} {
		c := start(t, nil, append([]string{"server", "--print-oss-env", "--ip", "10.9.8.7", "--data-dir", dir}, tc.flags...)...)
		line, err := c.stdout.ReadString('\n')
		if err != nil || line != "OSS_ENDPOINT="+tc.endpoint+"\n" {
			t.Errorf("%v: got %q, %v", tc.flags, line, err)
		}
		c.ends(exitOK, tc.advises)
	}
	if _, err := os.Stat(filepath.Join(dir, crosscomm.SelfSignedKeyFile)); err == nil {
		t.Error("it made a certificate")
	}
	// The command that the server prints for it, wherever it is given.
	t.Chdir(dir)
	c := serverCommand{IP: "0.0.0.0", serverTLSFlags: serverTLSFlags{TLSCert: "cert.pem", TLSKey: "key.pem", TLSClientCA: "ca.pem"}}
	want := "crosscomm server --data-dir /d --tls-cert " + filepath.Join(dir, "cert.pem") + " --tls-key " + filepath.Join(dir, "key.pem") + " --tls-client-ca " + filepath.Join(dir, "ca.pem") + " --print-oss-env > .env"
	if got := c.envCommand("9898", "9899", "/d"); got != want {
		t.Errorf("got %s", got)
	}
	tlsPort := 0
	c.serverTLSFlags = serverTLSFlags{TLSSelfSigned: true, TLSPort: &tlsPort, TLSRedirect: true}
	if got := c.envCommand("9898", "9899", "/d"); got != "crosscomm server --data-dir /d --tls-port 9899 --tls-self-signed --tls-redirect --print-oss-env > .env" {
		t.Errorf("got %s", got)
	}
	c.serverTLSFlags = serverTLSFlags{TLSSelfSigned: true}
	if got := c.envCommand("9898", "9899", "/d"); got != "crosscomm server --data-dir /d --tls-self-signed --print-oss-env > .env" {
		t.Errorf("got %s", got)
	}
}

// A certificate that is not valid now is told of at the start: clients would only say
// that they do not trust it.
func TestExpiredCertificate(t *testing.T) {
	cert, key := testkit.NewAuthority(t).IssueUntil(t, t.TempDir(), time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), "expired")
	server := start(t, nil, "server", "--ip", "127.0.0.1", "--port", "0", "--data-dir=", "--state-file", filepath.Join(t.TempDir(), "s.yaml"), "--json", "--tls-cert", cert, "--tls-key", key)
	server.event("listening")
	server.stop()
	server.ends(exitOK, "valid from 1970-01-01 to 2020-01-01, and so not now")
}

package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/joho/godotenv"
)

// ossSettings are the names that Python and Java peers know them by.
var ossSettings = []string{"OSS_ENDPOINT", "OSS_BUCKET_NAME", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"}

// printEnv returns what --print-oss-env prints, and the settings in it.
func printEnv(t *testing.T, args ...string) (text string, settings map[string]string) {
	t.Helper()
	c := start(t, nil, append([]string{"server", "--print-oss-env"}, args...)...)
	out, err := io.ReadAll(c.stdout)
	if err != nil {
		t.Fatal(err)
	}
	c.ends(exitOK, "put these lines into the .env of")
	if settings, err = godotenv.Unmarshal(string(out)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	if len(lines) != 5 || len(settings) != 4 {
		t.Fatalf("got %q", out)
	}
	for i, name := range ossSettings {
		if !strings.HasPrefix(lines[i], name+"=") || settings[name] == "" {
			t.Errorf("got %q", out)
		}
	}
	return string(out), settings
}

// The settings work as they are printed, in .env or in the environment: a
// download needs no server to log in to then, and other clients get what is sent.
func TestOSSEnv(t *testing.T) {
	dir := t.TempDir()
	_, before := printEnv(t, "--ip", "127.0.0.1", "--data-dir", dir) // no server has run yet
	server := start(t, nil, "server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", dir, "--log-level", "debug", "--json")
	addr := server.event("listening")["addr"].(string)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	text, settings := printEnv(t, "--ip", "127.0.0.1", "--port", port, "--data-dir", dir)
	if settings["OSS_ENDPOINT"] != "http://"+addr || before["OSS_ENDPOINT"] != "http://127.0.0.1:9898" || settings["OSS_ACCESS_KEY_SECRET"] != before["OSS_ACCESS_KEY_SECRET"] {
		t.Errorf("got %v, and before the server ran %v", settings, before)
	}
	if info, err := os.Stat(filepath.Join(dir, "access-keys.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the keys: %v, %v", info.Mode(), err)
	}

	// The listener gets its access from the server.
	listen := start(t, nil, "listen", "--server", addr, "--id", "desk", "--json", "--log-level", "debug", "--download-dir", t.TempDir(), "--count", "1")
	listen.event("up")

	t.Chdir(testkit.WriteTree(t, t.TempDir(), map[string]string{"photo.jpg": "pixels", ".env": text}))
	send := start(t, nil, "send", "--server", addr, "--id", "me", "--log-level", "debug", "--type", "image", "photo.jpg")
	send.ends(exitOK, "")
	e, _ := listen.downloaded()
	if data, err := os.ReadFile(e["path"].(string)); err != nil || string(data) != "pixels" {
		t.Errorf("got %s, %v", data, err)
	}
	listen.ends(exitOK, "")

	key := e["oss_key"].(string)
	download := func() {
		t.Helper()
		c := start(t, nil, "download", "--server", "127.0.0.1:1", "--log-level", "debug", key, t.TempDir())
		path, _ := c.stdout.ReadString('\n')
		c.ends(exitOK, "")
		if data, err := os.ReadFile(strings.TrimSpace(path)); err != nil || string(data) != "pixels" {
			t.Errorf("got %s, %v", data, err)
		}
	}
	download()
	if err := os.Remove(".env"); err != nil {
		t.Fatal(err)
	}
	start(t, nil, "download", "--server", "127.0.0.1:1", key, t.TempDir()).ends(exitFail, "connection refused")
	for name, value := range settings {
		t.Setenv(name, value)
	}
	download()
	t.Setenv("OSS_BUCKET_NAME", "")
	start(t, nil, "download", "--server", "127.0.0.1:1", key, t.TempDir()).ends(exitFail, "OSS_BUCKET_NAME not set")

	server.stop()
	server.ends(exitOK, "stopped")
	for _, log := range []string{server.stderr.String(), listen.stderr.String(), send.stderr.String()} {
		if strings.Contains(log, settings["OSS_ACCESS_KEY_SECRET"]) || strings.Contains(log, "access_key_secret") {
			t.Errorf("a secret is in the log:\n%s", log)
		}
	}
}

func TestAdvertise(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		endpoint string
		args     []string
	}{
		{"http://10.1.2.3:9898", []string{"--advertise", "10.1.2.3"}},
		{"http://10.1.2.3:80", []string{"--advertise", "10.1.2.3:80", "--port", "0"}},
		{"http://10.1.2.3:81", []string{"--advertise", "10.1.2.3", "--port", "81"}},
		{"http://10.1.2.3:9898", []string{"--ip", "::1", "--advertise", "10.1.2.3"}},
		{"http://nas.local:9898", []string{"--advertise", "nas.local"}},
		{"http://127.0.0.1:9898", []string{"--ip", "localhost"}},
		{"http://10.9.8.7:9898", []string{"--ip", "10.9.8.7"}},
	} {
		if _, got := printEnv(t, append(tc.args, "--data-dir", dir)...); got["OSS_ENDPOINT"] != tc.endpoint {
			t.Errorf("%v: got %s", tc.args, got["OSS_ENDPOINT"])
		}
	}
	_, got := printEnv(t, "--data-dir", dir)
	if !regexp.MustCompile(`^http://[0-9.]+:9898$`).MatchString(got["OSS_ENDPOINT"]) || strings.Contains(got["OSS_ENDPOINT"], "0.0.0.0") {
		t.Errorf("got %s", got["OSS_ENDPOINT"])
	}
	for _, tc := range []struct {
		code   int
		stderr string
		args   []string
	}{
		{exitUsage, "give --port", []string{"--port", "0"}},
		{exitUsage, "give --port", []string{"--port", "0", "--advertise", "10.1.2.3"}},
		{exitUsage, "HOST:PORT", []string{"--advertise", "http://10.1.2.3"}},
		{exitUsage, "HOST:PORT", []string{"--advertise", "10.1.2.3:many"}},
		{exitUsage, "HOST:PORT", []string{"--advertise", "10.1.2.3:0"}},
		{exitUsage, "HOST:PORT", []string{"--advertise", ":80"}},
		{exitUsage, "HOST:PORT", []string{"--advertise", "a\nb"}},
		{exitFail, "refuse IPv6", []string{"--ip", "::1"}},
		{exitFail, "refuse IPv6", []string{"--ip", "[fd00::2]"}},
		{exitFail, "refuse IPv6", []string{"--advertise", "fd00::2"}},
		{exitFail, "refuse IPv6", []string{"--advertise", "[fd00::2]:80"}},
		{exitFail, "nothing to print", []string{"--data-dir="}},
	} {
		c := start(t, nil, append([]string{"server", "--data-dir", dir, "--print-oss-env"}, tc.args...)...)
		out, _ := io.ReadAll(c.stdout)
		c.ends(tc.code, tc.stderr)
		if len(out) > 0 {
			t.Errorf("%v: standard output has %s", tc.args, out)
		}
	}
}

// The start-up line for people says all, and no secret.
func TestStartUpLine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "my data")
	server := start(t, nil, "server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", dir, "--advertise", "10.1.2.3")
	var lines []string
	for range 5 {
		line, err := server.stdout.ReadString('\n')
		if err != nil {
			t.Fatalf("%v, %s", err, server.stderr)
		}
		lines = append(lines, line)
	}
	port := regexp.MustCompile(`on 127\.0\.0\.1:(\d+);`).FindStringSubmatch(lines[0])
	if port == nil || lines[1] != "  crosscomm listen --server 10.1.2.3:"+port[1]+"\n" || !strings.Contains(lines[2], dir+".") ||
		lines[3] != "  crosscomm server --port "+port[1]+" --advertise 10.1.2.3 --data-dir '"+dir+"' --print-oss-env > .env\n" || lines[4] != "Messages for clients that are away wait there, too.\n" {
		t.Errorf("got %s", lines)
	}
	start(t, nil, "server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", dir, "--json").ends(exitFail, "in use by another process")
	server.stop()
	server.ends(exitOK, "stopped")
}

func TestBestAddress(t *testing.T) {
	lan, container, public := candidate{"wlan0", net.IPv4(192, 168, 1, 2)}, candidate{"docker0", net.IPv4(172, 17, 0, 1)}, candidate{"eth0", net.IPv4(203, 0, 113, 5)}
	for _, tc := range []struct {
		want string
		all  []candidate
	}{
		{"127.0.0.1", nil},
		{"192.168.1.2", []candidate{container, public, lan}},
		{"203.0.113.5", []candidate{container, public}},
		{"172.17.0.1", []candidate{container}},
	} {
		if got := best(tc.all); got != tc.want {
			t.Errorf("of %v: %s", tc.all, got)
		}
	}
}

package crosscomm_test

import (
	"crypto/tls"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

func TestConfigErrors(t *testing.T) {
	for want, cfg := range map[string]crosscomm.Config{
		"Role is":                               {},
		"host name alone":                       {Role: crosscomm.Client, IP: "ws://example.org"},
		"the port goes into Port":               {Role: crosscomm.Client, IP: "example.org:9898"},
		"port 70000":                            {Role: crosscomm.Server, Port: 70000},
		"port -1":                               {Role: crosscomm.Client, Port: crosscomm.AnyPort},
		"must look like":                        {Role: crosscomm.Client, URL: "http://example.org"},
		"a server has no URL":                   {Role: crosscomm.Server, URL: "ws://example.org"},
		`"all" is reserved`:                     {Role: crosscomm.Client, ClientID: "all"},
		"invisible character U+000A":            {Role: crosscomm.Client, ClientID: "a\nb"},
		"at most 256":                           {Role: crosscomm.Client, ClientID: strings.Repeat("x", 300)},
		"HeartbeatTimeout is neg":               {Role: crosscomm.Server, HeartbeatTimeout: -1},
		"MaxMessageSize is 5;":                  {Role: crosscomm.Server, MaxMessageSize: 5},
		"it must be between 512 and 1073741824": {Role: crosscomm.Client, MaxMessageSize: math.MaxInt},
		"are a server's":                        {Role: crosscomm.Client, DataDir: "x"},
		"DataDir, which is empty":               {Role: crosscomm.Server, Quota: 1},
		"MaxDownloadSize is neg":                {Role: crosscomm.Client, MaxDownloadSize: -1},
		"less than BackoffMin":                  {Role: crosscomm.Client, BackoffMin: 2, BackoffMax: 1},
		"must begin with wss":                   {Role: crosscomm.Client, URL: "ws://example.org", TLS: new(tls.Config)},
		"TLS has no certificate":                {Role: crosscomm.Server, TLS: new(tls.Config)},
		"but not TLS":                           {Role: crosscomm.Server, TLSPort: 9899},
		"TLSRedirect is a server's":             {Role: crosscomm.Client, TLSRedirect: true},
		"to which it leads":                     {Role: crosscomm.Server, TLSRedirect: true, TLS: &tls.Config{Certificates: make([]tls.Certificate, 1)}},
		"TLSPort is a server's":                 {Role: crosscomm.Client, TLSPort: 9899},
		"TLSPort -2":                            {Role: crosscomm.Server, TLSPort: -2, TLS: &tls.Config{Certificates: make([]tls.Certificate, 1)}},
		"both 9898":                             {Role: crosscomm.Server, TLSPort: 9898, TLS: &tls.Config{Certificates: make([]tls.Certificate, 1)}},
		"less than TLS 1.2":                     {Role: crosscomm.Server, TLS: &tls.Config{Certificates: make([]tls.Certificate, 1), MaxVersion: tls.VersionTLS11}},
	} {
		if _, err := crosscomm.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	t.Chdir(t.TempDir())
	c, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, IP: "::1"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := c.Config()
	if cfg.URL != "ws://[::1]:9898/" || cfg.HeartbeatInterval != 30*time.Second || cfg.HeartbeatTimeout != time.Minute || cfg.MaxMessageSize != 1<<20 {
		t.Errorf("got %+v", cfg)
	}
	if !regexp.MustCompile(`^[0-9a-f]{12}_[0-9a-f]{8}$`).MatchString(c.ClientID()) {
		t.Errorf("the client id is %q", c.ClientID())
	}
	secure, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, IP: "example.org", TLS: new(tls.Config)})
	if err != nil || secure.Config().URL != "wss://example.org:9898/" {
		t.Errorf("with TLS: %v, %+v", err, secure.Config())
	}
	s, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, DataDir: "data"})
	if err != nil {
		t.Fatal(err)
	}
	if cfg := s.Config(); cfg.StateFile != filepath.Join("data", "cross_comm_clients.yaml") || cfg.IP != "0.0.0.0" || cfg.Port != 9898 {
		t.Errorf("got %+v", cfg)
	}
	if entries, err := os.ReadDir("."); err != nil || len(entries) != 0 {
		t.Errorf("New made %v, %v", entries, err)
	}
}

// OSS settings come from the Config, else the environment, else .env; none is
// needed, and a damaged .env is not fatal.
func TestOSSSettings(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"OSS_ENDPOINT", "OSS_BUCKET_NAME", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"} {
		t.Setenv(name, "") // restored at the end
		os.Unsetenv(name)
	}
	config := func(cfg crosscomm.Config) crosscomm.OSSConfig {
		t.Helper()
		cfg.Role = crosscomm.Client
		c, err := crosscomm.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return c.Config().OSS
	}
	if got := config(crosscomm.Config{}); got != (crosscomm.OSSConfig{}) {
		t.Errorf("without any: %+v", got)
	}
	if err := os.WriteFile(".env", []byte("# my keys\nOSS_ENDPOINT=from-file\nOSS_BUCKET_NAME='bucket'\nexport OSS_ACCESS_KEY_ID=id\nOSS_ACCESS_KEY_SECRET=s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OSS_ENDPOINT", "from-environment")
	got := config(crosscomm.Config{OSS: crosscomm.OSSConfig{AccessKeyID: "from-config"}})
	if got != (crosscomm.OSSConfig{Endpoint: "from-environment", BucketName: "bucket", AccessKeyID: "from-config", AccessKeySecret: "s3cret"}) {
		t.Errorf("got %+v, secret %q", got, got.AccessKeySecret)
	}
	if os.Getenv("OSS_BUCKET_NAME") != "" {
		t.Error("the environment was changed")
	}
	for _, text := range []string{fmt.Sprint(got), fmt.Sprintf("%+v %#v %s", got, got, got), got.LogValue().String()} {
		if strings.Contains(text, "s3cret") {
			t.Errorf("the secret is in %s", text)
		}
	}
	if err := os.WriteFile(".env", []byte("not an env file\x00\n=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	logs := new(logBuffer)
	if got := config(crosscomm.Config{Logger: logs.logger()}); got.Endpoint != "from-environment" || !strings.Contains(logs.String(), ".env") {
		t.Errorf("with a damaged .env: %+v; log: %s", got, logs)
	}
}

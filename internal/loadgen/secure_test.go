package loadgen_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/loadgen"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// startTLS starts a real server behind TLS, and returns what its clients need.
func startTLS(t *testing.T, compression bool) loadgen.Config {
	t.Helper()
	web := serve(t, crosscomm.Config{Compression: compression}, func(h http.Handler) *httptest.Server {
		web := httptest.NewUnstartedServer(h)
		web.Config.ErrorLog = log.New(io.Discard, "", 0)
		web.StartTLS()
		return web
	})
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	return loadgen.Config{URL: "wss" + strings.TrimPrefix(web.URL, "https"), TLS: &tls.Config{RootCAs: roots}}
}

func TestTLS(t *testing.T) {
	testLoads(t, startTLS(t, false))
}

func TestCompress(t *testing.T) {
	web := serve(t, crosscomm.Config{Compression: true}, httptest.NewServer)
	testLoads(t, loadgen.Config{URL: "ws" + strings.TrimPrefix(web.URL, "http"), Compress: true})
}

func TestCompressOverTLS(t *testing.T) {
	cfg := startTLS(t, true)
	cfg.Compress = true
	testLoads(t, cfg)
}

// A certificate of nobody known is refused, and so is a server that does not
// compress, of whom all figures would be of something else.
func TestNotSecure(t *testing.T) {
	cfg := startTLS(t, false)
	cfg.Name, cfg.Clients, cfg.Size, cfg.InFlight, cfg.Duration = "c", 1, 256, 1, testkit.Patience
	cfg.Compress = true
	if _, err := loadgen.IdleLoad(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "does not agree to permessage-deflate") {
		t.Errorf("no compression: %v", err)
	}
	cfg.Compress, cfg.TLS = false, nil
	if _, err := loadgen.IdleLoad(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: %v", err)
	}
}

package torture

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// server is a server inside of the test.
type server struct {
	*crosscomm.Service
	addr   string
	secure bool // whether it speaks TLS
	stop   func()
}

func (s *server) url() string {
	if s.secure {
		return "wss://" + s.addr + "/"
	}
	return "ws://" + s.addr + "/"
}

// startServer starts a server, of cfg's DataDir or state file or else of none, which
// is stopped at the end of the test. The listener is changed by wrap, if that is not
// nil.
func startServer(t *testing.T, cfg crosscomm.Config, wrap func(net.Listener) net.Listener) *server {
	t.Helper()
	cfg.Role = crosscomm.Server
	cfg.NoStateFile = cfg.StateFile == "" && cfg.DataDir == ""
	cfg.EnvFile = filepath.Join(t.TempDir(), "none")
	svc, err := crosscomm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if wrap != nil {
		l = wrap(l)
	}
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { served <- svc.Serve(ctx, l) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := testkit.Receive(t, served); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return &server{Service: svc, addr: addr, stop: stop}
}

// startMaybeSecure starts one that speaks TLS, and returns how to trust it, or one that
// does not.
func startMaybeSecure(t *testing.T, cfg crosscomm.Config, secure bool) (srv *server, trust *tls.Config) {
	t.Helper()
	if !secure {
		return startServer(t, cfg, nil), nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // RSA is slow under the race detector
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"server.example"}, NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trust = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "server.example"}
	trust.RootCAs.AddCert(cert)
	own := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	srv = startServer(t, cfg, func(l net.Listener) net.Listener { return tls.NewListener(l, own) })
	srv.secure = true
	return srv, trust
}

// newClient makes a client with short waits between its attempts to connect, which is
// logged out at the end of the test.
func newClient(t *testing.T, addr, id string, cfg crosscomm.Config) *crosscomm.Service {
	t.Helper()
	cfg.Role, cfg.ClientID = crosscomm.Client, id
	if cfg.URL == "" {
		cfg.URL = "ws://" + addr + "/"
	}
	cfg.BackoffMin, cfg.BackoffMax = time.Millisecond, 20*time.Millisecond
	svc, err := crosscomm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { logout(t, svc) })
	return svc
}

func logout(t *testing.T, svc *crosscomm.Service) {
	t.Helper()
	if err := svc.Logout(context.Background()); err != nil {
		t.Errorf("Logout: %v", err)
	}
}

func login(t *testing.T, addr, id string) *crosscomm.Service {
	t.Helper()
	svc := newClient(t, addr, id, crosscomm.Config{})
	if err := svc.Login(patience(t)); err != nil {
		t.Fatal(err)
	}
	return svc
}

// patience is the context of what must come to an end.
func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	t.Cleanup(cancel)
	return ctx
}

// collect returns what the service hears.
func collect(svc *crosscomm.Service) <-chan *crosscomm.Message { return collectFrom(svc, "") }

// collectFrom returns what it hears of a sender.
func collectFrom(svc *crosscomm.Service, sender string) <-chan *crosscomm.Message {
	return listen(svc, crosscomm.ListenerOptions{From: sender})
}

// listen returns what it hears of what the options say.
func listen(svc *crosscomm.Service, opts crosscomm.ListenerOptions) <-chan *crosscomm.Message {
	heard := make(chan *crosscomm.Message, 1<<16)
	svc.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		heard <- m
		return nil
	}, opts)
	return heard
}

// pair are two clients that the attacks on others must not harm.
type pair struct {
	a, b       *crosscomm.Service
	onA, onB   <-chan *crosscomm.Message
	n          int
	roundTrips []time.Duration
}

func newPair(t *testing.T, addr string) *pair {
	t.Helper()
	p := &pair{a: login(t, addr, "pair-a"), b: login(t, addr, "pair-b")}
	p.onA, p.onB = collectFrom(p.a, p.b.ClientID()), collectFrom(p.b, p.a.ClientID())
	return p
}

// check sends a message there and one back, both of which must be the next that
// comes.
func (p *pair) check(t *testing.T) {
	t.Helper()
	p.n++
	text := fmt.Sprintf("message %d of the pair", p.n)
	began := time.Now()
	for _, way := range []struct {
		from, to *crosscomm.Service
		heard    <-chan *crosscomm.Message
	}{{p.a, p.b, p.onB}, {p.b, p.a, p.onA}} {
		if err := way.from.SendMessage(patience(t), text, crosscomm.TypeText, way.to.ClientID()); err != nil {
			t.Fatalf("others are harmed: %v", err)
		}
		if m := testkit.Receive(t, way.heard); m.Text() != text || m.FromClientID != way.from.ClientID() {
			t.Fatalf("others are harmed: got %.100q of %q, want %q", m.Text(), m.FromClientID, text)
		}
	}
	p.roundTrips = append(p.roundTrips, time.Since(began))
}

// measure checks the pair until done is closed, at least some times, and returns how
// long the round trips took.
func (p *pair) measure(t *testing.T, done <-chan struct{}) (trips times) {
	t.Helper()
	p.roundTrips = nil
	for over := false; !over || len(p.roundTrips) < ofFull(20, 1000); {
		p.check(t)
		select {
		case <-done:
			over = true
		default:
		}
	}
	return times(p.roundTrips)
}

// times are durations that belong together.
type times []time.Duration

// at returns the one that so many of 100 do not exceed.
func (d times) at(percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}

// String tells what a person wants to know of them.
func (d times) String() string {
	return fmt.Sprintf("%d round trips of others: median %v, p99 %v, at most %v", len(d), d.at(50), d.at(99), d.at(100))
}

// rest is what a process holds while nothing happens.
type rest struct{ goroutines, files int }

// atRest returns what this process holds when it has got no less for a while.
func atRest(t *testing.T) (least rest) {
	t.Helper()
	least, since := now(), time.Now()
	testkit.Eventually(t, "this process is at rest", func() bool {
		if r := now(); r.goroutines < least.goroutines || r.files < least.files {
			least, since = r, time.Now()
		}
		return time.Since(since) > 200*time.Millisecond
	})
	return least
}

func now() rest { return rest{runtime.NumGoroutine(), openFiles()} }

// openFiles counts the file descriptors of this process, but for the one that it
// takes to look; where there is no /proc that is 0.
func openFiles() int {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(names) - 1
}

// returnsTo waits until this process holds no more than before.
func returnsTo(t *testing.T, before rest) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("goroutines and files are back to %+v", before), func() bool {
		r := now()
		return r.goroutines <= before.goroutines && r.files <= before.files
	})
}

// logBuffer collects what is logged.
type logBuffer struct{ testkit.Buffer }

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

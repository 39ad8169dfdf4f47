package crosscomm_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// hangConn is a link that takes the requests of OSS clients and gives nothing,
// while it hangs.
type hangConn struct {
	net.Conn
	hanging *atomic.Bool
	reached chan struct{} // is sent to for each request
}

func (c *hangConn) Write(p []byte) (int, error) {
	if !c.hanging.Load() || !bytes.Contains(p, []byte("User-Agent: aliyun")) {
		return c.Conn.Write(p)
	}
	select {
	case c.reached <- struct{}{}:
	default:
	}
	return len(p), nil
}

// hangingTransfers calls try with transfers of all kinds, each over a link that
// hangs for it: try must end the context that it gives to start.
func hangingTransfers(t testing.TB, try func(name string, reached <-chan struct{}, start func(context.Context) error)) {
	server := startFileServer(t, crosscomm.Config{})
	source := testkit.WriteTree(t, t.TempDir(), map[string]string{"large": string(noise(5, 20<<20)), "small": "x", "folder/a": "1", "folder/b": string(noise(6, 20<<20))})
	var hanging atomic.Bool
	reached := make(chan struct{}, 1)
	a := newClient(t, server.addr, "a", crosscomm.Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &hangConn{conn, &hanging, reached}, err
	}})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	onServer := collect(server.Service, crosscomm.ListenerOptions{})
	keys := map[string]string{}
	for name, typ := range map[string]crosscomm.MsgType{"small": crosscomm.TypeFile, "folder": crosscomm.TypeFolder} {
		if err := a.SendMessage(testContext(t), filepath.Join(source, name), typ, "server"); err != nil {
			t.Fatal(err)
		}
		keys[name] = testkit.Receive(t, onServer).OSSKey
	}
	upload := func(name string, typ crosscomm.MsgType) func(context.Context) error {
		return func(ctx context.Context) error {
			return a.SendMessage(ctx, filepath.Join(source, name), typ, "server")
		}
	}
	download := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := a.DownloadFileManually(ctx, keys[name], t.TempDir())
			return err
		}
	}
	for name, start := range map[string]func(context.Context) error{
		"small file up": upload("small", crosscomm.TypeFile),
		"large file up": upload("large", crosscomm.TypeFile),
		"a folder up":   upload("folder", crosscomm.TypeFolder),
		"a file down":   download("small"),
		"a folder down": download("folder"),
	} {
		hanging.Store(true)
		try(name, reached, start)
		hanging.Store(false)
	}
}

// A transfer over a link that hangs ends with its context, also where nothing
// can be remembered and what was stored is to be deleted.
func TestCancelledTransfers(t *testing.T) {
	for name, prepare := range map[string]func(testing.TB){"with a cache directory": cacheDir, "without": noCacheDir} {
		t.Run(name, func(t *testing.T) {
			prepare(t)
			hangingTransfers(t, func(name string, reached <-chan struct{}, start func(context.Context) error) {
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan error, 1)
				go func() { done <- start(ctx) }()
				testkit.Receive(t, reached)
				cancel()
				if err := testkit.Receive(t, done); !errors.Is(err, context.Canceled) {
					t.Errorf("%s: got %v", name, err)
				}
			})
		})
	}
}

// noCacheDir takes away the place of what is remembered of uploads.
func noCacheDir(t testing.TB) {
	t.Helper()
	testkit.UseCacheDir(t, "")
	if dir, err := os.UserCacheDir(); err == nil {
		t.Fatalf("there is %s", dir)
	}
}

// What takes longest until a transfer has ended whose context has. It fails
// beyond the second that is promised.
func BenchmarkCancel(b *testing.B) {
	noCacheDir(b)
	for b.Loop() {
		slowest, which := time.Duration(0), ""
		hangingTransfers(b, func(name string, reached <-chan struct{}, start func(context.Context) error) {
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- start(ctx) }()
			testkit.Receive(b, reached)
			began := time.Now()
			cancel()
			testkit.Receive(b, done)
			if took := time.Since(began); took > slowest {
				slowest, which = took, name
			}
		})
		b.ReportMetric(float64(slowest.Milliseconds()), "ms-slowest")
		if slowest > time.Second {
			b.Errorf("%s took %v", which, slowest)
		}
	}
}

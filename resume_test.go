package crosscomm_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// cutter makes network connections the next of which break after a random
// number of bytes, and counts the bytes of all.
type cutter struct {
	mean atomic.Int64 // how many bytes a connection lasts, on average
	cuts atomic.Int64 // how many of the next connections break
	sent atomic.Int64
	got  atomic.Int64

	limit   int64  // of bytes, either way
	reached func() // is called, if not nil, when there have been more
}

func (c *cutter) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	left := new(atomic.Int64)
	left.Store(1 << 62)
	if c.cuts.Add(-1) >= 0 {
		left.Store(rand.Int64N(2 * c.mean.Load()))
	}
	return &cutConn{conn, c, left}, nil
}

type cutConn struct {
	net.Conn
	c    *cutter
	left *atomic.Int64
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.c.got.Add(int64(n)) > c.c.limit && c.c.reached != nil {
		c.c.reached()
	}
	return n, c.cut(n, err)
}

func (c *cutConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if c.c.sent.Add(int64(n)) > c.c.limit && c.c.reached != nil {
		c.c.reached()
	}
	return n, c.cut(n, err)
}

func (c *cutConn) cut(n int, err error) error {
	if c.left.Add(int64(-n)) < 0 {
		c.Conn.Close()
		return errors.New("the cable was cut")
	}
	return err
}

// accessOf returns the settings for the server's endpoint.
func accessOf(t *testing.T, server *testServer) crosscomm.OSSConfig {
	t.Helper()
	access, err := server.FileAccess(server.addr)
	if err != nil {
		t.Fatal(err)
	}
	return access
}

// cacheDir gives what is remembered of uploads a place of the test's own.
func cacheDir(t testing.TB) {
	t.Helper()
	testkit.UseCacheDir(t, t.TempDir())
}

// Connections that break at random bytes: files of all sizes arrive both ways,
// and are whole.
func TestCutConnections(t *testing.T) {
	cacheDir(t)
	server := startFileServer(t, crosscomm.Config{})
	ctx := testContext(t)
	var cable cutter
	a := newClient(t, server.addr, "a", crosscomm.Config{DialContext: cable.dial})
	if err := a.Login(ctx); err != nil {
		t.Fatal(err)
	}
	onServer := collect(server.Service, crosscomm.ListenerOptions{})
	dir := t.TempDir()
	for _, size := range []int{1, 5_000, 3 << 20, 30 << 20} {
		cut := func(mean int) { // fewer times than a client tries again
			cable.mean.Store(int64(mean))
			cable.cuts.Store(6)
		}
		cut(min(size, 4<<20) + 200)
		data := noise(uint64(size), size)
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := a.SendMessage(ctx, path, crosscomm.TypeFile, "server"); err != nil {
			t.Fatalf("up, %d bytes: %v", size, err)
		}
		m := testkit.Receive(t, onServer)
		cut(size/5 + 200)
		down, err := a.DownloadFileManually(ctx, m.OSSKey, filepath.Join(dir, "down"))
		if err != nil {
			t.Fatalf("down, %d bytes: %v", size, err)
		}
		if got, err := os.ReadFile(down); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: got %d, %v", size, len(got), err)
		}
	}
	for name := range testkit.ReadTree(t, filepath.Join(dir, "down")) {
		if filepath.Ext(name) == ".part" {
			t.Errorf("%s was left behind", name)
		}
	}
}

// stopAfter returns a context that ends when n bytes have passed the network
// either way.
func stopAfter(n int64) (context.Context, *cutter) {
	ctx, cancel := context.WithCancel(context.Background())
	return ctx, &cutter{limit: n, reached: cancel}
}

// cutUpload logs a client in whose upload of the path is cancelled when n bytes
// have passed the network.
func cutUpload(t *testing.T, server *testServer, path string, typ crosscomm.MsgType, n int64) *crosscomm.Service {
	t.Helper()
	ctx, broken := stopAfter(n)
	a := newClient(t, server.addr, "a", crosscomm.Config{DialContext: broken.dial})
	if err := a.Login(ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.SendMessage(ctx, path, typ, "server"); !errors.Is(err, context.Canceled) {
		t.Fatalf("it was not cut: %v", err)
	}
	return a
}

// A program that is ended in the middle of an upload, and sends the same file
// when it is started again, does not send again what has arrived.
func TestUploadResumesAfterRestart(t *testing.T) {
	cacheDir(t)
	server := startFileServer(t, crosscomm.Config{})
	onServer := collect(server.Service, crosscomm.ListenerOptions{DownloadDirectory: t.TempDir()})
	dir := t.TempDir()
	data := noise(9, 64<<20)
	testkit.WriteTree(t, dir, map[string]string{"f.bin": string(data), "folder/large": string(data), "folder/small": "s", "folder/other/x": "x"})
	for _, send := range []struct {
		typ  crosscomm.MsgType
		path string
	}{{crosscomm.TypeFile, "f.bin"}, {crosscomm.TypeFolder, "folder"}} {
		path := filepath.Join(dir, send.path)
		a := cutUpload(t, server, path, send.typ, 40<<20)
		if err := a.Logout(context.Background()); err != nil {
			t.Fatal(err)
		}
		var cable cutter
		a = newClient(t, server.addr, "a", crosscomm.Config{DialContext: cable.dial})
		if err := a.Login(testContext(t)); err != nil {
			t.Fatal(err)
		}
		if err := a.SendMessage(testContext(t), path, send.typ, "server"); err != nil {
			t.Fatal(err)
		}
		// Four parts of 4 MiB may have been under way when it was cut.
		if sent := cable.sent.Load(); sent > 50<<20 {
			t.Errorf("%s: %d bytes were sent the second time", send.typ, sent)
		}
		m := testkit.Receive(t, onServer)
		if m.Err() != nil {
			t.Fatal(m.Err())
		}
		if send.typ == crosscomm.TypeFile {
			if got, err := os.ReadFile(m.Path()); err != nil || !bytes.Equal(got, data) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		} else {
			testkit.SameTree(t, testkit.ReadTree(t, filepath.Join(m.Path(), m.OSSKey)), map[string]string{"large": string(data), "small": "s", "other/x": "x"})
		}
		// The same path again is a new message with a new key.
		if err := a.SendMessage(testContext(t), path, send.typ, "server"); err != nil {
			t.Fatal(err)
		}
		if again := testkit.Receive(t, onServer); again.Err() != nil || again.OSSKey == m.OSSKey {
			t.Errorf("again: key %q, then %q; %v", m.OSSKey, again.OSSKey, again.Err())
		}
		if err := a.Logout(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// A file that has other bytes when it is sent again arrives with these.
func TestUploadOfAnotherFileOfTheName(t *testing.T) {
	cacheDir(t)
	server := startFileServer(t, crosscomm.Config{})
	onServer := collect(server.Service, crosscomm.ListenerOptions{DownloadDirectory: t.TempDir()})
	path := filepath.Join(t.TempDir(), "f")
	old := noise(1, 48<<20)
	if err := os.WriteFile(path, old, 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	a := cutUpload(t, server, path, crosscomm.TypeFile, 24<<20)
	// As sly as can be: the same size and time, some of the same bytes.
	changed := bytes.Clone(old)
	changed[5], changed[20<<20] = changed[5]+1, changed[20<<20]+1
	if err := os.WriteFile(path, changed, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := a.SendMessage(testContext(t), path, crosscomm.TypeFile, "server"); err != nil {
		t.Fatal(err)
	}
	m := testkit.Receive(t, onServer)
	if got, err := os.ReadFile(m.Path()); err != nil || !bytes.Equal(got, changed) {
		t.Errorf("got %d bytes, %v, %v", len(got), err, m.Err())
	}
}

// A download that was cut goes on where it was, also by another program; what
// was left of it must be right, or it is not used.
func TestDownloadResumes(t *testing.T) {
	server := startFileServer(t, crosscomm.Config{})
	dir, source := t.TempDir(), t.TempDir()
	data := noise(3, 48<<20)
	testkit.WriteTree(t, source, map[string]string{"f.bin": string(data)})
	onServer := collect(server.Service, crosscomm.ListenerOptions{})
	a := login(t, server.addr, "a")
	if err := a.SendMessage(testContext(t), filepath.Join(source, "f.bin"), crosscomm.TypeFile, "server"); err != nil {
		t.Fatal(err)
	}
	key := testkit.Receive(t, onServer).OSSKey

	cut := func() {
		t.Helper()
		ctx, broken := stopAfter(30 << 20)
		b := newClient(t, server.addr, "b", crosscomm.Config{DialContext: broken.dial})
		if err := b.Login(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := b.DownloadFileManually(ctx, key, dir); !errors.Is(err, context.Canceled) {
			t.Fatalf("it was not cut: %v", err)
		}
		if err := b.Logout(context.Background()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, key)); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("the half of it has its name: %v", err)
		}
	}
	parts := func() []string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(dir, filepath.Dir(key), ".crosscomm-*.part"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	again := func(want int64) {
		t.Helper()
		var cable cutter
		b := newClient(t, server.addr, "b", crosscomm.Config{DialContext: cable.dial})
		if err := b.Login(testContext(t)); err != nil {
			t.Fatal(err)
		}
		path, err := b.DownloadFileManually(testContext(t), key, dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		if n := cable.got.Load(); n > want {
			t.Errorf("%d bytes came, want at most %d", n, want)
		}
		if found := parts(); len(found) != 0 {
			t.Errorf("left behind: %v", found)
		}
		if err := b.Logout(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	cut()
	again(22 << 20)
	again(1 << 20) // it is there
	if err := os.Remove(filepath.Join(dir, key)); err != nil {
		t.Fatal(err)
	}
	cut()
	// A disk that has lost some of it.
	found := parts()
	if len(found) != 1 {
		t.Fatalf("parts: %v", found)
	}
	f, err := os.OpenFile(found[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damaged"), 1000); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again(80 << 20)
}

// An upload outlasts a server that is stopped and started again, also if it is
// part of an http.Server that runs on.
func TestUploadOutlastsStop(t *testing.T) {
	cacheDir(t)
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, DataDir: t.TempDir(), NoStateFile: true})
	if err != nil {
		t.Fatal(err)
	}
	var current atomic.Pointer[crosscomm.Service]
	current.Store(svc)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { current.Load().ServeHTTP(w, r) }))
	defer web.Close()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, noise(4, 64<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	half := make(chan struct{})
	cable := &cutter{limit: 20 << 20, reached: sync.OnceFunc(func() { close(half) })}
	a := newClient(t, strings.TrimPrefix(web.URL, "http://"), "a", crosscomm.Config{DialContext: cable.dial})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { sent <- a.SendMessage(testContext(t), path, crosscomm.TypeFile, "server") }()
	testkit.Receive(t, half)
	if err := svc.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	again, err := crosscomm.New(svc.Config())
	if err != nil {
		t.Fatal(err)
	}
	got := collect(again, crosscomm.ListenerOptions{})
	current.Store(again)
	if err := testkit.Receive(t, sent); err != nil {
		t.Error(err)
	} else if m := testkit.Receive(t, got); m.OSSKey == "" {
		t.Errorf("got %s", m.Text())
	}
	if err := again.Stop(testContext(t)); err != nil {
		t.Error(err)
	}
}

// A server that is restarted in the middle of both; its clients notice nothing.
func TestTransfersOutlastTheServer(t *testing.T) {
	cacheDir(t)
	dataDir := t.TempDir()
	addr := freeAddr(t)
	server := startServerAt(t, crosscomm.Config{DataDir: dataDir}, addr)
	source, target := t.TempDir(), t.TempDir()
	data := noise(4, 64<<20)
	testkit.WriteTree(t, source, map[string]string{"f": string(data)})
	half := make(chan struct{}, 1)
	cable := &cutter{limit: 20 << 20, reached: func() {
		select {
		case half <- struct{}{}:
		default:
		}
	}}
	a := newClient(t, addr, "a", crosscomm.Config{DialContext: cable.dial})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	restart := func() *testServer {
		server.stop()
		return startServerAt(t, crosscomm.Config{DataDir: dataDir}, addr)
	}
	keys := make(chan string, 1)
	a.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		keys <- m.OSSKey
		return nil
	}, crosscomm.ListenerOptions{})

	sent := make(chan error, 1)
	go func() {
		sent <- a.SendMessage(testContext(t), filepath.Join(source, "f"), crosscomm.TypeFile, "server")
	}()
	testkit.Receive(t, half)
	server.stop()
	server = startServerAt(t, crosscomm.Config{DataDir: dataDir}, addr, func(svc *crosscomm.Service) {
		svc.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
			keys <- m.OSSKey
			return nil
		}, crosscomm.ListenerOptions{})
	})
	if err := testkit.Receive(t, sent); err != nil {
		t.Fatal(err)
	}
	key := testkit.Receive(t, keys)
	cable.sent.Store(0)
	for len(half) > 0 {
		<-half
	}
	type result struct {
		path string
		err  error
	}
	down := make(chan result, 1)
	go func() {
		path, err := a.DownloadFileManually(testContext(t), key, target)
		down <- result{path, err}
	}()
	testkit.Receive(t, half)
	server = restart()
	r := testkit.Receive(t, down)
	if r.err != nil {
		t.Fatal(r.err)
	}
	if got, err := os.ReadFile(r.path); err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// A folder that has taken the place of a file does not go on under the file's
// key.
func TestUploadOfAFolderInPlaceOfAFile(t *testing.T) {
	cacheDir(t)
	server := startFileServer(t, crosscomm.Config{})
	onServer := collect(server.Service, crosscomm.ListenerOptions{DownloadDirectory: t.TempDir()})
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, noise(1, 32<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	a := cutUpload(t, server, path, crosscomm.TypeFile, 8<<20)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	testkit.WriteTree(t, path, map[string]string{"f": "1"})
	if err := a.SendMessage(testContext(t), path, crosscomm.TypeFolder, "server"); err != nil {
		t.Fatal(err)
	}
	m := testkit.Receive(t, onServer)
	if m.Err() != nil || filepath.Ext(m.OSSKey) != "" || m.OSSKey[len(m.OSSKey)-1] != '/' {
		t.Fatalf("key %q, %v", m.OSSKey, m.Err())
	}
	testkit.SameTree(t, testkit.ReadTree(t, filepath.Join(m.Path(), m.OSSKey)), map[string]string{"f": "1"})
}

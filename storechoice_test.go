package crosscomm_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/testkit/ossbucket"
)

// To revoke a client's key cuts what is under way with it, and the client goes
// on with another one, without a new login.
func TestRevokedClientGoesOn(t *testing.T) {
	cacheDir(t)
	server := startFileServer(t, crosscomm.Config{})
	onServer := collect(server.Service, crosscomm.ListenerOptions{})
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, noise(1, 40<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	revoked := make(chan error, 1)
	revoke := sync.OnceFunc(func() { revoked <- server.RevokeFileAccess("a") })
	cable := &cutter{limit: 8 << 20, reached: revoke}
	a := newClient(t, server.addr, "a", crosscomm.Config{DialContext: cable.dial})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	onA := collect(a, crosscomm.ListenerOptions{})
	var te *crosscomm.TransferError
	if err := a.SendMessage(testContext(t), path, crosscomm.TypeFile, "server"); !errors.Is(err, fs.ErrPermission) || !errors.As(err, &te) {
		t.Fatalf("what was under way: %v", err)
	}
	if err := testkit.Receive(t, revoked); err != nil {
		t.Fatal(err)
	}
	// The new key comes before anything that the server sends from now on.
	if err := server.SendMessage(testContext(t), "x", crosscomm.TypeText, "a"); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, onA)
	if err := a.SendMessage(testContext(t), path, crosscomm.TypeFile, "server"); err != nil {
		t.Errorf("with the new key: %v", err)
	}
	if m := testkit.Receive(t, onServer); m.OSSKey != te.Key {
		t.Errorf("it has not gone on with %q, but with %q", te.Key, m.OSSKey)
	}
	bucket := ossbucket.Open(t, accessOf(t, server))
	objects, err := bucket.ListObjects()
	if err != nil {
		t.Fatal(err)
	}
	uploads, err := bucket.ListMultipartUploads()
	if err != nil || len(objects.Objects) != 1 || len(uploads.Uploads) != 0 {
		t.Errorf("%d objects and %d uploads, %v", len(objects.Objects), len(uploads.Uploads), err)
	}
}

// What another program on the directory revokes ends within a second, and the
// client goes on with another key, without a new login.
func TestRevokedByAnotherProgram(t *testing.T) {
	dataDir := t.TempDir()
	server := startServer(t, crosscomm.Config{DataDir: dataDir})
	stolen := ossbucket.Open(t, clientAccess(t, server, "a"))
	a := newClient(t, server.addr, "a", crosscomm.Config{})
	onClient := collect(a, crosscomm.ListenerOptions{})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(testkit.WriteTree(t, t.TempDir(), map[string]string{"f": "x"}), "f")
	if err := a.SendMessage(testContext(t), path, crosscomm.TypeFile, "server"); err != nil {
		t.Fatal(err)
	}
	other, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, DataDir: dataDir})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.RevokeFileAccess("a"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the key is void", func() bool { return stolen.PutObject("cross_comm/a/x", strings.NewReader("x")) != nil })
	// The new key comes before anything that the server sends from now on.
	if err := server.SendMessage(testContext(t), "x", crosscomm.TypeText, "a"); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, onClient)
	if err := a.SendMessage(testContext(t), path, crosscomm.TypeFile, "server"); err != nil {
		t.Errorf("with the new key: %v", err)
	}
}

// A client that meets another server after a reconnect uses that one's store,
// or none; the error says what is the matter.
func TestAnotherServerAfterReconnect(t *testing.T) {
	addr := freeAddr(t)
	source := t.TempDir()
	testkit.WriteTree(t, source, map[string]string{"f": "x"})
	first := startServerAt(t, crosscomm.Config{DataDir: t.TempDir()}, addr)
	ups := make(chan struct{}, 10)
	a := newClient(t, addr, "a", crosscomm.Config{OnUp: func() { ups <- struct{}{} }})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, ups)
	send := func() error {
		return a.SendMessage(testContext(t), filepath.Join(source, "f"), crosscomm.TypeFile, "server")
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	first.stop()
	second := startServerAt(t, crosscomm.Config{}, addr)
	testkit.Receive(t, ups)
	if err := send(); !errors.Is(err, crosscomm.ErrNoObjectStore) || !strings.Contains(err.Error(), "start it with a data directory") {
		t.Errorf("got %v", err)
	}
	second.stop()
	other := startFileServer(t, crosscomm.Config{})
	third := startServerAt(t, crosscomm.Config{DataDir: t.TempDir(), OSS: accessOf(t, other)}, addr)
	testkit.Receive(t, ups)
	if err := send(); !errors.Is(err, crosscomm.ErrNoObjectStore) || !strings.Contains(err.Error(), "store of its settings") {
		t.Errorf("got %v", err)
	}
	third.stop()
	startServerAt(t, crosscomm.Config{DataDir: t.TempDir()}, addr)
	testkit.Receive(t, ups)
	if err := send(); err != nil {
		t.Error(err)
	}
}

// OSS settings of a client win over what the server offers; incomplete ones are
// an error that names what is missing.
func TestClientsOwnSettings(t *testing.T) {
	server, other := startFileServer(t, crosscomm.Config{}), startFileServer(t, crosscomm.Config{})
	source := t.TempDir()
	testkit.WriteTree(t, source, map[string]string{"f": "x"})
	a := newClient(t, server.addr, "a", crosscomm.Config{OSS: accessOf(t, other)})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := a.SendMessage(testContext(t), filepath.Join(source, "f"), crosscomm.TypeFile, "all"); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		*testServer
		want int
	}{{server, 0}, {other, 1}} {
		if l, err := ossbucket.Open(t, accessOf(t, s.testServer)).ListObjects(); err != nil || len(l.Objects) != s.want {
			t.Errorf("%d objects, want %d; %v", len(l.Objects), s.want, err)
		}
	}
	half := accessOf(t, other)
	half.AccessKeySecret, half.BucketName = "", ""
	b := newClient(t, server.addr, "b", crosscomm.Config{OSS: half})
	if err := b.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	err := b.SendMessage(testContext(t), filepath.Join(source, "f"), crosscomm.TypeFile, "all")
	if !errors.Is(err, crosscomm.ErrNoObjectStore) || !strings.Contains(err.Error(), "OSS_BUCKET_NAME, OSS_ACCESS_KEY_SECRET not set") {
		t.Errorf("got %v", err)
	}
	wrong := accessOf(t, other)
	wrong.AccessKeySecret = "wrong"
	c := newClient(t, server.addr, "c", crosscomm.Config{OSS: wrong})
	if err := c.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	err = c.SendMessage(testContext(t), filepath.Join(source, "f"), crosscomm.TypeFile, "all")
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "SignatureDoesNotMatch") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("got %v", err)
	}
}

// A server whose settings name another store leaves its files, and its clients,
// to that; its own settings in the .env are no other store.
func TestServersOwnSettings(t *testing.T) {
	other := startFileServer(t, crosscomm.Config{})
	server := startFileServer(t, crosscomm.Config{OSS: accessOf(t, other)})
	source := t.TempDir()
	testkit.WriteTree(t, source, map[string]string{"f": "x"})
	b := login(t, server.addr, "b")
	if err := server.SendMessage(testContext(t), filepath.Join(source, "f"), crosscomm.TypeFile, "b"); err != nil {
		t.Fatal(err)
	}
	if l, err := ossbucket.Open(t, accessOf(t, other)).ListObjects(); err != nil || len(l.Objects) != 1 {
		t.Errorf("%d objects, %v", len(l.Objects), err)
	}
	if err := b.SendMessage(testContext(t), filepath.Join(source, "f"), crosscomm.TypeFile, "all"); !errors.Is(err, crosscomm.ErrNoObjectStore) {
		t.Errorf("got %v", err)
	}
	dataDir := t.TempDir()
	first, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, DataDir: dataDir})
	if err != nil {
		t.Fatal(err)
	}
	own, err := first.FileAccess("192.0.2.1:1")
	if err != nil {
		t.Fatal(err)
	}
	server = startServer(t, crosscomm.Config{DataDir: dataDir, OSS: own})
	if access := clientAccess(t, server, "c"); access.AccessKeyID == "" {
		t.Error("its own settings in .env keep a server from offering its endpoint")
	}
	c := login(t, server.addr, "d")
	if err := c.SendMessage(testContext(t), filepath.Join(source, "f"), crosscomm.TypeFile, "all"); err != nil {
		t.Error(err)
	}
	if err := server.SendMessage(testContext(t), filepath.Join(source, "f"), crosscomm.TypeFile, "all"); err != nil {
		t.Error(err)
	}
}

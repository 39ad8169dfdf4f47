package crosscomm_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// noise returns n bytes that are the same for the same seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0] = byte(seed)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// fileServer is a server that carries files.
func startFileServer(t testing.TB, cfg crosscomm.Config) *testServer {
	t.Helper()
	cfg.DataDir = t.TempDir()
	return startServer(t, cfg)
}

// A client without any setting sends files, images and folders through the
// server, to a client and to the server's own listeners; the server sends some,
// too.
func TestFilesThroughServer(t *testing.T) {
	server := startFileServer(t, crosscomm.Config{})
	ctx := testContext(t)
	dirB, dirServer := t.TempDir(), t.TempDir()
	onServer := collect(server.Service, crosscomm.ListenerOptions{DownloadDirectory: dirServer})
	b := newClient(t, server.addr, "b", crosscomm.Config{})
	onB := collect(b, crosscomm.ListenerOptions{DownloadDirectory: dirB})
	if err := b.Login(ctx); err != nil {
		t.Fatal(err)
	}
	a := login(t, server.addr, "a")
	source := t.TempDir()
	tree := map[string]string{"deep/er/文件 一.txt": "文", "empty": "", "none/": "", "x y.bin": string(noise(1, 100_000)), ".hidden": "h"}
	testkit.WriteTree(t, filepath.Join(source, "folder"), tree)
	for _, send := range []struct {
		from *crosscomm.Service
		to   string
		on   <-chan *crosscomm.Message
		dir  string
	}{{a, "b", onB, dirB}, {a, "server", onServer, dirServer}, {server.Service, "b", onB, dirB}} {
		for name, data := range map[string][]byte{"photo.JPG": noise(2, 300_000), "empty.txt": nil, "no extension": noise(3, 10), "large.bin": noise(4, 40<<20)} {
			path := filepath.Join(source, name)
			if err := os.WriteFile(path, data, 0o640); err != nil {
				t.Fatal(err)
			}
			for _, typ := range []crosscomm.MsgType{crosscomm.TypeFile, crosscomm.TypeImage} {
				if err := send.from.SendMessage(ctx, path, typ, send.to); err != nil {
					t.Fatal(err)
				}
				m := testkit.Receive(t, send.on)
				key := regexp.MustCompile(`^cross_comm/` + regexp.QuoteMeta(send.from.ClientID()) + `/\d{13}_[0-9a-f]{8}` + regexp.QuoteMeta(filepath.Ext(name)) + `$`)
				if m.Err() != nil || m.Text() != path || m.MsgType != typ || !key.MatchString(m.OSSKey) || m.Path() != filepath.Join(send.dir, m.OSSKey) {
					t.Fatalf("got %s %q, key %q, path %q, %v", m.MsgType, m.Text(), m.OSSKey, m.Path(), m.Err())
				}
				if got, err := os.ReadFile(m.Path()); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s: got %d bytes, %v", name, len(got), err)
				}
				if info, err := os.Stat(m.Path()); err != nil || info.Mode() != 0o640 {
					t.Errorf("%s: the mode is %v, %v", name, info.Mode(), err)
				}
			}
		}
		if err := send.from.SendMessage(ctx, filepath.Join(source, "folder"), crosscomm.TypeFolder, send.to); err != nil {
			t.Fatal(err)
		}
		m := testkit.Receive(t, send.on)
		if m.Err() != nil || !regexp.MustCompile(`^cross_comm/.*/\d{13}_[0-9a-f]{8}_folder/$`).MatchString(m.OSSKey) ||
			filepath.Dir(m.Path()) != send.dir || !regexp.MustCompile(`^folder_\d{10}(_\d+)?$`).MatchString(filepath.Base(m.Path())) {
			t.Fatalf("got the folder at %q, key %q, %v", m.Path(), m.OSSKey, m.Err())
		}
		testkit.SameTree(t, testkit.ReadTree(t, filepath.Join(m.Path(), m.OSSKey)), tree)
	}
}

// What cannot be sent is an error of the right kind, and nothing arrives.
func TestFilesNotSent(t *testing.T) {
	server := startFileServer(t, crosscomm.Config{MaxFileSize: 1000})
	ctx := testContext(t)
	a := login(t, server.addr, "a")
	onServer := collect(server.Service, crosscomm.ListenerOptions{})
	dir := t.TempDir()
	testkit.WriteTree(t, dir, map[string]string{"file": "x", "folder/a": "1", "folder/b": "2", "large": strings.Repeat("x", 1001), "with large/large": strings.Repeat("x", 1001)})
	if err := os.Chmod(filepath.Join(dir, "folder", "b"), 0); err != nil {
		t.Fatal(err)
	}
	_, err := os.Open(filepath.Join(dir, "folder", "b"))
	readsAll := err == nil // as root
	for name, send := range map[string]struct {
		content any
		typ     crosscomm.MsgType
		want    error
		text    string
	}{
		"missing":          {filepath.Join(dir, "none"), crosscomm.TypeFile, fs.ErrNotExist, "none"},
		"a folder as file": {filepath.Join(dir, "folder"), crosscomm.TypeFile, crosscomm.ErrContent, "send it as folder"},
		"a file as folder": {filepath.Join(dir, "file"), crosscomm.TypeFolder, crosscomm.ErrContent, "send it as file"},
		"a device":         {os.DevNull, crosscomm.TypeFile, nil, "no regular file"},
		"no path":          {42, crosscomm.TypeFile, crosscomm.ErrContent, "path"},
		"empty":            {"", crosscomm.TypeImage, crosscomm.ErrContent, "empty"},
		"unreadable":       {filepath.Join(dir, "folder"), crosscomm.TypeFolder, fs.ErrPermission, filepath.Join("folder", "b")},
		"too large":        {filepath.Join(dir, "large"), crosscomm.TypeFile, crosscomm.ErrTooLarge, "EntityTooLarge"},
		"one too large":    {filepath.Join(dir, "with large"), crosscomm.TypeFolder, crosscomm.ErrTooLarge, filepath.Join("with large", "large")},
	} {
		t.Run(name, func(t *testing.T) {
			if readsAll && name == "unreadable" {
				t.Log("this user can read everything: not tested")
				return
			}
			err := a.SendMessage(ctx, send.content, send.typ, "server")
			if err == nil || send.want != nil && !errors.Is(err, send.want) || !strings.Contains(err.Error(), send.text) {
				t.Errorf("got %v, want %v with %q", err, send.want, send.text)
			}
			var te *crosscomm.TransferError
			if !errors.Is(err, crosscomm.ErrContent) && (!errors.As(err, &te) || te.Op != crosscomm.OpUpload || te.Path != send.content) {
				t.Errorf("got %#v", te)
			}
		})
	}
	if err := a.SendMessage(ctx, "end", crosscomm.TypeText, "server"); err != nil {
		t.Fatal(err)
	}
	if m := testkit.Receive(t, onServer); m.Text() != "end" {
		t.Errorf("got %s %s", m.MsgType, m.Text())
	}
}

// Without any store the error says in a sentence what is missing.
func TestNoObjectStore(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	a := login(t, server.addr, "a")
	path := filepath.Join(t.TempDir(), "f")
	testkit.WriteTree(t, filepath.Dir(path), map[string]string{"f": "x"})
	err := a.SendMessage(context.Background(), path, crosscomm.TypeFile, "server")
	if !errors.Is(err, crosscomm.ErrNoObjectStore) || !strings.Contains(err.Error(), "data directory") || !strings.Contains(err.Error(), "OSS_ENDPOINT") {
		t.Errorf("the client: %v", err)
	}
	err = server.SendMessage(context.Background(), path, crosscomm.TypeFile, "a")
	if !errors.Is(err, crosscomm.ErrNoObjectStore) || !strings.Contains(err.Error(), "DataDir") || !strings.Contains(err.Error(), "OSS_ENDPOINT") {
		t.Errorf("the server: %v", err)
	}
}

// OnProgress tells of both ways, in order, and of the end.
func TestProgress(t *testing.T) {
	cacheDir(t)
	server := startFileServer(t, crosscomm.Config{})
	events := make(chan crosscomm.Progress, 10_000)
	a := newClient(t, server.addr, "a", crosscomm.Config{OnProgress: func(p crosscomm.Progress) { events <- p }})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	got := collect(server.Service, crosscomm.ListenerOptions{})
	testkit.WriteTree(t, dir, map[string]string{"d/1": string(noise(1, 40<<20)), "d/2": "22", "d/sub/3": "333", "d/none/": ""})
	if err := a.SendMessage(testContext(t), filepath.Join(dir, "d"), crosscomm.TypeFolder, "server"); err != nil {
		t.Fatal(err)
	}
	key := testkit.Receive(t, got).OSSKey
	path, err := a.DownloadFileManually(testContext(t), key, filepath.Join(dir, "down"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.DownloadFileManually(testContext(t), "none", dir)
	if err == nil {
		t.Fatal("it was not there")
	}
	check := func(op crosscomm.TransferOp, path string, fails bool) {
		t.Helper()
		var last crosscomm.Progress
		for !last.Done {
			p := testkit.Receive(t, events)
			if p.Op != op || p.Name == "" || p.Bytes < last.Bytes || p.FilesDone < last.FilesDone || p.FilesDone > p.Files || p.Total != 0 && p.Bytes > p.Total {
				t.Errorf("got %+v after %+v", p, last)
			}
			last = p
		}
		if (last.Err != nil) != fails || last.Path != path {
			t.Errorf("the end is %+v, want the path %s", last, path)
		}
		if want := int64(40<<20 + 5); !fails && (last.Bytes != want || last.Total != want || last.FilesDone != 3 || last.Files != 3) {
			t.Errorf("the end is %+v", last)
		}
	}
	check(crosscomm.OpUpload, filepath.Join(dir, "d"), false)
	check(crosscomm.OpDownload, path, false)
	check(crosscomm.OpDownload, filepath.Join(dir, "none"), true)
	if len(events) != 0 {
		t.Errorf("%d more", len(events))
	}
}

// Modes and empty directories pass between Go peers, and links are left out.
func TestFolderDetails(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Log("Windows has no such modes")
		return
	}
	server := startFileServer(t, crosscomm.Config{})
	got := collect(server.Service, crosscomm.ListenerOptions{DownloadDirectory: t.TempDir()})
	a := login(t, server.addr, "a")
	dir := filepath.Join(t.TempDir(), "d")
	testkit.WriteTree(t, dir, map[string]string{"run.sh": "#!", "secret": "s", "A": "1", "a": "2", "private/x": "x", "e/m/p/t/y/": "", "world": "w"})
	secret := filepath.Join(filepath.Dir(dir), "outside")
	testkit.WriteTree(t, secret, map[string]string{"passwords": "123"})
	for name, mode := range map[string]os.FileMode{"run.sh": 0o755, "secret": 0o600, "private": 0o700, "e/m/p/t/y": 0o750, "world": 0o666} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"link": secret, "filelink": filepath.Join(secret, "passwords"), "loop": "."} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.SendMessage(testContext(t), dir, crosscomm.TypeFolder, "server"); err != nil {
		t.Fatal(err)
	}
	m := testkit.Receive(t, got)
	if m.Err() != nil {
		t.Fatal(m.Err())
	}
	root := filepath.Join(m.Path(), m.OSSKey)
	testkit.SameTree(t, testkit.ReadTree(t, root), map[string]string{"run.sh": "#!", "secret": "s", "A": "1", "a": "2", "private/x": "x", "e/m/p/t/y/": "", "world": "w"})
	for name, mode := range map[string]os.FileMode{"run.sh": 0o755, "secret": 0o600, "private": 0o700, "e/m/p/t/y": 0o750, "world": 0o666 &^ umask(t)} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, want %v; %v", name, info.Mode(), mode, err)
		}
	}
	// The link itself can be sent: its name was given.
	if err := a.SendMessage(testContext(t), filepath.Join(dir, "filelink"), crosscomm.TypeFile, "server"); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(m.Path())
	if err != nil || !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "cross_comm" }) {
		t.Errorf("the folder has %v, %v", entries, err)
	}
}

// umask returns the permission bits that new files do not get.
func umask(t *testing.T) fs.FileMode {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o777); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return 0o777 &^ info.Mode().Perm()
}

// putStore counts the puts, and does something after each.
type putStore struct {
	*memStore
	puts  int
	after func()
}

func (s *putStore) Put(ctx context.Context, key string, r io.ReaderAt, opts crosscomm.PutOptions) error {
	s.puts++
	err := s.memStore.Put(ctx, key, r, opts)
	s.after()
	return err
}

// A link that is lost between the upload and the message costs no second
// upload.
func TestMessageAfterUploadIsLost(t *testing.T) {
	cacheDir(t)
	addr := freeAddr(t)
	server := startServerAt(t, crosscomm.Config{}, addr)
	ctx, cancel := context.WithCancel(context.Background())
	store := &putStore{memStore: newMemStore(nil), after: func() {
		server.stop()
		cancel()
	}}
	a := newClient(t, addr, "a", crosscomm.Config{ObjectStore: store})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, noise(1, 17<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := a.SendMessage(ctx, path, crosscomm.TypeFile, "server"); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	keys := make(chan string, 2)
	startServerAt(t, crosscomm.Config{}, addr, func(svc *crosscomm.Service) {
		svc.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
			keys <- m.OSSKey
			return nil
		}, crosscomm.ListenerOptions{})
	})
	store.after = func() {}
	if err := a.SendMessage(testContext(t), path, crosscomm.TypeFile, "server"); err != nil {
		t.Fatal(err)
	}
	first := testkit.Receive(t, keys)
	if store.puts != 1 || store.objects[first] == nil {
		t.Errorf("%d puts", store.puts)
	}
	if err := a.SendMessage(testContext(t), path, crosscomm.TypeFile, "server"); err != nil {
		t.Fatal(err)
	}
	if second := testkit.Receive(t, keys); second == first || store.puts != 2 {
		t.Errorf("again: key %q after %q, %d puts", second, first, store.puts)
	}
}

package crosscomm_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/testkit/ossbucket"
)

// badStore is a memStore with a Get of the test's own.
type badStore struct {
	*memStore
	get func(ctx context.Context, key string, offset int64) (io.ReadCloser, crosscomm.ObjectInfo, error)
}

func (s *badStore) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, crosscomm.ObjectInfo, error) {
	return s.get(ctx, key, offset)
}

// cutReader gives n bytes, and then what another reader gives.
func cutReader(r io.ReadCloser, n int64, then io.Reader) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, n), then), r}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// A download that goes on, and is refused what is missing, fails with the
// store's error; what it had stays for the next one.
func TestResumedDownloadIsRefused(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	data := string(noise(1, 3<<20))
	store := &badStore{memStore: newMemStore(map[string]string{"file": data, "folder/a": data, "folder/b": "b"})}
	svc, got, inbox := receiver(t, server.addr, store)
	if err := svc.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	sender := loginRaw(t, server.addr, "sender")
	refused := errors.New("refused")
	for _, c := range []struct{ key, typ string }{{"file", "file"}, {"folder/", "folder"}} {
		cut := func(ctx context.Context, key string, offset int64) (io.ReadCloser, crosscomm.ObjectInfo, error) {
			body, info, err := store.memStore.Get(ctx, key, offset)
			if err == nil && len(store.objects[key]) > 1<<20 {
				body = cutReader(body, 2<<20, errReader{refused})
			}
			if offset > 0 {
				return nil, crosscomm.ObjectInfo{}, refused
			}
			return body, info, err
		}
		do := map[string]func() error{
			"by hand": func() error {
				_, err := svc.DownloadFileManually(testContext(t), c.key, filepath.Join(inbox, "by hand"))
				return err
			},
			"for a listener": func() error {
				sender.write(fileFrame("sender", "receiver", c.typ, "x", c.key))
				return testkit.Receive(t, got).Err()
			},
		}
		for name, download := range do {
			store.get = cut
			for range 2 {
				var te *crosscomm.TransferError
				if err := download(); !errors.Is(err, refused) || !errors.As(err, &te) || te.Op != crosscomm.OpDownload {
					t.Fatalf("%s %s: got %v", name, c.key, err)
				}
			}
			store.get = store.memStore.Get
			if err := download(); err != nil {
				t.Errorf("%s %s: %v", name, c.key, err)
			}
		}
	}
}

// A store that has more bytes than it says, or does not say how many, cannot
// pass a cut file for a whole one.
func TestStoreOfWrongSizes(t *testing.T) {
	store := &badStore{memStore: newMemStore(map[string]string{"k": "twelve bytes"})}
	size := int64(0)
	store.get = func(ctx context.Context, key string, offset int64) (io.ReadCloser, crosscomm.ObjectInfo, error) {
		body, info, err := store.memStore.Get(ctx, key, offset)
		info.Size, info.HasCRC64, info.CRC64 = size, false, 0
		return body, info, err
	}
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, ObjectStore: store})
	if err != nil {
		t.Fatal(err)
	}
	for _, size = range []int64{0, 3, 11, -1} {
		dir := t.TempDir()
		if path, err := svc.DownloadFileManually(testContext(t), "k", dir); err == nil {
			t.Errorf("size %d: got %s", size, path)
		}
		if tree := testkit.ReadTree(t, dir); len(tree) != 0 {
			t.Errorf("size %d: left behind: %v", size, tree)
		}
	}
	// Nor when it is tried again, and the first part of it is there.
	store.objects["k"] = noise(1, 3<<20)
	size = 2 << 20
	store.get = func(ctx context.Context, key string, offset int64) (io.ReadCloser, crosscomm.ObjectInfo, error) {
		body, info, err := store.memStore.Get(ctx, key, offset)
		info.Size, info.HasCRC64, info.CRC64, info.ETag = size, false, 0, "E"
		return body, info, err
	}
	dir := t.TempDir()
	for range 3 {
		if path, err := svc.DownloadFileManually(testContext(t), "k", dir); err == nil {
			t.Errorf("a large one: got %s", path)
		}
	}
	store.objects["k"] = []byte("twelve bytes")
	size = 12
	if path, err := svc.DownloadFileManually(testContext(t), "k", t.TempDir()); err != nil {
		t.Error(err)
	} else if got, err := os.ReadFile(path); err != nil || string(got) != "twelve bytes" {
		t.Errorf("got %q, %v", got, err)
	}
}

// A panic of an application's store is the application's own where it has
// called a method, and an error of the message for a listener. Neither ends the
// program.
func TestPanickingStore(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	store := &badStore{memStore: newMemStore(map[string]string{"file": "1", "folder/a": "1", "folder/b": "2"})}
	store.get = func(context.Context, string, int64) (io.ReadCloser, crosscomm.ObjectInfo, error) {
		panic("the store is broken")
	}
	svc, got, dir := receiver(t, server.addr, store)
	if err := svc.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	sender := loginRaw(t, server.addr, "sender")
	for _, c := range []struct{ key, typ string }{{"file", "file"}, {"folder/", "folder"}} {
		sender.write(fileFrame("sender", "receiver", c.typ, "x", c.key))
		if m := testkit.Receive(t, got); m.Err() == nil || m.Path() != "" {
			t.Errorf("%s: got %q, %v", c.typ, m.Path(), m.Err())
		}
		func() {
			defer func() {
				if p, ok := recover().(string); !ok || !strings.Contains(p, "the store is broken") {
					t.Errorf("%s: got the panic %q", c.typ, p)
				}
			}()
			_, err := svc.DownloadFileManually(testContext(t), c.key, dir)
			t.Errorf("%s: %v", c.typ, err)
		}()
	}
	// A panic in the middle of a body leaves no goroutine: see TestMain.
	store.objects["file"] = noise(1, 2<<20)
	store.get = func(ctx context.Context, key string, offset int64) (io.ReadCloser, crosscomm.ObjectInfo, error) {
		body, info, err := store.memStore.Get(ctx, key, offset)
		return cutReader(body, 1<<20, panicReader{}), info, err
	}
	sender.write(fileFrame("sender", "receiver", "file", "x", "file"))
	if m := testkit.Receive(t, got); m.Err() == nil {
		t.Error("a body that panics is no error")
	}
	// And so it is with an end of the goroutine, as by the methods of a testing.T.
	store.get = func(context.Context, string, int64) (io.ReadCloser, crosscomm.ObjectInfo, error) {
		runtime.Goexit()
		panic("unreachable")
	}
	sender.write(fileFrame("sender", "receiver", "folder", "x", "folder/"))
	if m := testkit.Receive(t, got); m.Err() == nil {
		t.Error("an end of the goroutine is no error")
	}
	store.get = store.memStore.Get
	sender.write(fileFrame("sender", "receiver", "folder", "x", "folder/"))
	if m := testkit.Receive(t, got); m.Err() != nil {
		t.Error(m.Err())
	}
}

type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("the store is broken") }

// Logout and Stop do not wait for ever for a transfer that does not obey its
// context, nor for a function that has called them.
func TestLogoutDuringStubbornTransfer(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	begun, release := make(chan struct{}), make(chan struct{})
	store := &badStore{memStore: newMemStore(map[string]string{"k": "x"})}
	store.get = func(ctx context.Context, key string, offset int64) (io.ReadCloser, crosscomm.ObjectInfo, error) {
		close(begun)
		<-release
		return store.memStore.Get(ctx, key, offset)
	}
	logs := new(logBuffer)
	a := newClient(t, server.addr, "a", crosscomm.Config{ObjectStore: store, Logger: logs.logger()})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := a.DownloadFileManually(testContext(t), "k", t.TempDir())
		done <- err
	}()
	testkit.Receive(t, begun)
	if err := a.Logout(context.Background()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(logs.String(), "left behind") {
		t.Errorf("the log does not say what was left behind:\n%s", logs)
	}
	close(release)
	testkit.Receive(t, done)

	var b *crosscomm.Service
	out := make(chan struct{})
	b = newClient(t, server.addr, "b", crosscomm.Config{ObjectStore: newMemStore(map[string]string{"k": "x"}), OnProgress: func(crosscomm.Progress) {
		_ = b.Logout(context.Background())
		select {
		case <-out:
		default:
			close(out)
		}
	}})
	if err := b.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.DownloadFileManually(testContext(t), "k", t.TempDir()); err != nil && !errors.Is(err, crosscomm.ErrNotConnected) {
		t.Error(err)
	}
	testkit.Receive(t, out)
}

// A transfer of the application's ends with the run: its error says why.
func TestTransfersEndWithTheRun(t *testing.T) {
	cacheDir(t)
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, noise(1, 20<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{}, 10)
	hang := func(ctx context.Context) error {
		begun <- struct{}{}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	store := &hangingStore{newMemStore(nil), hang}
	server := startServer(t, crosscomm.Config{ObjectStore: store})
	a := newClient(t, server.addr, "a", crosscomm.Config{ObjectStore: store})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for _, svc := range []*crosscomm.Service{a, server.Service} {
		results := make(chan error, 2)
		go func() { results <- svc.SendMessage(context.Background(), path, crosscomm.TypeFile, crosscomm.All) }()
		go func() {
			_, err := svc.DownloadFileManually(context.Background(), "k", t.TempDir())
			results <- err
		}()
		testkit.Receive(t, begun)
		testkit.Receive(t, begun)
		if err := svc.Stop(testContext(t)); err != nil {
			t.Error(err)
		}
		for range 2 {
			var te *crosscomm.TransferError
			if err := testkit.Receive(t, results); !errors.Is(err, crosscomm.ErrNotConnected) || !errors.As(err, &te) {
				t.Errorf("got %v", err)
			}
		}
	}
}

// hangingStore has puts and gets that do something else.
type hangingStore struct {
	*memStore
	instead func(context.Context) error
}

func (s *hangingStore) Put(ctx context.Context, _ string, _ io.ReaderAt, _ crosscomm.PutOptions) error {
	return s.instead(ctx)
}

func (s *hangingStore) Get(ctx context.Context, _ string, _ int64) (io.ReadCloser, crosscomm.ObjectInfo, error) {
	return nil, crosscomm.ObjectInfo{}, s.instead(ctx)
}

// What was stored for a message that is not sent does not stay, unless a later
// send goes on with it.
func TestNothingStaysOfWhatWasNotSent(t *testing.T) {
	cacheDir(t)
	addr := freeAddr(t)
	for name, c := range map[string]struct {
		size int
		puts func(svc *crosscomm.Service, cancel context.CancelFunc) // called after the put
		want int                                                     // objects that stay
	}{
		"logged out, small": {1000, func(svc *crosscomm.Service, _ context.CancelFunc) { go svc.Logout(context.Background()) }, 0},
		"cancelled, small":  {1000, func(_ *crosscomm.Service, cancel context.CancelFunc) { cancel() }, 0},
		"cancelled, large":  {17 << 20, func(_ *crosscomm.Service, cancel context.CancelFunc) { cancel() }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			server := startServerAt(t, crosscomm.Config{}, addr)
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			store := &putStore{memStore: newMemStore(nil)}
			a := newClient(t, addr, "a", crosscomm.Config{ObjectStore: store})
			if err := a.Login(ctx); err != nil {
				t.Fatal(err)
			}
			store.after = func() {
				server.stop() // so that the message cannot go
				c.puts(a, cancel)
			}
			path := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(path, noise(1, c.size), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := a.SendMessage(ctx, path, crosscomm.TypeFile, "server"); err == nil {
				t.Fatal("it was sent")
			}
			if len(store.objects) != c.want {
				t.Errorf("%d objects stay", len(store.objects))
			}
		})
	}
	// A message that is too large is found out before anything is stored.
	server := startServerAt(t, crosscomm.Config{}, addr)
	store := &putStore{memStore: newMemStore(nil), after: func() {}}
	b := newClient(t, server.addr, "b", crosscomm.Config{ObjectStore: store, MaxMessageSize: 512})
	if err := b.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 200), strings.Repeat("y", 200))
	testkit.WriteTree(t, dir, map[string]string{"f": "1"})
	if err := b.SendMessage(testContext(t), filepath.Join(dir, "f"), crosscomm.TypeFile, "server"); !errors.Is(err, crosscomm.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if store.puts != 0 {
		t.Errorf("%d puts", store.puts)
	}
}

// Uploads that fail for good leave neither objects nor parts at the server, and
// their room is free again.
func TestNothingStaysOfFailedUploads(t *testing.T) {
	cacheDir(t)
	server := startFileServer(t, crosscomm.Config{Quota: 60 << 20})
	a := login(t, server.addr, "a")
	dir := t.TempDir()
	testkit.WriteTree(t, dir, map[string]string{
		"too large": string(noise(1, 80<<20)), "fits": string(noise(2, 50<<20)),
		"folder/1": string(noise(3, 40<<20)), "folder/2": string(noise(4, 40<<20)), "folder/3": "3",
	})
	bucket := ossbucket.Open(t, accessOf(t, server))
	nothing := func(after string) {
		t.Helper()
		objects, err := bucket.ListObjects()
		if err != nil {
			t.Fatal(err)
		}
		uploads, err := bucket.ListMultipartUploads()
		if err != nil {
			t.Fatal(err)
		}
		if len(objects.Objects) != 0 || len(uploads.Uploads) != 0 {
			t.Errorf("after %s: %d objects and %d uploads stay", after, len(objects.Objects), len(uploads.Uploads))
		}
	}
	for name, typ := range map[string]crosscomm.MsgType{"too large": crosscomm.TypeFile, "folder": crosscomm.TypeFolder} {
		began := time.Now()
		err := a.SendMessage(testContext(t), filepath.Join(dir, name), typ, "server")
		if !errors.Is(err, crosscomm.ErrNoRoom) {
			t.Errorf("%s: got %v after %v", name, err, time.Since(began))
		}
		nothing(name)
	}
	// One that changes while it is sent.
	path := filepath.Join(dir, "fits")
	// Once: the heartbeats of this client come over the same cable.
	cable := &cutter{limit: 4 << 20, reached: sync.OnceFunc(func() { _ = os.Truncate(path, 1000) })}
	changing := newClient(t, server.addr, "b", crosscomm.Config{DialContext: cable.dial})
	if err := changing.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := changing.SendMessage(testContext(t), path, crosscomm.TypeFile, "server"); err == nil {
		t.Error("it was sent")
	}
	nothing("a change")
	if err := os.WriteFile(path, noise(2, 50<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := a.SendMessage(testContext(t), path, crosscomm.TypeFile, "server"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Two programs that receive the same into the same directory at once both get
// it whole.
func TestTwoReceiversOneDirectory(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	data := noise(1, 3<<20)
	tree := map[string]string{"f/a": string(data), "f/b": string(data[:1<<20]), "f/c/d": "d"}
	store := newMemStore(tree)
	dir := t.TempDir()
	sender := loginRaw(t, server.addr, "sender")
	var inboxes []<-chan *crosscomm.Message
	for _, id := range []string{"r1", "r2", "r3"} {
		r := newClient(t, server.addr, id, crosscomm.Config{ObjectStore: store})
		inboxes = append(inboxes, collect(r, crosscomm.ListenerOptions{DownloadDirectory: dir}))
		if err := r.Login(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	paths := map[string]bool{}
	const rounds = 5
	for range rounds {
		sender.write(fileFrame("sender", "all", "folder", "x", "f/"))
		sender.write(fileFrame("sender", "all", "file", "x", "f/a"))
		for _, got := range inboxes {
			folder, file := testkit.Receive(t, got), testkit.Receive(t, got)
			if folder.Err() != nil || file.Err() != nil {
				t.Fatal(folder.Err(), file.Err())
			}
			paths[folder.Path()] = true
			testkit.SameTree(t, testkit.ReadTree(t, folder.Path()), tree)
			if text, err := os.ReadFile(file.Path()); err != nil || !bytes.Equal(text, data) {
				t.Errorf("got %d bytes, %v", len(text), err)
			}
		}
		if err := os.Remove(filepath.Join(dir, "f", "a")); err != nil {
			t.Fatal(err)
		}
	}
	if len(paths) != rounds*len(inboxes) {
		t.Errorf("%d folders, some of them given twice", len(paths))
	}
	if left := parts(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Where nothing can be remembered an upload that was cut begins anew, and is
// sent all the same.
func TestNoCacheDirectory(t *testing.T) {
	noCacheDir(t)
	server := startFileServer(t, crosscomm.Config{})
	onServer := collect(server.Service, crosscomm.ListenerOptions{})
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, noise(1, 32<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	a := cutUpload(t, server, path, crosscomm.TypeFile, 8<<20)
	for range 2 {
		if err := a.SendMessage(testContext(t), path, crosscomm.TypeFile, "server"); err != nil {
			t.Fatal(err)
		}
		testkit.Receive(t, onServer)
	}
	l, err := ossbucket.Open(t, accessOf(t, server)).ListObjects()
	if err != nil || len(l.Objects) != 2 {
		t.Errorf("%d objects, %v", len(l.Objects), err)
	}
}

// A receiver's own limit holds for whatever is sent to it, and by hand; a
// message cannot name all that a client has ever sent as its folder.
func TestReceiversLimits(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	store := newMemStore(map[string]string{"file": "12345", "five": "1234", "folder/a": "123", "folder/b": "12", "cross_comm/a/1_folder/x": "1", "cross_comm/a/2.txt": "2"})
	dir := t.TempDir()
	svc := newClient(t, server.addr, "receiver", crosscomm.Config{ObjectStore: store, MaxDownloadSize: 4})
	got := collect(svc, crosscomm.ListenerOptions{DownloadDirectory: dir})
	if err := svc.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	sender := loginRaw(t, server.addr, "sender")
	for _, c := range []struct {
		typ, key string
		want     error
		text     string
	}{
		{"file", "file", crosscomm.ErrTooLarge, "MaxDownloadSize"},
		{"folder", "folder/", crosscomm.ErrTooLarge, "MaxDownloadSize"},
		{"file", "five", nil, ""},
		{"folder", "cross_comm", nil, "refused"},
		{"folder", "cross_comm/", nil, "refused"},
		{"folder", "cross_comm/a/", nil, "refused"},
		{"folder", "./cross_comm//a", nil, "refused"},
		{"folder", "cross_comm/a/1_folder/", nil, ""},
	} {
		sender.write(fileFrame("sender", "receiver", c.typ, "x", c.key))
		m := testkit.Receive(t, got)
		switch {
		case c.want == nil && c.text == "":
			if m.Err() != nil {
				t.Errorf("%s: %v", c.key, m.Err())
			}
		case m.Err() == nil, c.want != nil && !errors.Is(m.Err(), c.want), !strings.Contains(m.Err().Error(), c.text):
			t.Errorf("%s: got %v", c.key, m.Err())
		}
	}
	if _, err := svc.DownloadFileManually(testContext(t), "file", dir); !errors.Is(err, crosscomm.ErrTooLarge) {
		t.Errorf("by hand: %v", err)
	}
	// A file that must come twice, since a link has changed it, counts once.
	changed := false
	bad := &badStore{memStore: store, get: func(ctx context.Context, key string, offset int64) (io.ReadCloser, crosscomm.ObjectInfo, error) {
		body, info, err := store.Get(ctx, key, offset)
		if !changed && err == nil {
			changed = true
			body = io.NopCloser(strings.NewReader("xxxx"))
		}
		return body, info, err
	}}
	twice, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, ObjectStore: bad, MaxDownloadSize: 4})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := twice.DownloadFileManually(testContext(t), "five", t.TempDir()); err != nil || !changed {
		t.Errorf("changed %v: %v", changed, err)
	}
	// Objects that have grown after the list was made, or a list that lies.
	store.sizes = map[string]int64{"folder/a": 1, "folder/b": 1}
	if _, err := svc.DownloadFileManually(testContext(t), "folder/", dir); !errors.Is(err, crosscomm.ErrTooLarge) {
		t.Errorf("a folder that has grown: %v", err)
	}
	if _, err := svc.DownloadFileManually(testContext(t), "cross_comm/a", filepath.Join(dir, "all")); err != nil {
		t.Errorf("all of a client, by hand: %v", err)
	}
}

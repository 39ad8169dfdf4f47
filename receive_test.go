package crosscomm_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// fileFrame is the frame of a message with an object.
func fileFrame(from, to, typ, content, key string) string {
	return strings.Replace(frameOf(from, to, typ, fmt.Sprintf("%q", content)), `"oss_key": null`, fmt.Sprintf(`"oss_key": %q`, key), 1)
}

// receiver is a client with a store, and a listener with a directory.
func receiver(t *testing.T, addr string, store crosscomm.ObjectStore) (svc *crosscomm.Service, got <-chan *crosscomm.Message, dir string) {
	t.Helper()
	dir = t.TempDir()
	svc = newClient(t, addr, "receiver", crosscomm.Config{ObjectStore: store})
	got = collect(svc, crosscomm.ListenerOptions{DownloadDirectory: dir})
	if err := svc.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	return svc, got, dir
}

// While a download takes its time, the link, other listeners, and other senders
// at the same listener go on; the same sender's later messages wait for it.
func TestDownloadHoldsUpNothingElse(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	ctx := testContext(t)
	started, release := make(chan struct{}), make(chan struct{})
	store := newMemStore(map[string]string{"k": "bytes"})
	store.beforeGet = func(ctx context.Context, key string) error {
		close(started)
		return untilReleased(release)(ctx, key)
	}
	svc, all, dir := receiver(t, server.addr, store)
	texts := collect(svc, crosscomm.ListenerOptions{Type: crosscomm.TypeText})
	camera, robot := loginRaw(t, server.addr, "camera"), loginRaw(t, server.addr, "robot")
	camera.write(fileFrame("camera", "receiver", "file", "/x", "k"))
	testkit.Receive(t, started)
	for i := range 3 {
		camera.write(frameOf("camera", "receiver", "text", fmt.Sprintf(`"after %d"`, i)))
		robot.write(frameOf("robot", "receiver", "text", fmt.Sprintf(`"meanwhile %d"`, i)))
	}
	for range 6 {
		testkit.Receive(t, texts)
	}
	for i := range 3 {
		if m := testkit.Receive(t, all); m.Text() != fmt.Sprint("meanwhile ", i) {
			t.Fatalf("got %s from %s", m.Text(), m.FromClientID)
		}
	}
	if _, err := svc.ListClients(ctx, true); err != nil {
		t.Error(err)
	}
	if len(all) != 0 {
		t.Error("a message of the same sender has overtaken its file")
	}
	close(release)
	if m := testkit.Receive(t, all); m.Err() != nil || m.Path() != filepath.Join(dir, "k") {
		t.Errorf("got %s, %q, %v", m.MsgType, m.Path(), m.Err())
	}
	for i := range 3 {
		if m := testkit.Receive(t, all); m.Text() != fmt.Sprint("after ", i) {
			t.Errorf("got %s", m.Text())
		}
	}
}

// A Logout ends a download that is under way, and no listener is called.
func TestLogoutEndsDownload(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	started := make(chan struct{})
	store := newMemStore(map[string]string{"k": "bytes"})
	ended := make(chan error, 1)
	store.beforeGet = func(ctx context.Context, _ string) error {
		close(started)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}
	svc, all, _ := receiver(t, server.addr, store)
	sender := loginRaw(t, server.addr, "sender")
	sender.write(fileFrame("sender", "receiver", "file", "/x", "k"))
	testkit.Receive(t, started)
	if err := svc.Logout(context.Background()); err != nil {
		t.Error(err)
	}
	if len(ended) != 1 || len(all) != 0 {
		t.Errorf("%d downloads ended, %d messages came", len(ended), len(all))
	}
}

// A download that fails reaches the listener as an error, with the message as
// it was sent.
func TestFailedDownload(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	store := newMemStore(nil)
	_, got, dir := receiver(t, server.addr, store)
	sender := loginRaw(t, server.addr, "sender")
	for _, typ := range []string{"file", "image"} {
		sender.write(fileFrame("sender", "receiver", typ, "/home/me/x", "gone.txt"))
		m := testkit.Receive(t, got)
		var te *crosscomm.TransferError
		if !errors.Is(m.Err(), fs.ErrNotExist) || !errors.As(m.Err(), &te) || te.Op != crosscomm.OpDownload || te.Key != "gone.txt" || m.Path() != "" || m.Text() != "/home/me/x" || m.OSSKey != "gone.txt" {
			t.Errorf("got %q, %q, %v", m.Text(), m.Path(), m.Err())
		}
	}
	if tree := testkit.ReadTree(t, dir); len(tree) != 0 {
		t.Errorf("left behind: %v", tree)
	}
}

// The first listener that matches and has a directory decides for all; without
// one nothing is transferred.
func TestWhichDirectory(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	store := newMemStore(map[string]string{"k": "bytes"})
	first, second, images := t.TempDir(), t.TempDir(), t.TempDir()
	svc := newClient(t, server.addr, "receiver", crosscomm.Config{ObjectStore: store})
	var got []<-chan *crosscomm.Message
	for _, opts := range []crosscomm.ListenerOptions{
		{}, {Type: crosscomm.TypeImage, DownloadDirectory: images}, {From: "nobody", DownloadDirectory: images},
		{Type: crosscomm.TypeFile, DownloadDirectory: first}, {DownloadDirectory: second},
	} {
		got = append(got, collect(svc, opts))
	}
	if err := svc.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	sender := loginRaw(t, server.addr, "sender")
	sender.write(fileFrame("sender", "receiver", "file", "x", "k"))
	for _, i := range []int{0, 3, 4} {
		if m := testkit.Receive(t, got[i]); m.Path() != filepath.Join(first, "k") || m.Err() != nil {
			t.Errorf("listener %d: %q, %v", i, m.Path(), m.Err())
		}
	}
	without, none := newClient(t, server.addr, "without", crosscomm.Config{ObjectStore: store}), store
	all := collect(without, crosscomm.ListenerOptions{})
	if err := without.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	before := len(none.gets)
	sender.write(fileFrame("sender", "without", "file", "x", "k"))
	if m := testkit.Receive(t, all); m.Path() != "" || m.Err() != nil || m.Text() != "x" || len(none.gets) != before {
		t.Errorf("got %q, %v after %d transfers", m.Path(), m.Err(), len(none.gets)-before)
	}
	// A file that could not be uploaded by its sender has no key.
	sender.write(frameOf("sender", "receiver", "file", `"x"`))
	if m := testkit.Receive(t, got[4]); m.Path() != "" || m.Err() != nil || m.Text() != "x" {
		t.Errorf("got %q, %v", m.Path(), m.Err())
	}
}

// No key, and no symbolic link in the directory, leads outside of it.
func TestNothingOutsideOfTheDirectory(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	top := t.TempDir()
	dir, outside := filepath.Join(top, "in"), filepath.Join(top, "outside")
	for _, d := range []string{dir, outside} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "file"), filepath.Join(dir, "filelink")); err != nil {
		t.Fatal(err)
	}
	keys := []string{"../outside/a", "a/../../outside/b", "/etc/x", "link/c", "..", "a/..", `..\outside\x`, `\x`, "p/../../outside/d"}
	objects := map[string]string{"filelink": "new", "evil/../../outside/e": "x", "evil/ok": "fine", "link/f/g": "x"}
	for _, key := range keys {
		objects[key] = "x"
	}
	store := newMemStore(objects)
	svc := newClient(t, server.addr, "receiver", crosscomm.Config{ObjectStore: store})
	got := collect(svc, crosscomm.ListenerOptions{DownloadDirectory: dir})
	if err := svc.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	sender := loginRaw(t, server.addr, "sender")
	for _, typ := range []string{"file", "folder"} {
		for _, key := range append(keys, "evil/", "link/f", "../") {
			if typ == "file" && (strings.HasSuffix(key, "/") || key == "link/f") {
				continue
			}
			sender.write(fileFrame("sender", "receiver", typ, "x", key))
			m := testkit.Receive(t, got)
			// A folder below "link/" comes into a new directory of its own, in
			// which there is no link.
			if m.Err() == nil && (typ == "file" || !strings.HasPrefix(key, "link/")) {
				t.Errorf("%s %q was taken to %q", typ, key, m.Path())
			}
			if _, err := svc.DownloadFileManually(testContext(t), key, dir); err == nil {
				t.Errorf("%q was downloaded by hand", key)
			}
		}
	}
	// A link in the place of the file is replaced, not followed.
	sender.write(fileFrame("sender", "receiver", "file", "x", "filelink"))
	if m := testkit.Receive(t, got); m.Err() != nil {
		t.Error(m.Err())
	}
	if info, err := os.Lstat(filepath.Join(dir, "filelink")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("the link is still there: %v, %v", info, err)
	}
	if tree := testkit.ReadTree(t, outside); len(tree) != 0 {
		t.Errorf("outside: %v", tree)
	}
}

// What Java sends: keys at the root, and folders' names without a slash.
func TestKeysOfJava(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	store := newMemStore(map[string]string{"phone_1795508069140_写 真.jpg": "jpg", "photos/1.jpg": "1", "photos/sub/2.jpg": "2", "photos2/no": "no", "lone": "one"})
	svc, got, dir := receiver(t, server.addr, store)
	sender := loginRaw(t, server.addr, "phone")
	sender.write(fileFrame("phone", "receiver", "image", "phone_1795508069140_写 真.jpg", "phone_1795508069140_写 真.jpg"))
	if m := testkit.Receive(t, got); m.Err() != nil || m.Path() != filepath.Join(dir, "phone_1795508069140_写 真.jpg") {
		t.Errorf("got %q, %v", m.Path(), m.Err())
	}
	for key, want := range map[string]map[string]string{
		"photos":  {"photos/1.jpg": "1", "photos/sub/2.jpg": "2"},
		"photos/": {"photos/1.jpg": "1", "photos/sub/2.jpg": "2"},
		"lone":    {"lone": "one"}, // an object; the original does the same
		"empty/":  {},
	} {
		sender.write(fileFrame("phone", "receiver", "folder", "x", key))
		m := testkit.Receive(t, got)
		if m.Err() != nil {
			t.Errorf("%s: %v", key, m.Err())
			continue
		}
		testkit.SameTree(t, testkit.ReadTree(t, m.Path()), want)
	}
	path, err := svc.DownloadFileManually(testContext(t), "photos", dir)
	if err != nil || path != filepath.Join(dir, "photos") {
		t.Fatalf("by hand: %q, %v", path, err)
	}
	testkit.SameTree(t, testkit.ReadTree(t, path), map[string]string{"1.jpg": "1", "sub/2.jpg": "2"})
}

// Keys that stand side by side in a store, but not on a disk.
func TestFileAndFolderOfOneName(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	store := newMemStore(map[string]string{"f/a": "file", "f/a/b": "below", "f/a/": "", "f//c": "c", "f/./d": "d", "f/tab\there": "t", "f/" + strings.Repeat("长", 100) + ".txt": "long"})
	_, got, _ := receiver(t, server.addr, store)
	sender := loginRaw(t, server.addr, "sender")
	sender.write(fileFrame("sender", "receiver", "folder", "x", "f/"))
	m := testkit.Receive(t, got)
	if m.Err() != nil {
		t.Fatal(m.Err())
	}
	tree := testkit.ReadTree(t, filepath.Join(m.Path(), "f"))
	long := ""
	for name := range tree {
		if strings.HasPrefix(name, "长") {
			long = name
		}
	}
	if len(long) > 255 || !strings.HasSuffix(long, ".txt") {
		t.Errorf("the long name became %q", long)
	}
	testkit.SameTree(t, tree, map[string]string{"a": "file", "a~2/b": "below", "c": "c", "d": "d", "tab%09here": "t", long: "long"})
}

// Thousands of messages that wait for their downloads cost no goroutine each,
// and are all delivered, in order, when the store goes on. Those beyond a bound
// say so. All the while others are heard; the sender, too, in the end.
func TestManyWaitForDownloads(t *testing.T) {
	server := startServer(t, crosscomm.Config{})
	release := make(chan struct{})
	store := newMemStore(map[string]string{"k": "bytes", "other": "bytes"})
	store.beforeGet = func(ctx context.Context, key string) error {
		if key == "other" {
			return nil
		}
		return untilReleased(release)(ctx, key)
	}
	svc, got, _ := receiver(t, server.addr, store)
	texts := collect(svc, crosscomm.ListenerOptions{Type: crosscomm.TypeText})
	sender := loginRaw(t, server.addr, "sender")
	before := runtime.NumGoroutine()
	const taken, count = 5003, 5100 // three of them are under way
	for i := range count {
		// All to different places, but for the last of them.
		sender.write(fileFrame("sender", "receiver", "file", fmt.Sprint(i), fmt.Sprintf("k%d", min(i, 3000))))
	}
	sender.write(frameOf("sender", "receiver", "text", `"end"`))
	testkit.Receive(t, texts)
	if n := runtime.NumGoroutine() - before; n > 50 {
		t.Errorf("%d goroutines more", n)
	}
	// Another sender finds room, and nobody is held up however much comes.
	other := loginRaw(t, server.addr, "other")
	other.write(fileFrame("other", "receiver", "file", "others", "other"))
	if m := testkit.Receive(t, got); m.Text() != "others" || m.Err() != nil {
		t.Fatalf("got %s, %v", m.Text(), m.Err())
	}
	long := `"` + strings.Repeat("x", 100_000) + `"`
	const flood = 300
	for range flood {
		sender.write(frameOf("sender", "receiver", "text", long))
	}
	sender.write(frameOf("sender", "receiver", "text", `"last"`))
	early := 0
	for testkit.Receive(t, got).Text() != "last" {
		early++
	}
	if early == 0 || early == flood {
		t.Errorf("%d of %d long texts do not wait for the files", early, flood)
	}
	close(release)
	for i := range count {
		m := testkit.Receive(t, got)
		if m.Text() != fmt.Sprint(i) || m.Err() == nil {
			t.Fatalf("message %d is %s, %v", i, m.Text(), m.Err())
		}
		if many := strings.Contains(m.Err().Error(), "files of this sender wait"); many != (i >= taken) {
			t.Fatalf("message %d: %v", i, m.Err())
		}
	}
	if m := testkit.Receive(t, got); m.Text() != "end" {
		t.Errorf("got %s", m.Text())
	}
	for range flood - early {
		if m := testkit.Receive(t, got); len(m.Text()) != len(long)-2 {
			t.Errorf("got %s", m.Text())
		}
	}
}

// A folder that was cut goes on file by file, by hand and for a listener.
func TestFolderDownloadResumes(t *testing.T) {
	cacheDir(t)
	server := startFileServer(t, crosscomm.Config{})
	onServer := collect(server.Service, crosscomm.ListenerOptions{})
	source, dir := t.TempDir(), t.TempDir()
	tree := map[string]string{"a.bin": string(noise(1, 12<<20)), "b/b.bin": string(noise(2, 12<<20)), "c": string(noise(3, 12<<20)), "empty": ""}
	testkit.WriteTree(t, source, tree)
	a := login(t, server.addr, "a")
	if err := a.SendMessage(testContext(t), source, crosscomm.TypeFolder, "server"); err != nil {
		t.Fatal(err)
	}
	key := testkit.Receive(t, onServer).OSSKey

	ctx, broken := stopAfter(24 << 20)
	b := newClient(t, server.addr, "b", crosscomm.Config{DialContext: broken.dial})
	if err := b.Login(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := b.DownloadFileManually(ctx, key, dir); !errors.Is(err, context.Canceled) {
		t.Fatalf("it was not cut: %v", err)
	}
	var cable cutter
	c := newClient(t, server.addr, "c", crosscomm.Config{DialContext: cable.dial})
	if err := c.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	path, err := c.DownloadFileManually(testContext(t), key, dir)
	if err != nil {
		t.Fatal(err)
	}
	testkit.SameTree(t, testkit.ReadTree(t, path), tree)
	if n := cable.got.Load(); n > 20<<20 {
		t.Errorf("%d bytes came the second time", n)
	}

	// For a listener: its program is ended, and gets the message once more.
	inbox := t.TempDir()
	ctx, broken = stopAfter(24 << 20)
	d := newClient(t, server.addr, "d", crosscomm.Config{DialContext: broken.dial})
	collect(d, crosscomm.ListenerOptions{DownloadDirectory: inbox})
	if err := d.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	sender := loginRaw(t, server.addr, "sender")
	sender.write(fileFrame("sender", "d", "folder", "x", key))
	testkit.Receive(t, ctx.Done())
	if err := d.Logout(context.Background()); err != nil {
		t.Fatal(err)
	}
	if found, err := filepath.Glob(filepath.Join(inbox, "folder_*")); err != nil || len(found) != 0 {
		t.Fatalf("the half of it has its name: %v, %v", found, err)
	}
	var again cutter
	e := newClient(t, server.addr, "d", crosscomm.Config{DialContext: again.dial})
	got := collect(e, crosscomm.ListenerOptions{DownloadDirectory: inbox})
	if err := e.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	sender.write(fileFrame("sender", "d", "folder", "x", key))
	m := testkit.Receive(t, got)
	if m.Err() != nil {
		t.Fatal(m.Err())
	}
	testkit.SameTree(t, testkit.ReadTree(t, filepath.Join(m.Path(), key)), tree)
	if n := again.got.Load(); n > 20<<20 {
		t.Errorf("%d bytes came the second time", n)
	}
	if entries, err := os.ReadDir(inbox); err != nil || len(entries) != 1 {
		t.Errorf("the inbox has %v, %v", entries, err)
	}
}

// A peer that had nowhere to put its file sends the message without; the server
// says once what is missing.
func TestWarningOfLostFile(t *testing.T) {
	logs, quiet := new(logBuffer), new(logBuffer)
	for _, server := range []*testServer{startServer(t, crosscomm.Config{Logger: logs.logger()}), startFileServer(t, crosscomm.Config{Logger: quiet.logger()})} {
		b := login(t, server.addr, "b")
		got := collect(b, crosscomm.ListenerOptions{})
		sender := loginRaw(t, server.addr, "sender")
		for range 3 {
			sender.write(frameOf("sender", "b", "file", `"x"`))
			testkit.Receive(t, got)
		}
		server.stop()
	}
	if n := strings.Count(logs.String(), "data directory"); n != 1 {
		t.Errorf("%d times in\n%s", n, logs)
	}
	if strings.Contains(quiet.String(), "data directory") {
		t.Errorf("a server that has one says\n%s", quiet)
	}
}

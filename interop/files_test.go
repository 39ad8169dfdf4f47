package interop

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// fileServer is a Go server with an endpoint, and what Python needs to use it.
func fileServer(t *testing.T) (svc *crosscomm.Service, port int, access crosscomm.OSSConfig) {
	t.Helper()
	svc, port, _ = startGoServer(t, crosscomm.Config{DataDir: t.TempDir()}, "127.0.0.1:0")
	access, err := svc.FileAccess(fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	return svc, port, access
}

// files are the arguments of a Python service with these settings, whose
// listener downloads to dir, if that is not "".
func files(access crosscomm.OSSConfig, dir string) map[string]any {
	args := map[string]any{"env": map[string]string{
		"OSS_ENDPOINT": access.Endpoint, "OSS_BUCKET_NAME": access.BucketName,
		"OSS_ACCESS_KEY_ID": access.AccessKeyID, "OSS_ACCESS_KEY_SECRET": access.AccessKeySecret,
		"no_proxy": "*", // oss2 would ask the proxy of the environment for 127.0.0.1
	}}
	if dir != "" {
		args["download_directory"] = dir
	}
	return args
}

func listen(svc *crosscomm.Service, dir string) <-chan *crosscomm.Message {
	ch := make(chan *crosscomm.Message, 1000)
	svc.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		ch <- m
		return nil
	}, crosscomm.ListenerOptions{DownloadDirectory: dir})
	return ch
}

// delivery is what a listener, in either language, was given with a file.
type delivery struct {
	typ, from, key, path string
}

// party is a client or a server that sends files and downloads those of others.
type party struct {
	id      string // in messages
	keyID   string // in keys: the server sends as "server", but has an id
	python  bool
	dir     string
	send    func(path string, typ crosscomm.MsgType, to string)
	receive func() delivery
}

func goParty(t *testing.T, svc *crosscomm.Service) party {
	dir := t.TempDir()
	got := listen(svc, dir)
	id := svc.ClientID()
	if svc.Config().Role == crosscomm.Server {
		id = crosscomm.ServerID
	}
	return party{
		id: id, keyID: svc.ClientID(), dir: dir,
		send: func(path string, typ crosscomm.MsgType, to string) {
			t.Helper()
			if err := svc.SendMessage(testContext(t), path, typ, to); err != nil {
				t.Fatal(err)
			}
		},
		receive: func() delivery {
			t.Helper()
			m := testkit.Receive(t, got)
			if m.Err() != nil {
				t.Errorf("%s got %v", id, m.Err())
			}
			return delivery{string(m.MsgType), m.FromClientID, m.OSSKey, m.Path()}
		},
	}
}

func pyParty(t *testing.T, id string, port int, access crosscomm.OSSConfig) party {
	p, dir := startPython(t), t.TempDir()
	p.client(id, port, files(access, dir))
	return party{
		id: id, keyID: id, python: true, dir: dir,
		send: func(path string, typ crosscomm.MsgType, to string) {
			t.Helper()
			p.send(id, string(typ), pyString(path), to)
		},
		receive: func() delivery {
			t.Helper()
			e := p.message(id)
			return delivery{e.Type, e.Sender, value(e.OSSKey), text(t, e)}
		},
	}
}

// pyString writes a string as Python does: its literals have those of JSON.
func pyString(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings can always be written
	}
	return string(b)
}

// text is the content that a Python listener got, a string.
func text(t *testing.T, e event) (s string) {
	t.Helper()
	if err := json.Unmarshal([]byte(e.Content), &s); err != nil {
		t.Fatalf("Python got the content %s, which is no string", e.Content)
	}
	return s
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// noise returns n bytes that are the same for the same seed.
func noise(seed byte, n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return string(b)
}

// The files that go every way, and the suffixes of their keys.
var (
	sampleFiles = map[string]string{
		"photo.JPG":                 noise(1, 300_000),
		"nothing.txt":               "",
		"no extension":              noise(2, 10),
		"archive.tar.gz":            noise(3, 70_000),
		".hidden":                   "h",
		"文件 名 +1 100% %41.数 据+x%2F": noise(4, 1000),
	}
	suffixes = map[string]string{
		"photo.JPG": ".JPG", "nothing.txt": ".txt", "archive.tar.gz": ".gz", "文件 名 +1 100% %41.数 据+x%2F": ".数 据+x%2F",
	}
	sampleFolder = map[string]string{
		"deep/er/文件 一.txt": "文", "nothing": "", "none/": "", "deep/none 二/": "", "x y.bin": noise(5, 100_000),
		"a+b/c%20d/100%.txt": "plus", "a b/c d/100%.txt": "blank", ".hidden": "h", "deep/nothing": "",
	}
)

// arriving is what of a tree comes to the other side: Python neither sends nor
// makes empty directories.
func arriving(tree map[string]string, python bool) map[string]string {
	files := map[string]string{}
	for name, text := range tree {
		if !python || !strings.HasSuffix(name, "/") {
			files[name] = text
		}
	}
	return files
}

func checkFile(t *testing.T, d delivery, typ crosscomm.MsgType, from, to party, suffix, want string) {
	t.Helper()
	key := regexp.MustCompile(`^cross_comm/` + regexp.QuoteMeta(from.keyID) + `/\d{13}_[0-9a-f]{8}` + regexp.QuoteMeta(suffix) + `$`)
	if d.typ != string(typ) || d.from != from.id || !key.MatchString(d.key) || d.path != filepath.Join(to.dir, filepath.FromSlash(d.key)) {
		t.Errorf("%s got %+v; want a key that ends in %q", to.id, d, suffix)
		return
	}
	if got, err := os.ReadFile(d.path); err != nil || string(got) != want {
		t.Errorf("%s got %d bytes, %v; want %d", to.id, len(got), err, len(want))
	}
}

func checkFolder(t *testing.T, d delivery, from, to party, tree map[string]string) {
	t.Helper()
	key := regexp.MustCompile(`^cross_comm/` + regexp.QuoteMeta(from.keyID) + `/\d{13}_[0-9a-f]{8}_folder/$`)
	name, err := filepath.Rel(to.dir, d.path)
	if d.typ != "folder" || d.from != from.id || !key.MatchString(d.key) || err != nil || !regexp.MustCompile(`^folder_\d{10}(_\d+)?$`).MatchString(name) {
		t.Errorf("%s got %+v", to.id, d)
		return
	}
	want := arriving(tree, from.python || to.python)
	dir := filepath.Join(d.path, filepath.FromSlash(d.key))
	if info, err := os.Stat(d.path); err != nil || !info.IsDir() {
		t.Errorf("%s got no folder: %v", to.id, err)
	}
	if _, err := os.Stat(dir); err != nil && len(want) == 0 {
		return // no key, no directory for it
	}
	testkit.SameTree(t, testkit.ReadTree(t, dir), want)
}

// Files, images and folders through our server, which carries them itself: from
// either language, and from the server, to both and to the server.
func TestFilesEveryWay(t *testing.T) {
	server, port, access := fileServer(t)
	all := []party{
		pyParty(t, "py_a", port, access), pyParty(t, "py 二", port, access),
		goParty(t, goClient(t, "go", port, crosscomm.Config{})), goParty(t, goClient(t, "go_with_settings", port, crosscomm.Config{OSS: access})),
		goParty(t, server),
	}
	source := testkit.WriteTree(t, t.TempDir(), sampleFiles)
	folder := testkit.WriteTree(t, filepath.Join(source, "a folder"), sampleFolder)
	empty := testkit.WriteTree(t, filepath.Join(source, "empty"), map[string]string{"./": ""})
	for i, from := range all {
		t.Run("from "+from.id, func(t *testing.T) {
			receive := func(check func(d delivery, to party)) {
				for j, to := range all {
					if j != i {
						check(to.receive(), to)
					}
				}
			}
			for name, data := range sampleFiles {
				typ := crosscomm.TypeFile
				if name == "photo.JPG" {
					typ = crosscomm.TypeImage
				}
				from.send(filepath.Join(source, name), typ, "all")
				receive(func(d delivery, to party) { checkFile(t, d, typ, from, to, suffixes[name], data) })
			}
			from.send(folder, crosscomm.TypeFolder, "all")
			receive(func(d delivery, to party) { checkFolder(t, d, from, to, sampleFolder) })
			from.send(empty, crosscomm.TypeFolder, "all")
			receive(func(d delivery, to party) { checkFolder(t, d, from, to, nil) })
		})
	}
}

func hashOf(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// 200 MB, which Python sends as one request and we as many.
func TestLargeFiles(t *testing.T) {
	_, port, access := fileServer(t)
	py, gopher := pyParty(t, "py", port, access), goParty(t, goClient(t, "go", port, crosscomm.Config{}))
	path := filepath.Join(t.TempDir(), "large.bin")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	const size = 200_000_000
	for i, offset := range []int64{0, 16<<20 - 1000, size / 2, size - 100_000} { // else it is a hole
		if _, err := file.WriteAt([]byte(noise(byte(10+i), 100_000)), offset); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	want := hashOf(t, path)
	for _, way := range [][2]party{{py, gopher}, {gopher, py}} {
		way[0].send(path, crosscomm.TypeFile, way[1].id)
		d := way[1].receive()
		if d.from != way[0].id || d.path != filepath.Join(way[1].dir, d.key) {
			t.Fatalf("%s got %+v", way[1].id, d)
		}
		if got := hashOf(t, d.path); got != want {
			t.Errorf("from %s came other bytes", way[0].id)
		}
	}
}

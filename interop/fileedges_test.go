package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/testkit/ossbucket"
)

// Listeners without a directory are told of the files, and get them by hand.
func TestManualDownloads(t *testing.T) {
	_, port, access := fileServer(t)
	p := startPython(t)
	p.client("py", port, files(access, ""))
	gopher := goClient(t, "go", port, crosscomm.Config{})
	onGo := listen(gopher, "")
	source := testkit.WriteTree(t, t.TempDir(), map[string]string{"a file.txt": "by hand"})
	file, folder := filepath.Join(source, "a file.txt"), testkit.WriteTree(t, filepath.Join(source, "folder"), sampleFolder)
	empty := testkit.WriteTree(t, filepath.Join(source, "empty"), map[string]string{"./": ""})
	check := func(t *testing.T, path, dir, key string, want map[string]string) {
		t.Helper()
		if path != filepath.Join(dir, filepath.FromSlash(key)) {
			t.Errorf("it is at %s, want it in %s, as %s", path, dir, key)
		}
		if want == nil {
			if data, err := os.ReadFile(path); err != nil || string(data) != "by hand" {
				t.Errorf("got %q, %v", data, err)
			}
			return
		}
		testkit.SameTree(t, testkit.ReadTree(t, path), want)
	}
	for _, send := range []struct {
		path string
		typ  crosscomm.MsgType
		want map[string]string
	}{{file, crosscomm.TypeFile, nil}, {file, crosscomm.TypeImage, nil}, {folder, crosscomm.TypeFolder, arriving(sampleFolder, true)}, {empty, crosscomm.TypeFolder, map[string]string{}}} {
		t.Run(filepath.Base(send.path)+" as "+string(send.typ), func(t *testing.T) {
			p.send("py", string(send.typ), pyString(send.path), "go")
			m := testkit.Receive(t, onGo)
			if m.Path() != "" || m.Err() != nil || m.Text() != send.path || m.MsgType != send.typ {
				t.Errorf("Go got %s %q, path %q, %v", m.MsgType, m.Text(), m.Path(), m.Err())
			}
			dir := filepath.Join(t.TempDir(), "new", "directory")
			path, err := gopher.DownloadFileManually(testContext(t), m.OSSKey, dir)
			if err != nil {
				t.Fatal(err)
			}
			check(t, path, dir, m.OSSKey, send.want)

			if err := gopher.SendMessage(testContext(t), send.path, send.typ, "py"); err != nil {
				t.Fatal(err)
			}
			e := p.message("py")
			if e.Type != string(send.typ) || text(t, e) != send.path {
				t.Errorf("Python got %+v", e)
			}
			key, dir := value(e.OSSKey), filepath.Join(t.TempDir(), "new", "directory")
			if got := string(p.call("download", map[string]any{"name": "py", "key": key, "directory": dir})); got != "true" {
				t.Fatalf("Python could not download %s: %s", key, got)
			}
			path = filepath.Join(dir, filepath.FromSlash(key))
			if len(send.want) == 0 && send.want != nil {
				testkit.SameTree(t, testkit.ReadTree(t, dir), nil) // Python makes no directory for no key
				return
			}
			check(t, path, dir, key, send.want)
		})
	}
}

// A file that is gone when it is to be downloaded, or never came into the
// store: the listeners of both languages get the message all the same, as it
// was sent, and then the next one.
func TestLostFiles(t *testing.T) {
	_, port, access := fileServer(t)
	p, q := startPython(t), startPython(t)
	p.client("py", port, files(access, ""))
	q.client("receiver", port, files(access, t.TempDir()))
	gopher := goClient(t, "go", port, crosscomm.Config{})
	dir := t.TempDir()
	onGo := listen(gopher, dir)
	path := filepath.Join(testkit.WriteTree(t, t.TempDir(), map[string]string{"f.txt": "lost"}), "f.txt")
	for _, typ := range []string{"file", "image"} {
		if got := string(p.call("send_and_lose", map[string]any{"name": "py", "type": typ, "path": path, "to": "all"})); got != "true" {
			t.Fatalf("Python could not send it: %s", got)
		}
		m := testkit.Receive(t, onGo)
		var te *crosscomm.TransferError
		if !errors.As(m.Err(), &te) || te.Op != crosscomm.OpDownload || te.Key != m.OSSKey || !errors.Is(m.Err(), fs.ErrNotExist) {
			t.Errorf("Go got the error %v", m.Err())
		}
		if m.Path() != "" || m.Text() != path || m.OSSKey == "" || string(m.MsgType) != typ {
			t.Errorf("Go got %s %q, path %q, key %q", m.MsgType, m.Text(), m.Path(), m.OSSKey)
		}
		if _, err := gopher.DownloadFileManually(testContext(t), m.OSSKey, dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("by hand: %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, m.OSSKey)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("there is something: %v", err)
		}
		if e := q.message("receiver"); text(t, e) != path || value(e.OSSKey) != m.OSSKey {
			t.Errorf("Python got %+v", e)
		}
	}
	p.send("py", "file", pyString(path), "all")
	if m := testkit.Receive(t, onGo); m.Err() != nil || m.Path() == "" {
		t.Errorf("the next one: %q, %v", m.Path(), m.Err())
	}
	if e := q.message("receiver"); text(t, e) == path {
		t.Errorf("the next one: %+v", e)
	}

	// The original sends the message also if it could not store the file.
	wrong := access
	wrong.AccessKeySecret += "x"
	p.client("py_wrong", port, files(wrong, ""))
	p.send("py_wrong", "file", pyString(path), "go")
	if m := testkit.Receive(t, onGo); m.Err() != nil || m.Path() != "" || m.OSSKey != "" || m.Text() != path {
		t.Errorf("Go got %q, path %q, key %q, %v", m.Text(), m.Path(), m.OSSKey, m.Err())
	}
}

// All are on the real Python server, which has no endpoint; OSS_* names that of
// another, Go server.
func TestEndpointBesidePythonServer(t *testing.T) {
	_, _, access := fileServer(t)
	p := startPython(t)
	port := p.server("server", 0, nil)
	from, to := pyParty(t, "py", port, access), goParty(t, goClient(t, "go", port, crosscomm.Config{OSS: access}))
	source := testkit.WriteTree(t, t.TempDir(), map[string]string{"照片.png": noise(20, 500_000)})
	folder := testkit.WriteTree(t, filepath.Join(source, "folder"), sampleFolder)
	for range 2 { // there, and back
		from.send(filepath.Join(source, "照片.png"), crosscomm.TypeFile, to.id)
		checkFile(t, to.receive(), crosscomm.TypeFile, from, to, ".png", noise(20, 500_000))
		from.send(filepath.Join(source, "照片.png"), crosscomm.TypeImage, "all")
		checkFile(t, to.receive(), crosscomm.TypeImage, from, to, ".png", noise(20, 500_000))
		from.send(folder, crosscomm.TypeFolder, to.id)
		checkFolder(t, to.receive(), from, to, sampleFolder)
		from, to = to, from
	}
	// Without settings there is no way on such a server, and the error says so.
	bare := goClient(t, "bare", port, crosscomm.Config{})
	if err := bare.SendMessage(testContext(t), folder, crosscomm.TypeFolder, "py"); !errors.Is(err, crosscomm.ErrNoObjectStore) {
		t.Errorf("without settings: %v", err)
	}
}

// rawClient speaks the wire by hand.
type rawClient struct {
	t    *testing.T
	id   string
	conn *websocket.Conn
}

func newRawClient(t *testing.T, id string, port int) *rawClient {
	t.Helper()
	conn, resp, err := websocket.DefaultDialer.Dial(fmt.Sprintf("ws://127.0.0.1:%d/", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	t.Cleanup(func() { conn.Close() })
	c := &rawClient{t: t, id: id, conn: conn}
	c.send("login", "server", map[string]any{}, nil)
	if _, answer, err := conn.ReadMessage(); err != nil || !strings.Contains(string(answer), `"login_response"`) {
		t.Fatalf("the answer to the login is %s, %v", answer, err)
	}
	return c
}

// send writes a frame as Java does.
func (c *rawClient) send(typ, to string, content any, key *string) {
	c.t.Helper()
	now := time.Now().UnixMilli()
	data, err := json.Marshal(map[string]any{
		"msg_id": fmt.Sprintf("%s_%d_7a784786", c.id, now), "from_client_id": c.id, "to_client_id": to, "msg_type": typ,
		"content": content, "timestamp": float64(now) / 1000, "oss_key": key,
	})
	if err == nil {
		err = c.conn.WriteMessage(websocket.TextMessage, data)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// Java puts its files at the root, and folders under their plain names, and
// names them so in its messages, as the recordings show.
func TestFilesOfJava(t *testing.T) {
	_, port, access := fileServer(t)
	gopher := goParty(t, goClient(t, "go", port, crosscomm.Config{}))
	python := pyParty(t, "py", port, access)
	java := newRawClient(t, "java_a3", port)
	bucket := ossbucket.Open(t, access)
	put := func(key, text string) {
		t.Helper()
		if err := bucket.PutObject(key, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	image := noise(30, 200_000)
	for typ, name := range map[string]string{"image": "图 片.PNG", "file": "archive 1+1 100%.tar.gz"} {
		key := fmt.Sprintf("java_a3_%d_%s", time.Now().UnixMilli(), name)
		put(key, image)
		java.send(typ, "all", key, &key)
		for _, to := range []party{gopher, python} {
			d := to.receive()
			if d.typ != typ || d.from != "java_a3" || d.key != key || d.path != filepath.Join(to.dir, key) {
				t.Errorf("%s got %+v, want %q", to.id, d, key)
			}
			if data, err := os.ReadFile(d.path); err != nil || string(data) != image {
				t.Errorf("%s got %d bytes, %v", to.id, len(data), err)
			}
		}
	}
	tree := arriving(sampleFolder, true)
	for name, text := range tree {
		put("相册 1/"+name, text)
	}
	put("相册 1.txt", "a neighbour")
	put("相册 12/x", "another")
	for _, key := range []string{"相册 1", "相册 1/"} {
		java.send("folder", "all", "相册 1", &key)
		for _, to := range []party{gopher, python} {
			d := to.receive()
			if d.typ != "folder" || d.key != key || filepath.Dir(d.path) != to.dir {
				t.Errorf("%s got %+v", to.id, d)
			}
			testkit.SameTree(t, testkit.ReadTree(t, filepath.Join(d.path, "相册 1")), tree)
			if entries, err := os.ReadDir(d.path); err != nil || len(entries) != 1 {
				t.Errorf("%s got %v, %v", to.id, entries, err)
			}
		}
	}
}

// All send at the same time: what each sends arrives everywhere, in its order.
func TestFilesAtOnce(t *testing.T) {
	_, port, access := fileServer(t)
	services := []*crosscomm.Service{goClient(t, "go_0", port, crosscomm.Config{}), goClient(t, "go_1", port, crosscomm.Config{OSS: access})}
	parties := []party{goParty(t, services[0]), goParty(t, services[1]), pyParty(t, "py", port, access)}
	const count = 10
	dir := t.TempDir()
	path := func(from string, i int) string { return filepath.Join(dir, fmt.Sprint(from, ".", i)) }
	for _, from := range parties {
		for i := range count {
			testkit.WriteTree(t, dir, map[string]string{filepath.Base(path(from.id, i)): fmt.Sprint(from.id, i)})
		}
	}
	sent := make(chan error, len(services))
	for _, svc := range services {
		go func() {
			var errs []error
			for i := range count {
				errs = append(errs, svc.SendMessage(t.Context(), path(svc.ClientID(), i), crosscomm.TypeFile, crosscomm.All))
			}
			sent <- errors.Join(errs...)
		}()
	}
	for i := range count {
		parties[2].send(path("py", i), crosscomm.TypeFile, "all")
	}
	for range services {
		if err := testkit.Receive(t, sent); err != nil {
			t.Fatal(err)
		}
	}
	for _, to := range parties {
		next := map[string]int{}
		for range (len(parties) - 1) * count {
			d := to.receive()
			want := fmt.Sprint(d.from, next[d.from])
			if got, err := os.ReadFile(d.path); err != nil || string(got) != want {
				t.Errorf("%s got %q, %v; want %q", to.id, got, err, want)
			}
			next[d.from]++
		}
		if next[to.id] != 0 || len(next) != len(parties)-1 {
			t.Errorf("%s got %v", to.id, next)
		}
	}
}

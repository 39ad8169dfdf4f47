package crosscomm_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/testkit/ossbucket"
)

// One port is the WebSocket, the endpoint, and a hint for browsers.
func TestOnePort(t *testing.T) {
	server := startFileServer(t, crosscomm.Config{})
	for _, c := range []struct {
		path   string
		status int
		text   string
	}{
		{"/", http.StatusUpgradeRequired, "crosscomm listen"},
		{"/any/thing?x=1", http.StatusUpgradeRequired, "crosscomm listen"},
		{"/crosscomm/key", http.StatusForbidden, "<Code>AccessDenied</Code>"},
		{"/crosscomm", http.StatusForbidden, "<Code>AccessDenied</Code>"},
		{"/crosscommon", http.StatusUpgradeRequired, "crosscomm listen"},
		{"/?Signature=x&Expires=1&OSSAccessKeyId=y", http.StatusForbidden, "<Code>"},
		{"/_crosscomm/", http.StatusNotFound, ""},
		{"/_crosscomm/x?Signature=x", http.StatusNotFound, ""},
	} {
		resp, err := http.Get("http://" + server.addr + c.path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || !strings.Contains(string(text), c.text) {
			t.Errorf("%s: %d %s, %v", c.path, resp.StatusCode, text, err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	// Any path is the WebSocket's, if that is what is wanted.
	for _, path := range []string{"/", "/crosscomm/x", "/_crosscomm/x"} {
		conn, _, err := websocket.DefaultDialer.Dial("ws://"+server.addr+path, nil)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		conn.Close()
	}
	bucket := ossbucket.Open(t, accessOf(t, server))
	if err := bucket.PutObject("any/key", strings.NewReader("x")); err != nil {
		t.Error(err)
	}
	// Without a data directory there is no endpoint.
	plain := startServer(t, crosscomm.Config{})
	if _, err := plain.FileAccess(plain.addr); !errors.Is(err, crosscomm.ErrNoObjectStore) {
		t.Errorf("got %v", err)
	}
	resp, err := http.Get("http://" + plain.addr + "/crosscomm/key")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("without an endpoint: %d", resp.StatusCode)
	}
}

// clientAccess logs a bare client of ours in, and returns what it is given.
func clientAccess(t *testing.T, server *testServer, id string) crosscomm.OSSConfig {
	t.Helper()
	return clientAccessWith(t, server, id, nil)
}

func clientAccessWith(t *testing.T, server *testServer, id string, header http.Header) crosscomm.OSSConfig {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{"crosscomm.v3"}}
	conn, _, err := dialer.DialContext(testContext(t), server.url(), header)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := &rawPeer{Conn: conn, t: t, id: id}
	p.write(frameOf(id, "server", "login", "{}"))
	var frame struct {
		Type    string `json:"msg_type"`
		Content struct {
			Bucket string `json:"bucket"`
			ID     string `json:"access_key_id"`
			Secret string `json:"access_key_secret"`
		}
	}
	if err := conn.ReadJSON(&frame); err != nil || frame.Type != "object_store" {
		t.Fatalf("got %+v, %v", frame, err)
	}
	if got := p.read(); !strings.Contains(got, `"login_response"`) {
		t.Fatalf("got %s", got)
	}
	return crosscomm.OSSConfig{Endpoint: "http://" + server.addr, BucketName: frame.Content.Bucket, AccessKeyID: frame.Content.ID, AccessKeySecret: frame.Content.Secret}
}

// A client's key reads everything, writes what is its own, and ends when it is
// revoked; also over a restart of the server.
func TestClientKeys(t *testing.T) {
	dataDir := t.TempDir()
	server := startServer(t, crosscomm.Config{DataDir: dataDir})
	all := accessOf(t, server)
	robot, other := clientAccess(t, server, "robot/中 1"), clientAccess(t, server, "robot")
	if robot.AccessKeyID == other.AccessKeyID || robot.AccessKeySecret == other.AccessKeySecret || robot.AccessKeySecret == all.AccessKeySecret {
		t.Fatal("the keys are the same")
	}
	if again := clientAccess(t, server, "robot"); again != other {
		t.Error("another login gives another key, and would end what is under way")
	}
	bucket, others, everything := ossbucket.Open(t, robot), ossbucket.Open(t, other), ossbucket.Open(t, all)
	put := func(b *oss.Bucket, key string) error { return b.PutObject(key, strings.NewReader("x")) }
	denied := func(err error) bool {
		var se oss.ServiceError
		return errors.As(err, &se) && se.StatusCode == http.StatusForbidden
	}
	if err := put(others, "cross_comm/robot/x"); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"cross_comm/robot2/x", "cross_comm/robot", "x", "cross_comm/robot%2F%E4%B8%AD%201/x", "cross_comm/robot /x"} {
		if err := put(others, key); !denied(err) {
			t.Errorf("robot may write %s: %v", key, err)
		}
	}
	if err := put(everything, "shared"); err != nil {
		t.Fatal(err)
	}
	if body, err := others.GetObject("shared"); err != nil {
		t.Error(err)
	} else {
		body.Close()
	}
	if _, err := others.CopyObject("shared", "stolen"); !denied(err) {
		t.Errorf("copy: %v", err)
	}
	if _, err := others.DeleteObjects([]string{"cross_comm/robot/x", "shared"}); !denied(err) {
		t.Errorf("delete: %v", err)
	}
	if err := others.DeleteObject("shared"); !denied(err) {
		t.Errorf("delete: %v", err)
	}
	if _, err := others.InitiateMultipartUpload("shared"); !denied(err) {
		t.Errorf("multipart: %v", err)
	}
	if l, err := others.ListObjects(); err != nil || len(l.Objects) != 2 {
		t.Errorf("list: %v, %v", l.Objects, err)
	}
	// The id with a slash is not of another's prefix.
	if err := put(bucket, "cross_comm/robot/中 1/x"); !denied(err) {
		t.Errorf("got %v", err)
	}

	if err := server.RevokeFileAccess("robot"); err != nil {
		t.Fatal(err)
	}
	if err := put(others, "cross_comm/robot/x"); !denied(err) {
		t.Errorf("after it was revoked: %v", err)
	}
	if err := put(everything, "cross_comm/robot/x"); err != nil {
		t.Error(err)
	}
	renewed := clientAccess(t, server, "robot")
	addr := server.addr
	server.stop()
	server = startServerAt(t, crosscomm.Config{DataDir: dataDir}, addr)
	if err := put(ossbucket.Open(t, other), "cross_comm/robot/x"); !denied(err) {
		t.Errorf("after it was revoked, and a restart: %v", err)
	}
	if err := put(ossbucket.Open(t, renewed), "cross_comm/robot/x"); err != nil {
		t.Errorf("the new one: %v", err)
	}
	if again := accessOf(t, server); again != all {
		t.Error("a restart makes other keys")
	}
	info, err := os.Stat(filepath.Join(dataDir, "access-keys.json"))
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the file of the keys: %v, %v", info, err)
	}
}

// With its token a client loses its key to the files, also if it is not there.
func TestKeyOfALostToken(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	writeTokens(t, tokens, "robot token-of-robot-0123\ndesk token-of-desk-01234\n")
	server := startServer(t, crosscomm.Config{DataDir: t.TempDir(), TokenFile: tokens})
	robot, desk := ossbucket.Open(t, clientAccessWith(t, server, "robot", bearer("token-of-robot-0123"))), ossbucket.Open(t, clientAccessWith(t, server, "desk", bearer("token-of-desk-01234")))
	for id, b := range map[string]*oss.Bucket{"robot": robot, "desk": desk} {
		if err := b.PutObject("cross_comm/"+id+"/x", strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	writeTokens(t, tokens, "desk token-of-desk-01234\n")
	testkit.Eventually(t, "the key is void", func() bool {
		_, err := robot.ListObjects()
		var se oss.ServiceError
		if err != nil && (!errors.As(err, &se) || se.StatusCode != http.StatusForbidden) {
			t.Fatal(err)
		}
		return err != nil
	})
	if _, err := desk.ListObjects(); err != nil {
		t.Errorf("the other one: %v", err)
	}
}

// Ids of which no path can be made.
func TestFilesOfOddIDs(t *testing.T) {
	server := startFileServer(t, crosscomm.Config{})
	got := collect(server.Service, crosscomm.ListenerOptions{DownloadDirectory: t.TempDir()})
	dir := t.TempDir()
	testkit.WriteTree(t, dir, map[string]string{"f.x": "1", "d/f": "2"})
	for _, id := range []string{"..", ".", "a/../b", `a\b`, "客户 端", "/", "a b+c%20"} {
		a := login(t, server.addr, id)
		if err := a.SendMessage(testContext(t), filepath.Join(dir, "f.x"), crosscomm.TypeFile, "server"); err != nil {
			t.Errorf("%q: %v", id, err)
			continue
		}
		if m := testkit.Receive(t, got); m.Err() != nil || m.Path() == "" {
			t.Errorf("%q: key %q: %v", id, m.OSSKey, m.Err())
		}
		if err := a.SendMessage(testContext(t), filepath.Join(dir, "d"), crosscomm.TypeFolder, "server"); err != nil {
			t.Errorf("%q: %v", id, err)
			continue
		}
		if m := testkit.Receive(t, got); m.Err() != nil || m.Path() == "" {
			t.Errorf("%q: key %q: %v", id, m.OSSKey, m.Err())
		}
	}
}

// Peers that have not agreed on more see nothing but the original's wire, and
// no listener, log or list sees a secret.
func TestSecretsStayPrivate(t *testing.T) {
	logs := new(logBuffer)
	server := startFileServer(t, crosscomm.Config{Logger: logs.logger()})
	plain := dialRaw(t, server.addr)
	plain.write(frameOf("plain", "server", "login", "{}"))
	if got := plain.read(); !strings.Contains(got, `"login_response"`) {
		t.Fatalf("a plain peer got %s", got)
	}
	// A client cannot play the server.
	plain.write(frameOf("plain", "b", "object_store", `{"bucket": "evil"}`))
	plain.write(strings.Replace(frameOf("plain", "b", "object_store", `{}`), `"from_client_id": "plain"`, `"from_client_id": "server"`, 1))
	b := newClient(t, server.addr, "b", crosscomm.Config{Logger: logs.logger()})
	got := collect(b, crosscomm.ListenerOptions{})
	responses := collect(b, crosscomm.ListenerOptions{Type: "object_store"})
	if err := b.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	plain.write(frameOf("plain", "b", "text", `"end"`))
	if m := testkit.Receive(t, got); m.Text() != "end" || len(responses) != 0 {
		t.Errorf("got %s %s", m.MsgType, m.Text())
	}
	source := t.TempDir()
	testkit.WriteTree(t, source, map[string]string{"f": "x"})
	if err := b.SendMessage(testContext(t), filepath.Join(source, "f"), crosscomm.TypeFile, "plain"); err != nil {
		t.Fatal(err)
	}
	file := plain.read()
	if m, err := crosscomm.ParseMessage([]byte(file)); err != nil || m.MsgType != crosscomm.TypeFile || m.OSSKey == "" {
		t.Errorf("a plain peer got %s, %v", file, err)
	}
	all, own := accessOf(t, server), clientAccess(t, server, "b")
	server.stop()
	for _, secret := range []string{all.AccessKeySecret, own.AccessKeySecret} {
		if secret == "" || strings.Contains(logs.String(), secret) {
			t.Errorf("the log has the secret %q", secret)
		}
	}
	if n := strings.Count(logs.String(), "a frame was refused"); n != 2 {
		t.Errorf("%d frames were refused", n)
	}
}

// Two servers cannot have the same directory; the second says so.
func TestDataDirInUse(t *testing.T) {
	dataDir := t.TempDir()
	first := startServer(t, crosscomm.Config{DataDir: dataDir})
	testkit.Eventually(t, "it serves", first.IsConnected)
	second, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, IP: "127.0.0.1", Port: crosscomm.AnyPort, DataDir: dataDir})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.StartServer(testContext(t)); err == nil || !strings.Contains(err.Error(), dataDir) {
		t.Errorf("got %v", err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/crosscomm/x", nil)
	second.ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// Stop ends what the server itself is storing, and its store outlives that.
func TestStopDuringOwnTransfer(t *testing.T) {
	cacheDir(t)
	moving := make(chan struct{}, 1)
	server := startFileServer(t, crosscomm.Config{OnProgress: func(p crosscomm.Progress) {
		if p.Bytes > 0 && !p.Done {
			select {
			case moving <- struct{}{}:
			default:
			}
		}
	}})
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8<<30); err != nil { // sparse
		t.Fatal(err)
	}
	testkit.Eventually(t, "it serves", server.IsConnected)
	sent := make(chan error, 1)
	go func() { sent <- server.SendMessage(context.Background(), path, crosscomm.TypeFile, crosscomm.All) }()
	testkit.Receive(t, moving)
	server.stop()
	var te *crosscomm.TransferError
	if err := testkit.Receive(t, sent); !errors.Is(err, crosscomm.ErrNotConnected) || !errors.As(err, &te) {
		t.Errorf("got %v", err)
	}
}

// Stop ends transfers of OSS clients, also in an http.Server of somebody
// else's, and leaves nothing behind.
func TestStopDuringTransfer(t *testing.T) {
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, DataDir: t.TempDir(), NoStateFile: true})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", svc)
	mux.Handle("/crosscomm/", svc)
	web := httptest.NewServer(mux)
	defer web.Close()
	addr := strings.TrimPrefix(web.URL, "http://")
	access, err := svc.FileAccess(addr)
	if err != nil {
		t.Fatal(err)
	}
	a, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, URL: "ws://" + addr + "/ws", ClientID: "a", NoReconnect: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	source := t.TempDir()
	testkit.WriteTree(t, source, map[string]string{"f": "x"})
	got := collect(svc, crosscomm.ListenerOptions{DownloadDirectory: t.TempDir()})
	if err := a.SendMessage(testContext(t), filepath.Join(source, "f"), crosscomm.TypeFile, "server"); err != nil {
		t.Fatal(err)
	}
	if m := testkit.Receive(t, got); m.Err() != nil {
		t.Fatal(m.Err())
	}
	// A put whose body never ends, and a get that is never read.
	bucket := ossbucket.Open(t, access)
	if err := bucket.PutObject("big", strings.NewReader(strings.Repeat("x", 32<<20))); err != nil {
		t.Fatal(err)
	}
	reader, writer := io.Pipe()
	put := make(chan error, 1)
	go func() { put <- bucket.PutObject("endless", reader) }()
	if _, err := writer.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	url, err := bucket.SignURL("big", oss.HTTPGet, 60)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET "+strings.TrimPrefix(url, web.URL)+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 12)
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 200" {
		t.Fatalf("got %q, %v", head, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := svc.Stop(ctx); err != nil {
		t.Error(err)
	}
	writer.Close()
	if err := testkit.Receive(t, put); err == nil {
		t.Error("the put has succeeded")
	}
	if err := a.Logout(context.Background()); err != nil {
		t.Error(err)
	}
}

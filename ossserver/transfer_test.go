package ossserver_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"go.uber.org/goleak"

	"github.com/crosscomm/crosscomm-go/ossserver"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(fullDisk); dir != "" {
		os.Exit(onFullDisk(dir))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		os.Exit(code)
	}))
}

// endpoint is a server of which the test knows more than its URL.
type endpoint struct {
	*ossserver.Server
	url, addr, dir string

	mu     sync.Mutex
	states map[connState]chan struct{} // closed when the connection is in the state
}

type connState struct {
	addr  string // the client's
	state http.ConnState
}

func (e *endpoint) reached(addr string, state http.ConnState) chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := connState{addr, state}
	if e.states[s] == nil {
		e.states[s] = make(chan struct{})
	}
	return e.states[s]
}

// await waits until the server's end of the connection is in the state. A
// request's handler has ended when it is http.StateClosed.
func (e *endpoint) await(conn net.Conn, state http.ConnState) {
	<-e.reached(conn.LocalAddr().String(), state)
}

func serve(t *testing.T, cfg ossserver.Config, stall time.Duration) *endpoint {
	t.Helper()
	e := &endpoint{dir: t.TempDir(), states: map[connState]chan struct{}{}}
	cfg.Dir, cfg.Bucket = e.dir, "lan"
	if cfg.Secret == nil {
		cfg.Secret = secret
	}
	var err error
	if e.Server, err = ossserver.New(cfg); err != nil {
		t.Fatal(err)
	}
	if stall > 0 {
		e.SetStall(stall)
	}
	web := httptest.NewUnstartedServer(e)
	web.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if ch := e.reached(c.RemoteAddr().String(), state); state == http.StateActive || state == http.StateClosed {
			select {
			case <-ch: // a connection can be active again
			default:
				close(ch)
			}
		}
	}
	web.Start()
	t.Cleanup(func() {
		web.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	e.url, e.addr = web.URL, web.Listener.Addr().String()
	return e
}

func (e *endpoint) blobs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(e.dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// send begins a signed request on a connection of its own.
func (e *endpoint) send(t *testing.T, method, key, headers, body string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	date := time.Now().UTC().Format(http.TimeFormat)
	resource := "/lan/" + key
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nDate: %s\r\nAuthorization: %s\r\n%s\r\n%s", method, resource, e.addr, date, signV1(method, "", date, resource), headers, body)
	return conn
}

// A put that stalls is given up: its connection is closed, and neither blob nor
// quota is left behind.
func TestStalledPut(t *testing.T) {
	e := serve(t, ossserver.Config{Quota: 200_000}, 50*time.Millisecond)
	for name, tc := range map[string]struct{ headers, body, code string }{
		"in the middle":  {"Content-Length: 150000\r\n", strings.Repeat("x", 100_000), "RequestTimeout"},
		"at once":        {"Content-Length: 150000\r\n", "", "RequestTimeout"},
		"chunked":        {"Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n", "RequestTimeout"},
		"of one refused": {"Content-Length: 10\r\nContent-Md5: wrong\r\n", "", "SignatureDoesNotMatch"},
		"waits to send":  {"Content-Length: 10\r\nExpect: 100-continue\r\nContent-Md5: wrong\r\n", "", "SignatureDoesNotMatch"},
	} {
		conn := e.send(t, "PUT", "k", tc.headers, tc.body)
		answer, err := io.ReadAll(conn) // until it is closed
		if err != nil || !strings.Contains(string(answer), "<Code>"+tc.code+"</Code>") || !strings.Contains(string(answer), "Connection: close") || strings.Contains(string(answer), "100 Continue") {
			t.Errorf("%s: %v\n%s", name, err, answer)
		}
		e.await(conn, http.StateClosed)
	}
	if n := e.blobs(t); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
	if err := bucket(t, e.url).PutObject("k", strings.NewReader(strings.Repeat("x", 200_000))); err != nil {
		t.Errorf("the whole quota: %v", err)
	}
}

// A download that is not read is given up, and what it read can be removed.
func TestStalledGet(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	b := bucket(t, e.url)
	if err := b.PutObject("k", &pattern{64 << 20}); err != nil { // more than sockets hold
		t.Fatal(err)
	}
	e.SetStall(50 * time.Millisecond)
	conn := e.send(t, "GET", "k", "", "")
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	e.await(conn, http.StateClosed) // this side has not closed it
	if err := b.DeleteObject("k"); err != nil {
		t.Fatal(err)
	}
	if n := e.blobs(t); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

// deadlines is an http.ResponseWriter that records its time limits, and takes
// slowly what is sent: half of it, and then nothing until the time is over.
type deadlines struct {
	*httptest.ResponseRecorder
	read, write []time.Time
	slow        bool
	sources     []io.Reader
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = append(d.read, t); return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = append(d.write, t); return nil }

func (d *deadlines) ReadFrom(src io.Reader) (int64, error) {
	d.sources = append(d.sources, src)
	if d.slow {
		n, _ := io.CopyN(d.ResponseRecorder, src, max(1, src.(*io.LimitedReader).N/2))
		return n, os.ErrDeadlineExceeded
	}
	return io.Copy(d.ResponseRecorder, src)
}

// request is a signed request for a recorder.
func request(method, key string, body io.Reader) *http.Request {
	r := httptest.NewRequest(method, "/lan/"+key, body)
	date := time.Now().UTC().Format(http.TimeFormat)
	r.Header.Set("Date", date)
	r.Header.Set("Authorization", signV1(method, "", date, "/lan/"+key))
	return r
}

// Time limits end with the request, so that the connection can go on; files go to
// the connection as they are, for sendfile; and slow is not stalled.
func TestTimeLimitsAndSendfile(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	const size = 5<<20 + 7
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	e.ServeHTTP(w, request("PUT", "k", &pattern{size}))
	if len(w.read) == 0 || !w.read[len(w.read)-1].IsZero() || len(w.write) == 0 || !w.write[len(w.write)-1].IsZero() {
		t.Errorf("after a put the time limits are %v, %v", w.read, w.write)
	}
	w = &deadlines{ResponseRecorder: httptest.NewRecorder()}
	e.ServeHTTP(w, request("GET", "k", nil))
	if len(w.read) != 0 || len(w.write) < 6 || !w.write[len(w.write)-1].IsZero() || w.Body.Len() != size {
		t.Errorf("after a get of %d bytes the time limits are %v, %v", w.Body.Len(), w.read, w.write)
	}
	if len(w.sources) != 6 {
		t.Errorf("it was sent in %d steps", len(w.sources))
	}
	for _, src := range w.sources {
		limited, ok := src.(*io.LimitedReader)
		if !ok {
			t.Fatalf("a %T is no source for sendfile", src)
		}
		if _, ok := limited.R.(*os.File); !ok {
			t.Errorf("a %T is no source for sendfile", limited.R)
		}
	}
	w = &deadlines{ResponseRecorder: httptest.NewRecorder(), slow: true}
	e.ServeHTTP(w, request("GET", "k", nil))
	if w.Body.Len() != size {
		t.Errorf("a slow client got %d of %d bytes", w.Body.Len(), size)
	}
	// A body that is not wanted does not limit the time of a download.
	w = &deadlines{ResponseRecorder: httptest.NewRecorder()}
	e.ServeHTTP(w, request("GET", "k", strings.NewReader("what for?")))
	if len(w.read) == 0 || !w.read[len(w.read)-1].IsZero() || w.Body.Len() != size {
		t.Errorf("after a get with a body the time limits are %v", w.read)
	}
	// One that has no time limits is as good.
	plain := httptest.NewRecorder()
	e.ServeHTTP(struct{ http.ResponseWriter }{plain}, request("GET", "k", nil))
	if plain.Code != http.StatusOK || plain.Body.Len() != size {
		t.Errorf("without time limits: %d, %d bytes", plain.Code, plain.Body.Len())
	}
}

// randomBytes returns bytes that are the same in each run.
func randomBytes(n int) []byte {
	data := make([]byte, n)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(data)
	return data
}

// A put that is cut anywhere changes nothing.
func TestCutPut(t *testing.T) {
	e := serve(t, ossserver.Config{Quota: 30_000_000}, 0)
	b := bucket(t, e.url)
	if err := b.PutObject("k", strings.NewReader("old")); err != nil {
		t.Fatal(err)
	}
	data := string(randomBytes(700_000))
	conns := make([]net.Conn, 30)
	for i := range conns {
		cut := rand.IntN(len(data))
		conn := e.send(t, "PUT", "k", fmt.Sprintf("Content-Length: %d\r\n", len(data)), data[:cut])
		conns[i] = conn
		e.await(conn, http.StateActive)
		if i%2 == 0 {
			_ = conn.(*net.TCPConn).SetLinger(0) // a reset instead of an end
		}
		conn.Close()
		if got := get(t, b, "k"); got != "old" {
			t.Errorf("it is %q", got)
		}
	}
	for _, conn := range conns {
		e.await(conn, http.StateClosed)
	}
	if n := e.blobs(t); n != 1 {
		t.Errorf("%d blobs", n)
	}
	if err := b.PutObject("big", strings.NewReader(strings.Repeat("x", 29_999_997))); err != nil {
		t.Errorf("the rest of the quota: %v", err)
	}
}

// A get that is cut anywhere goes on where it was cut, and ends with the same
// bytes; if the object is another one meanwhile, it is told.
func TestCutGet(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	b := bucket(t, e.url)
	data := randomBytes(3_000_000)
	if err := b.PutObject("k", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	h, err := b.GetObjectDetailedMeta("k")
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	cuts := 0
	for ; len(got) < len(data); cuts++ {
		conn := e.send(t, "GET", "k", fmt.Sprintf("Range: bytes=%d-\r\nIf-Match: %s\r\n", len(got), h.Get("Etag")), "")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != http.StatusPartialContent {
			t.Fatalf("from %d: %v, %v", len(got), resp, err)
		}
		part, _ := io.ReadAll(io.LimitReader(resp.Body, int64(rand.IntN(400_000))))
		got = append(got, part...)
		resp.Body.Close()
		conn.Close()
	}
	if !bytes.Equal(got, data) {
		t.Errorf("after %d cuts it is other bytes", cuts)
	}
	if err := b.PutObject("k", strings.NewReader("another")); err != nil {
		t.Fatal(err)
	}
	_, err = b.GetObject("k", oss.Range(5, 6), oss.IfMatch(h.Get("Etag")))
	wantStatus(t, err, http.StatusPreconditionFailed, "PreconditionFailed")
}

// heapMeter notes how large the heap is while it is read.
type heapMeter struct {
	pattern
	next, most uint64
	read       uint64
}

func (h *heapMeter) note(n int) {
	h.read += uint64(n)
	if h.read < h.next {
		return
	}
	h.next += 16 << 20
	h.most = max(h.most, heap())
}

// heap returns the bytes of the heap that are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (h *heapMeter) Read(b []byte) (int, error) {
	n, err := h.pattern.Read(b)
	h.note(n)
	return n, err
}

func (h *heapMeter) Write(b []byte) (int, error) {
	h.note(len(b))
	return len(b), nil
}

// However large an object is, the memory it takes is the same.
func TestMemory(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	const size = 256 << 20
	most := heap() + 8<<20
	up := &heapMeter{pattern: pattern{size}}
	do(t, http.DefaultClient, e.url, "PUT", "large", up, size)
	var down heapMeter
	conn := e.send(t, "GET", "large", "", "")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(&down, resp.Body); err != nil || n != size {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	if up.most > most || down.most > most || up.most == 0 || down.most == 0 {
		t.Errorf("the heap has grown to %d MiB, %d MiB", up.most>>20, down.most>>20)
	}
}

var errStop = errors.New("stop")

// endless is a body without an end.
type endless struct{ read int64 }

func (e *endless) Read(b []byte) (int, error) {
	if e.read > 1<<30 {
		return 0, errStop
	}
	e.read += int64(len(b))
	return len(b), nil
}

// A body of unknown length ends at the quota, and one that is announced to exceed
// it is not even taken.
func TestQuotaOfStreams(t *testing.T) {
	e := serve(t, ossserver.Config{Quota: 1_000_000}, 0)
	if err := bucket(t, e.url).PutObject("k", strings.NewReader("old")); err != nil {
		t.Fatal(err)
	}
	body := new(endless)
	w := httptest.NewRecorder()
	r := request("PUT", "k", body)
	r.ContentLength = -1
	e.ServeHTTP(w, r)
	if w.Code != http.StatusInsufficientStorage || body.read > 4<<20 {
		t.Errorf("%d after %d bytes: %s", w.Code, body.read, w.Body)
	}
	conn := e.send(t, "PUT", "k", "Content-Length: 1000000000\r\nExpect: 100-continue\r\n", "")
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 507") {
		t.Errorf("%v\n%s", err, answer)
	}
	if n := e.blobs(t); n != 1 {
		t.Errorf("%d blobs", n)
	}
	if got := get(t, bucket(t, e.url), "k"); got != "old" {
		t.Errorf("it is %q", got)
	}
}

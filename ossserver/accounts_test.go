package ossserver_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/crosscomm/crosscomm-go/ossserver"
)

// A key that has become void ends what is under way with it: nothing is stored,
// and nobody takes the half of an object for the whole.
func TestDisconnect(t *testing.T) {
	void := make(map[string]*atomic.Bool)
	void[keyID] = new(atomic.Bool)
	e := serve(t, ossserver.Config{Allow: func(id, _ string, _ bool) bool { return !void[id].Load() }}, 0)
	if err := bucket(t, e.url).PutObject("large", strings.NewReader(strings.Repeat("x", 32<<20))); err != nil {
		t.Fatal(err)
	}
	blobs := e.blobs(t)
	upload := e.send(t, "PUT", "k", "Content-Length: 150000\r\nExpect: 100-continue\r\n", "")
	if line, err := bufio.NewReader(upload).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("got %q, %v", line, err)
	}
	download := e.send(t, "GET", "large", "", "")
	if line, err := bufio.NewReaderSize(download, 16).ReadString('\n'); err != nil || !strings.Contains(line, "200 OK") {
		t.Fatalf("got %q, %v", line, err)
	}
	e.Disconnect("another")
	void[keyID].Store(true)
	e.Disconnect(keyID)
	answer, err := io.ReadAll(upload)
	if err != nil || !strings.Contains(string(answer), "<Code>InvalidAccessKeyId</Code>") {
		t.Errorf("the put: %v\n%s", err, answer)
	}
	rest, _ := io.ReadAll(download)
	if len(rest) >= 32<<20 {
		t.Error("the get was not cut")
	}
	e.await(upload, http.StateClosed)
	e.await(download, http.StateClosed)
	void[keyID].Store(false)
	if n := e.blobs(t); n != blobs {
		t.Errorf("%d blobs, before there were %d", n, blobs)
	}
	if got := get(t, bucket(t, e.url), "large"); len(got) != 32<<20 {
		t.Errorf("afterwards: %d bytes", len(got))
	}
	if w := ask(e, "HEAD", "/lan/k", "", nil); w.Code != http.StatusNotFound {
		t.Errorf("the object that was put: %d", w.Code)
	}
}

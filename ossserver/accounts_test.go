package ossserver_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/crosscomm/crosscomm-go/internal/testkit"
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

// What is under way with other keys goes on.
func TestDisconnectOneOfTwo(t *testing.T) {
	putting, begun := make(chan struct{}), sync.Once{}
	e := serve(t, ossserver.Config{
		Secret: func(id string) (string, bool) { return keySecret, id == keyID || id == "other" },
		Allow: func(_, key string, _ bool) bool {
			if key == "k" {
				begun.Do(func() { close(putting) })
			}
			return true
		},
	}, 0)
	client, err := oss.New(e.url, "other", keySecret)
	noError(t, err)
	other, err := client.Bucket("lan")
	noError(t, err)
	noError(t, other.PutObject("large", bytes.NewReader(make([]byte, 16<<20))))
	download, err := other.GetObject("large")
	noError(t, err)
	body, upload := io.Pipe()
	stored := make(chan error, 1)
	go func() { stored <- other.PutObject("k", body) }()
	if _, err := io.WriteString(upload, "before, "); err != nil {
		t.Fatal(err)
	}
	<-putting
	e.Disconnect(keyID)
	if _, err := io.WriteString(upload, "and after"); err != nil {
		t.Fatal(err)
	}
	upload.Close()
	noError(t, <-stored)
	if got := content(t, download, nil); len(got) != 16<<20 {
		t.Errorf("%d bytes were got", len(got))
	}
	e.Disconnect("other") // with nothing under way
	if got := get(t, other, "k"); got != "before, and after" {
		t.Errorf("got %q", got)
	}
}

// However requests and Disconnect meet, what was told to be stored is there, and
// what is not there has left nothing.
func TestDisconnectAtAnyTime(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	var puts, cuts sync.WaitGroup
	var mu sync.Mutex
	stored := map[string]bool{}
	done := make(chan struct{})
	for range 2 {
		cuts.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-done:
					return
				case <-tick.C:
					e.Disconnect(keyID)
				}
			}
		})
	}
	b := bucket(t, e.url)
	for i := range 4 {
		puts.Go(func() {
			for n := range 25 {
				key := fmt.Sprintf("%d/%d", i, n)
				// By hand: the SDK's own count of the bytes races with an answer that
				// comes before they are sent.
				url, err := b.SignURL(key, oss.HTTPPut, 60)
				if err != nil {
					t.Error(err)
					return
				}
				r, err := http.NewRequest("PUT", url, strings.NewReader(strings.Repeat("x", 200_000)))
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := http.DefaultClient.Do(r)
				if err == nil {
					resp.Body.Close()
				}
				mu.Lock()
				stored[key] = err == nil && resp.StatusCode == http.StatusOK
				mu.Unlock()
			}
		})
	}
	puts.Wait()
	close(done)
	cuts.Wait()
	whole := 0
	for key, told := range stored {
		if told {
			whole++
		}
		if exists, err := b.IsObjectExist(key); err != nil || told && !exists {
			t.Errorf("%s was told to be stored: %t, and is there: %t, %v", key, told, exists, err)
		}
	}
	t.Logf("%d of %d were stored", whole, len(stored))
	// Who was cut does not know when the server has done with it.
	testkit.Eventually(t, "as many blobs as objects", func() bool {
		l, err := b.ListObjects(oss.MaxKeys(1000))
		noError(t, err)
		return e.blobs(t) == len(l.Objects)
	})
}

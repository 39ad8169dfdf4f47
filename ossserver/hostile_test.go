package ossserver_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/crosscomm/crosscomm-go/ossserver"
)

// signed returns the request signed by V1. What is to be signed is taken from
// the server's own refusal, so that any request can be.
func signed(handler http.Handler, method, target, body string, header http.Header) *http.Request {
	date := time.Now().UTC().Format(http.TimeFormat) // the same for both requests
	request := func(signature string) *http.Request {
		r := httptest.NewRequest(method, "/", strings.NewReader(body))
		r.RequestURI = target
		for name, values := range header {
			r.Header[name] = values
		}
		r.Header.Set("Date", date)
		r.Header.Set("Authorization", "OSS "+keyID+":"+signature)
		return r
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, request("x"))
	var refusal struct{ StringToSign string }
	text := w.Body.Bytes()
	if method == http.MethodHead {
		for name, values := range w.Header() {
			if name == "x-oss-err" { // in lower case, as on the wire
				text, _ = base64.StdEncoding.DecodeString(values[0])
			}
		}
	}
	_ = xml.Unmarshal(text, &refusal)
	mac := hmac.New(sha1.New, []byte(keySecret))
	mac.Write([]byte(refusal.StringToSign))
	return request(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// ask sends a signed request and returns the answer.
func ask(handler http.Handler, method, target, body string, header http.Header) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, signed(handler, method, target, body, header))
	return w
}

// A URL can set the headers that OSS lets it set, and makes no others.
func TestOverriddenHeaders(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	ask(e, "PUT", "/lan/k", "hello", http.Header{"Content-Type": {"text/plain"}, "Content-Encoding": {"gzip"}})
	h := ask(e, "GET", "/lan/k?response-content-type=a/b&response-content-disposition=x%0D%0AX-Evil:%201&response-set-cookie=a=b"+
		"&response-content-length=1&response-transfer-encoding=chunked&response-x-oss-request-id=1&response-location=//x&response-connection=close&response-", "", nil).Header()
	if h.Get("Content-Type") != "a/b" || h.Get("Content-Disposition") != "xX-Evil: 1" || h.Get("Content-Length") != "5" {
		t.Errorf("got %v", h)
	}
	for _, name := range []string{"X-Evil", "Set-Cookie", "Transfer-Encoding", "Location", "Connection"} {
		if h.Get(name) != "" {
			t.Errorf("%s is %q", name, h.Get(name))
		}
	}
	// An error is not described by the object's headers.
	w := ask(e, "GET", "/lan/k", "", http.Header{"Range": {"bytes=9-"}, "X-Oss-Range-Behavior": {"standard"}})
	if w.Code != http.StatusRequestedRangeNotSatisfiable || w.Header().Get("Content-Encoding") != "" || w.Header().Get("Content-Range") != "bytes */5" || w.Header().Get("Content-Type") != "application/xml" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

// Metadata has a bound, in all ways to set it.
func TestMetadataLimit(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	large := http.Header{"X-Oss-Meta-A": {strings.Repeat("a", 4000)}, "X-Oss-Meta-B": {strings.Repeat("b", 4200)}}
	replace := http.Header{"X-Oss-Copy-Source": {"/lan/k"}, "X-Oss-Metadata-Directive": {"REPLACE"}, "X-Oss-Meta-A": {strings.Repeat("a", 8200)}}
	if w := ask(e, "PUT", "/lan/k", "x", http.Header{"X-Oss-Meta-A": {strings.Repeat("a", 8000)}}); w.Code != http.StatusOK {
		t.Errorf("nearly 8 KB: %d %s", w.Code, w.Body)
	}
	for name, w := range map[string]*httptest.ResponseRecorder{
		"put":      ask(e, "PUT", "/lan/k", "x", large),
		"initiate": ask(e, "POST", "/lan/k?uploads", "", large),
		"copy":     ask(e, "PUT", "/lan/k", "", replace),
	} {
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "<Code>InvalidArgument</Code>") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// Keys and prefixes may look like URLs.
func TestURLsAsKeys(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	if w := ask(e, "PUT", "/lan/see/http://h/x", "hello", nil); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if w := ask(e, "GET", "/lan/?prefix=see/http://h/", "", nil); !strings.Contains(w.Body.String(), "<Key>see/http://h/x</Key>") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// Documents that are too large, too deep, too many, or not what they claim to
// be are refused.
func TestHostileDocuments(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	w := ask(e, "POST", "/lan/k?uploads", "", nil)
	var u struct{ UploadId string }
	if err := xml.Unmarshal(w.Body.Bytes(), &u); err != nil {
		t.Fatal(err)
	}
	bomb := `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>`
	var many strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&many, "<Part><PartNumber>%d</PartNumber><ETag>\"5D41402ABC4B2A76B9719D911017C592\"</ETag></Part>", i+1)
	}
	for name, tc := range map[string]struct {
		target, body, code string
		header             http.Header
	}{
		"entities":       {"/lan/k?uploadId=" + u.UploadId, bomb + "<CompleteMultipartUpload><Part><PartNumber>&b;</PartNumber></Part></CompleteMultipartUpload>", "MalformedXML", nil},
		"entities again": {"/lan/?delete", bomb + "<Delete><Object><Key>&b;</Key></Object></Delete>", "MalformedXML", nil},
		"deep":           {"/lan/?delete", strings.Repeat("<Delete>", 300_000), "MalformedXML", nil},
		"long":           {"/lan/?delete", "<Delete>" + strings.Repeat(" ", 5<<20) + "</Delete>", "MalformedXML", nil},
		"another":        {"/lan/?delete", "<CompleteMultipartUpload/>", "MalformedXML", nil},
		"no keys":        {"/lan/?delete", "<Delete/>", "MalformedXML", nil},
		"1001 keys":      {"/lan/?delete", "<Delete>" + strings.Repeat("<Object><Key>k</Key></Object>", 1001) + "</Delete>", "MalformedXML", nil},
		"digest":         {"/lan/?delete", "<Delete><Object><Key>k</Key></Object></Delete>", "InvalidDigest", http.Header{"Content-Md5": {"XUFAKrxLKna5cZ2REBfFkg=="}}},
		"10,000 parts":   {"/lan/k?uploadId=" + u.UploadId, "<CompleteMultipartUpload>" + many.String() + "</CompleteMultipartUpload>", "InvalidPart", nil},
		"huge number":    {"/lan/k?uploadId=" + u.UploadId, "<CompleteMultipartUpload><Part><PartNumber>99999999999999999999</PartNumber></Part></CompleteMultipartUpload>", "MalformedXML", nil},
		"no upload":      {"/lan/k?uploadId=x", "<CompleteMultipartUpload/>", "NoSuchUpload", nil},
	} {
		if w := ask(e, "POST", tc.target, tc.body, tc.header); !strings.Contains(w.Body.String(), "<Code>"+tc.code+"</Code>") {
			t.Errorf("%s: %d %.500s", name, w.Code, w.Body)
		}
	}
	for _, query := range []string{"max-keys=1001", "max-keys=0", "max-keys=-1", "max-keys=99999999999999999999", "list-type=2&max-keys=1001", "uploads&max-uploads=1001", "list-type=2&continuation-token=%25"} {
		if w := ask(e, "GET", "/lan/?"+query, "", nil); !strings.Contains(w.Body.String(), "<Code>InvalidArgument</Code>") {
			t.Errorf("%s: %d %.500s", query, w.Code, w.Body)
		}
	}
}

// 3,000 keys, in pages and by folders.
func TestManyKeys(t *testing.T) {
	b := bucket(t, start(t, ossserver.Config{}))
	const n, folders = 3000, 30
	var want []string
	var all sync.WaitGroup
	for i := range n {
		want = append(want, fmt.Sprintf("many/%02d/%04d", i%folders, i))
	}
	const clients = 20 // many puts, one commit
	for first := range clients {
		all.Go(func() {
			for i := first; i < n; i += clients {
				if err := b.PutObject(want[i], strings.NewReader("")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	slices.Sort(want)
	for _, size := range []int{1000, 333} {
		var v1, v2 []string
		for marker := ""; ; {
			l, err := b.ListObjects(oss.MaxKeys(size), oss.Marker(marker))
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range l.Objects {
				v1 = append(v1, o.Key)
			}
			if marker = l.NextMarker; !l.IsTruncated {
				break
			}
		}
		for token := ""; ; {
			l, err := b.ListObjectsV2(oss.MaxKeys(size), oss.ContinuationToken(token))
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range l.Objects {
				v2 = append(v2, o.Key)
			}
			if token = l.NextContinuationToken; !l.IsTruncated {
				break
			}
		}
		if !slices.Equal(v1, want) || !slices.Equal(v2, want) {
			t.Errorf("%d at a time: V1 has %d keys, V2 %d", size, len(v1), len(v2))
		}
	}
	var found []string
	for token := ""; ; {
		l, err := b.ListObjectsV2(oss.Prefix("many/"), oss.Delimiter("/"), oss.MaxKeys(7), oss.ContinuationToken(token))
		if err != nil || len(l.Objects) != 0 {
			t.Fatal(len(l.Objects), err)
		}
		found = append(found, l.CommonPrefixes...)
		if token = l.NextContinuationToken; !l.IsTruncated {
			break
		}
	}
	if len(found) != folders || !slices.IsSorted(found) || found[0] != "many/00/" {
		t.Errorf("folders: %q", found)
	}
	// A thousand at a time are deleted by one transaction.
	for keys := range slices.Chunk(want, 1000) {
		if _, err := b.DeleteObjects(keys); err != nil {
			t.Fatal(err)
		}
	}
	if l, err := b.ListObjects(); err != nil || len(l.Objects) != 0 {
		t.Errorf("%d are left, %v", len(l.Objects), err)
	}
}

// Uploads are listed in pages, from the marker on.
func TestManyUploads(t *testing.T) {
	b := bucket(t, start(t, ossserver.Config{}))
	want := map[string]bool{}
	for i := range 25 {
		u, err := b.InitiateMultipartUpload(fmt.Sprint("u/", i%10))
		if err != nil {
			t.Fatal(err)
		}
		want[u.UploadID] = true
	}
	seen, last := 0, ""
	for key, id := "", ""; ; {
		l, err := b.ListMultipartUploads(oss.MaxUploads(4), oss.KeyMarker(key), oss.UploadIDMarker(id), oss.Prefix("u/"))
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range l.Uploads {
			if !want[u.UploadID] || u.Key+u.UploadID <= last {
				t.Errorf("%s %s after %s", u.Key, u.UploadID, last)
			}
			last = u.Key + u.UploadID
			seen++
		}
		if key, id = l.NextKeyMarker, l.NextUploadIDMarker; !l.IsTruncated {
			break
		}
	}
	if seen != len(want) {
		t.Errorf("%d uploads on all pages", seen)
	}
	if l, err := b.ListMultipartUploads(oss.KeyMarker("u/8")); err != nil || len(l.Uploads) != 2 {
		t.Errorf("after u/8: %d uploads, %v", len(l.Uploads), err)
	}
}

// Many put one key over HTTP while many read it: each read is one of them, whole,
// as its ETag says.
func TestOneKeyForAll(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	b := bucket(t, e.url)
	text := func(i int) string { return strings.Repeat(string(rune('a'+i)), 300_000) }
	if err := b.PutObject("k", strings.NewReader(text(0))); err != nil {
		t.Fatal(err)
	}
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for i := range 4 {
		writers.Go(func() {
			for range 15 {
				if err := b.PutObject("k", strings.NewReader(text(i))); err != nil {
					t.Error(err)
				}
			}
		})
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				r, err := b.GetObject("k") // the SDK checks the CRC
				if err != nil {
					t.Error(err)
					return
				}
				data, err := io.ReadAll(r)
				r.Close()
				if err != nil || len(data) != 300_000 || strings.Count(string(data), string(data[:1])) != len(data) {
					t.Errorf("%d bytes of more than one object, %v", len(data), err)
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	if n := e.blobs(t); n != 1 {
		t.Errorf("%d blobs", n)
	}
}

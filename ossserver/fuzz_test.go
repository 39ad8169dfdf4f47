package ossserver_test

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/crosscomm/crosscomm-go/ossserver"
)

// FuzzRange: a range is within the object, or is none.
func FuzzRange(f *testing.F) {
	for _, seed := range []string{"bytes=0-1", "bytes=-5", "bytes=5-", "bytes=0-0,2-3", "bytes=18446744073709551615-", "bytes=-0", "x", "bytes=9-1"} {
		f.Add(seed, int64(10))
		f.Add(seed, int64(0))
	}
	f.Fuzz(func(t *testing.T, text string, size int64) {
		if size < 0 {
			return
		}
		offset, length, ok, satisfiable := ossserver.ParseRange(text, size)
		if ok && satisfiable && (offset < 0 || length < 1 || offset > size-length) {
			t.Fatalf("%q of %d bytes is %d bytes from %d", text, size, length, offset)
		}
		if satisfiable && !ok {
			t.Fatalf("%q is none, but can be satisfied", text)
		}
	})
}

// FuzzKey: a key that is accepted is no trouble as a path.
func FuzzKey(f *testing.F) {
	for _, seed := range []string{"a", "a/b", "../a", "a/..", "a\\..\\b", "/a", "a\x00", "a/./b", "\xFF", strings.Repeat("k", 1024), "..a", "a//b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if key == "" || ossserver.CheckKey(key) != nil {
			return
		}
		if len(key) > 1023 || !utf8.ValidString(key) || strings.ContainsAny(key, "\x00\r\n") || key[0] == '/' || key[0] == '\\' {
			t.Fatalf("%q was accepted", key)
		}
		for _, segment := range strings.Split(strings.ReplaceAll(key, "\\", "/"), "/") {
			if segment == ".." || segment == "." {
				t.Fatalf("%q was accepted", key)
			}
		}
	})
}

// fuzzServer is a server with an object and an upload.
func fuzzServer(f *testing.F) (server *ossserver.Server, uploadID string) {
	server, err := ossserver.New(ossserver.Config{Dir: f.TempDir(), Bucket: "lan", Secret: secret, Quota: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { server.Close() })
	if w := ask(server, "PUT", "/lan/k", "hello", nil); w.Code != http.StatusOK {
		f.Fatal(w.Body)
	}
	w := ask(server, "POST", "/lan/k?uploads", "", nil)
	var u struct{ UploadId string }
	if err := xml.Unmarshal(w.Body.Bytes(), &u); err != nil {
		f.Fatal(err)
	}
	if w := ask(server, "PUT", "/lan/k?partNumber=1&uploadId="+u.UploadId, "hello", nil); w.Code != http.StatusOK {
		f.Fatal(w.Body)
	}
	return server, u.UploadId
}

// FuzzObjectRequest: whatever one who has a key asks of an object, the answer is
// OSS's, and never an error of the server's.
func FuzzObjectRequest(f *testing.F) {
	for _, seed := range [][5]string{
		{"GET", "k", "", "Range", "bytes=1-2"}, {"HEAD", "k", "objectMeta", "If-Match", "*"}, {"PUT", "k", "acl", "X-Oss-Object-Acl", "private"},
		{"PUT", "c", "", "X-Oss-Copy-Source", "/lan/k"}, {"DELETE", "k", "uploadId=x", "", ""}, {"GET", "k", "response-expires=%0D%0A", "If-Modified-Since", "x"},
		{"PUT", "k", "partNumber=1&uploadId=x", "Content-Md5", "x"}, {"PUT", "m", "", "X-Oss-Meta-A", "\x80"}, {"POST", "k", "append&position=0", "", ""},
		{"GET", "", "prefix=%FF&delimiter=%FF&marker=%00", "", ""}, {"GET", "", "uploads&key-marker=%FF&upload-id-marker=%00&prefix=k", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4])
	}
	server, _ := fuzzServer(f)
	f.Fuzz(func(t *testing.T, method, key, query, name, value string) {
		if r, err := http.NewRequest(method, "http://h/", nil); err != nil || r.Method != method || method == http.MethodConnect || strings.ContainsAny(query, " #") {
			return
		}
		header := http.Header{}
		if name != "" {
			header.Set(name, value)
		}
		for _, name := range []string{"Authorization", "X-Oss-Date"} {
			header.Del(name)
		}
		w := ask(server, method, "/lan/"+url.PathEscape(key)+"?"+query, "hello", header)
		if w.Code >= 500 && w.Code != http.StatusNotImplemented && w.Code != http.StatusInsufficientStorage {
			t.Fatalf("%s %q?%q with %q: %q was answered with %d %s", method, key, query, name, value, w.Code, w.Body)
		}
		if err := xml.Unmarshal(w.Body.Bytes(), new(struct{})); w.Code >= 400 && method != http.MethodHead && err != nil {
			t.Fatalf("%s %q?%q: %d %q is no document: %v", method, key, query, w.Code, w.Body, err)
		}
	})
}

// FuzzDocuments: the documents that clients send, to complete an upload and to
// delete objects.
func FuzzDocuments(f *testing.F) {
	for _, seed := range []string{
		"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>",
		"<CompleteMultipartUpload><Part><PartNumber>2</PartNumber><ETag>\"5D41402ABC4B2A76B9719D911017C592\"</ETag></Part></CompleteMultipartUpload>",
		"<Delete><Quiet>true</Quiet><Object><Key>a</Key></Object></Delete>", "<Delete><Object><Key>&#x0;</Key></Object></Delete>", "<!DOCTYPE x [<!ENTITY a \"b\">]><Delete>&a;</Delete>", "",
	} {
		f.Add(seed)
	}
	server, id := fuzzServer(f)
	f.Fuzz(func(t *testing.T, body string) {
		if len(body) > 100_000 {
			return
		}
		for _, target := range []string{"/lan/k?uploadId=" + id, "/lan/?delete", "/lan/?delete&encoding-type=url"} {
			w := ask(server, "POST", target, body, nil)
			if w.Code >= 500 || xml.Unmarshal(w.Body.Bytes(), new(struct{})) != nil {
				t.Fatalf("%q to %s was answered with %d %s", body, target, w.Code, w.Body)
			}
		}
	})
}

package ossserver_test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/ossserver"
)

// signV1 returns the Authorization header of a request without OSS headers.
func signV1(method, contentType, date, resource string) string {
	mac := hmac.New(sha1.New, []byte(keySecret))
	fmt.Fprintf(mac, "%s\n\n%s\n%s\n%s", method, contentType, date, resource)
	return "OSS " + keyID + ":" + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// exchange sends a request as it stands, signed for the resource, and returns
// the answer as it came.
func exchange(t *testing.T, addr, method, uri, resource, headers, body string) (head, content string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	date := time.Now().UTC().Format(http.TimeFormat)
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nDate: %s\r\nAuthorization: %s\r\nConnection: close\r\n%s\r\n%s", method, uri, addr, date, signV1(method, "", date, resource), headers, body)
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	head, content, _ = strings.Cut(string(all), "\r\n\r\n")
	return head, content
}

// What SDKs rely on, on the wire.
func TestWire(t *testing.T) {
	addr := strings.TrimPrefix(start(t, ossserver.Config{}), "http://")
	for _, uri := range []string{"/lan/a/b%20c", "/lan/a%2Fb%20c", "http://" + addr + "/lan/a/b%20c"} {
		head, _ := exchange(t, addr, "PUT", uri, "/lan/a/b c", "x-oss-meta-UPPER: v\r\nContent-Length: 5\r\n", "hello")
		if !strings.HasPrefix(head, "HTTP/1.1 403") { // the metadata is not in what was signed
			t.Errorf("%s with an unsigned header: %s", uri, head)
		}
		head, _ = exchange(t, addr, "PUT", uri, "/lan/a/b c", "Content-Length: 5\r\n", "hello")
		for _, want := range []string{"HTTP/1.1 200 OK", "\r\nx-oss-request-id: ", "\r\nx-oss-hash-crc64ecma: ", "\r\nEtag: \"5D41402ABC4B2A76B9719D911017C592\""} {
			if !strings.Contains(head, want) {
				t.Errorf("PUT %s: no %q in\n%s", uri, want, head)
			}
		}
		head, content := exchange(t, addr, "GET", uri, "/lan/a/b c", "Accept-Encoding: gzip\r\n", "")
		if content != "hello" || strings.Contains(head, "Content-Encoding") || strings.Count(strings.ToLower(head), "content-length") != 1 {
			t.Errorf("GET %s: %s\n%q", uri, head, content)
		}
	}
	// A plus sign in a path is one; segments are not cleaned away, but refused.
	if head, _ := exchange(t, addr, "PUT", "/lan/p+q", "/lan/p+q", "Content-Length: 1\r\n", "x"); !strings.HasPrefix(head, "HTTP/1.1 200") {
		t.Errorf("a plus sign: %s", head)
	}
	for _, key := range []string{"a/../b", "a//../b", "./x"} {
		if head, content := exchange(t, addr, "PUT", "/lan/"+key, "/lan/"+key, "Content-Length: 1\r\n", "x"); !strings.HasPrefix(head, "HTTP/1.1 400") || !strings.Contains(content, "<Code>InvalidObjectName</Code>") {
			t.Errorf("%s: %s\n%s", key, head, content)
		}
	}
	// The error of a HEAD is in a header.
	head, _ := exchange(t, addr, "HEAD", "/lan/missing", "/lan/missing", "", "")
	_, text, _ := strings.Cut(head, "x-oss-err: ")
	text, _, _ = strings.Cut(text, "\r\n")
	decoded, err := base64.StdEncoding.DecodeString(text)
	if err != nil || !strings.Contains(string(decoded), "<Code>NoSuchKey</Code>") || !strings.HasPrefix(head, "HTTP/1.1 404") {
		t.Errorf("HEAD of what is missing: %s\n%s", head, decoded)
	}
	// A body that is refused is read, so that the client sees the answer.
	big := strings.Repeat("x", 900_000)
	if head, content := exchange(t, addr, "PUT", "/lan/../x", "/lan/wrong", fmt.Sprintf("Content-Length: %d\r\n", len(big)), big); !strings.HasPrefix(head, "HTTP/1.1 403") || !strings.Contains(content, "SignatureDoesNotMatch") {
		t.Errorf("a refused body: %s\n%s", head, content)
	}
	// Whether something exists is told to nobody without a key.
	resp, err := http.Get("http://" + addr + "/lan/a/b%20c")
	if err != nil {
		t.Fatal(err)
	}
	missing, err := http.Get("http://" + addr + "/other/missing")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer missing.Body.Close()
	if resp.StatusCode != http.StatusForbidden || missing.StatusCode != http.StatusForbidden {
		t.Errorf("without a signature: %s, %s", resp.Status, missing.Status)
	}
}

func TestVirtualHost(t *testing.T) {
	server, err := ossserver.New(ossserver.Config{Dir: t.TempDir(), Bucket: "lan", Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	date := time.Now().UTC().Format(http.TimeFormat)
	for _, method := range []string{"PUT", "GET"} {
		r := httptest.NewRequest(method, "http://lan.example.org:8080/k%2Fx", strings.NewReader(""))
		r.RequestURI = "/k%2Fx"
		r.Header.Set("Date", date)
		r.Header.Set("Authorization", signV1(method, "", date, "/lan/k/x"))
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", method, w.Code, w.Body)
		}
	}
}

// Without a limit a page has 100 keys, and tells how to go on.
func TestPages(t *testing.T) {
	b := bucket(t, start(t, ossserver.Config{}))
	for i := range 150 {
		if err := b.PutObject(fmt.Sprintf("many/%04d", i), strings.NewReader("")); err != nil {
			t.Fatal(err)
		}
	}
	l, err := b.ListObjectsV2()
	if err != nil || len(l.Objects) != 100 || !l.IsTruncated || l.NextContinuationToken == "" {
		t.Errorf("got %d objects, truncated %v, %v", len(l.Objects), l.IsTruncated, err)
	}
}

// FuzzRequest: whatever comes, the answer is an error in OSS's form, and the
// server is still there.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{"GET /lan/x?acl HTTP/1.1\r\nHost: h\r\n\r\n", "PUT /lan/%2e%2e HTTP/1.1\r\nHost: lan.h\r\nContent-Length: 1\r\n\r\nx", "POST /lan/?delete HTTP/1.1\r\nHost: h\r\nAuthorization: OSS a:b\r\nDate: x\r\n\r\n"} {
		f.Add([]byte(seed))
	}
	server, err := ossserver.New(ossserver.Config{Dir: f.TempDir(), Bucket: "lan", Secret: secret})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { server.Close() })
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(data))))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		if w.Code < 400 {
			t.Fatalf("%q was answered with %d", data, w.Code)
		}
		var doc struct{ Code, Message, RequestId string }
		if r.Method != http.MethodHead && (xml.Unmarshal(w.Body.Bytes(), &doc) != nil || doc.Code == "" || doc.RequestId == "") {
			t.Fatalf("%q was answered with %q", data, w.Body)
		}
	})
}

// FuzzSignedRequest: the same for one who has a key, on queries and documents.
func FuzzSignedRequest(f *testing.F) {
	for _, seed := range [][3]string{
		{"GET", "max-keys=1&delimiter=/&encoding-type=url&marker=%FF", ""}, {"GET", "list-type=2&continuation-token=x", ""},
		{"POST", "delete", "<Delete><Object><Key>a</Key></Object></Delete>"}, {"GET", "uploads&key-marker=a&max-uploads=0", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	server, err := ossserver.New(ossserver.Config{Dir: f.TempDir(), Bucket: "lan", Secret: secret})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { server.Close() })
	f.Fuzz(func(t *testing.T, method, query, body string) {
		if values, err := url.ParseQuery(query); err != nil || values.Has("Signature") || values.Has("x-oss-signature") {
			return
		}
		r, err := http.NewRequest(method, "http://h/lan/", strings.NewReader(body))
		if err != nil {
			return
		}
		r.RequestURI = "/lan/?" + query
		expires := fmt.Sprint(time.Now().Add(time.Minute).Unix())
		// By URL, so that the query does not change what is signed but by its
		// sub-resources: a mismatch is fine, a crash is not.
		mac := hmac.New(sha1.New, []byte(keySecret))
		resource := "/lan/"
		for _, name := range []string{"delete", "uploads", "acl", "location", "bucketInfo"} {
			if query == name {
				resource += "?" + name
			}
		}
		fmt.Fprintf(mac, "%s\n\n\n%s\n%s", method, expires, resource)
		sign := url.Values{"OSSAccessKeyId": {keyID}, "Expires": {expires}, "Signature": {base64.StdEncoding.EncodeToString(mac.Sum(nil))}}
		r.RequestURI += "&" + sign.Encode()
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != http.StatusNotImplemented {
			t.Fatalf("%s %q %q was answered with %d %s", method, query, body, w.Code, w.Body)
		}
	})
}

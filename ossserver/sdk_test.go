package ossserver_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/crosscomm/crosscomm-go/ossserver"
)

const (
	keyID     = "LTAItestkeyid"
	keySecret = "testsecretTESTSECRET0123456789"
)

func secret(id string) (string, bool) { return keySecret, id == keyID }

func start(t testing.TB, cfg ossserver.Config) (url string) {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.Bucket, cfg.Secret = "lan", secret
	s, err := ossserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	t.Cleanup(func() {
		web.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return web.URL
}

// bucket is the real Go SDK on the endpoint.
func bucket(t *testing.T, url string, opts ...oss.ClientOption) *oss.Bucket {
	t.Helper()
	client, err := oss.New(url, keyID, keySecret, opts...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.Bucket("lan")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func content(t *testing.T, r io.ReadCloser, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func get(t *testing.T, b *oss.Bucket, key string, opts ...oss.Option) string {
	t.Helper()
	r, err := b.GetObject(key, opts...)
	return content(t, r, err)
}

// status returns the status and code of an error of the SDK's.
func status(err error) (int, string) {
	var e oss.ServiceError
	if errors.As(err, &e) {
		return e.StatusCode, e.Code
	}
	return 0, fmt.Sprint(err)
}

func wantStatus(t *testing.T, err error, wantStatus int, wantCode string) {
	t.Helper()
	if s, c := status(err); s != wantStatus || c != wantCode {
		t.Errorf("got %d %s, want %d %s (%v)", s, c, wantStatus, wantCode, err)
	}
}

func TestObjects(t *testing.T) {
	for name, opts := range map[string][]oss.ClientOption{
		"V1": nil,
		"V4": {oss.AuthVersion(oss.AuthV4), oss.Region("lan")},
	} {
		t.Run(name, func(t *testing.T) {
			b := bucket(t, start(t, ossserver.Config{}), opts...)
			for _, key := range []string{"a", "a/", "a/b", "k/a b c.txt", "k/中文/文件 名.txt", "k/plus+plus", "k/100%", "k/a&b=c?d#e", "k//double", "k/~'()*!;:@$,[]", strings.Repeat("k", 1023)} {
				text := "content of " + key
				if err := b.PutObject(key, strings.NewReader(text)); err != nil {
					t.Fatalf("%q: %v", key, err)
				}
				if got := get(t, b, key); got != text {
					t.Errorf("%q is %q", key, got)
				}
				if ok, err := b.IsObjectExist(key); err != nil || !ok {
					t.Errorf("%q does not exist: %v", key, err)
				}
			}
			for _, key := range []string{"../x", "a/../b", "..", "a/.", "\\x", "a\nb"} {
				wantStatus(t, b.PutObject(key, strings.NewReader("x")), http.StatusBadRequest, "InvalidObjectName")
			}
			if err := b.PutObject("empty", strings.NewReader("")); err != nil {
				t.Fatal(err)
			}
			if got := get(t, b, "empty"); got != "" {
				t.Errorf("the empty object is %q", got)
			}
			_, err := b.GetObject("missing")
			wantStatus(t, err, http.StatusNotFound, "NoSuchKey")
			_, err = b.GetObjectDetailedMeta("missing")
			wantStatus(t, err, http.StatusNotFound, "NoSuchKey")
			if err := b.DeleteObject("missing"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMetadata(t *testing.T) {
	b := bucket(t, start(t, ossserver.Config{}))
	err := b.PutObject("m", strings.NewReader("x"), oss.Meta("Who", "me"), oss.ContentType("image/png"), oss.CacheControl("no-cache"), oss.ContentDisposition(`attachment; filename="a b"`))
	if err != nil {
		t.Fatal(err)
	}
	check := func(key string, want map[string]string) {
		t.Helper()
		h, err := b.GetObjectDetailedMeta(key)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range want {
			if h.Get(name) != value {
				t.Errorf("%s of %s is %q, want %q", name, key, h.Get(name), value)
			}
		}
	}
	check("m", map[string]string{"X-Oss-Meta-Who": "me", "Content-Type": "image/png", "Cache-Control": "no-cache", "Content-Length": "1", "Etag": `"9DD4E461268C8034F5C8564E155C67A6"`, "X-Oss-Object-Type": "Normal"})
	if _, err := b.CopyObject("m", "c o p y"); err != nil {
		t.Fatal(err)
	}
	check("c o p y", map[string]string{"X-Oss-Meta-Who": "me", "Content-Type": "image/png"})
	if _, err := b.CopyObject("c o p y", "m2", oss.MetadataDirective(oss.MetaReplace), oss.Meta("Who", "you")); err != nil {
		t.Fatal(err)
	}
	check("m2", map[string]string{"X-Oss-Meta-Who": "you", "Cache-Control": ""})
	if err := b.SetObjectMeta("m", oss.Meta("Who", "changed")); err != nil { // a copy onto itself
		t.Fatal(err)
	}
	check("m", map[string]string{"X-Oss-Meta-Who": "changed"})
	r, err := b.DoGetObject(&oss.GetObjectRequest{ObjectKey: "m"}, []oss.Option{oss.ResponseContentType("a/b"), oss.ResponseContentDisposition("attachment; filename=x")})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Response.Body.Close()
	if h := r.Response.Headers; h.Get("Content-Type") != "a/b" || h.Get("Content-Disposition") != "attachment; filename=x" {
		t.Errorf("overridden headers: %v", h)
	}
	if acl, err := b.GetObjectACL("m"); err != nil || acl.ACL != "default" {
		t.Errorf("ACL: %+v, %v", acl, err)
	}
}

func TestConditionsAndRanges(t *testing.T) {
	b := bucket(t, start(t, ossserver.Config{}))
	if err := b.PutObject("r", strings.NewReader("0123456789")); err != nil {
		t.Fatal(err)
	}
	for rng, want := range map[string]string{"0-3": "0123", "4-": "456789", "-2": "89", "9-100": "9", "100-200": "0123456789", "3-1": "0123456789"} {
		if got := get(t, b, "r", oss.NormalizedRange(rng)); got != want {
			t.Errorf("range %s is %q, want %q", rng, got, want)
		}
	}
	_, err := b.GetObject("r", oss.NormalizedRange("100-200"), oss.RangeBehavior("standard"))
	wantStatus(t, err, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
	h, err := b.GetObjectDetailedMeta("r")
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.GetObject("r", oss.IfNoneMatch(h.Get("Etag")))
	if err == nil || !strings.Contains(err.Error(), "304") {
		t.Errorf("If-None-Match: %v", err)
	}
	_, err = b.GetObject("r", oss.IfMatch(`"X"`))
	wantStatus(t, err, http.StatusPreconditionFailed, "PreconditionFailed")
	if got := get(t, b, "r", oss.IfMatch(strings.Trim(h.Get("Etag"), `"`))); got != "0123456789" {
		t.Errorf("an unquoted If-Match: %q", got)
	}
	wantStatus(t, b.PutObject("r", strings.NewReader("x"), oss.ForbidOverWrite(true)), http.StatusConflict, "FileAlreadyExists")
	wantStatus(t, b.PutObject("r", strings.NewReader("x"), oss.ContentMD5("XUFAKrxLKna5cZ2REBfFkg==")), http.StatusBadRequest, "InvalidDigest")
	ctx, cancel := context.WithCancel(t.Context())
	broken := io.MultiReader(strings.NewReader(strings.Repeat("x", 300_000)), cancelReader{cancel})
	if err := b.PutObject("r", broken, oss.WithContext(ctx)); err == nil {
		t.Error("a broken put succeeded")
	}
	if got := get(t, b, "r"); got != "0123456789" {
		t.Errorf("after failed puts it is %q", got)
	}
}

type cancelReader struct{ cancel context.CancelFunc }

func (c cancelReader) Read([]byte) (int, error) {
	c.cancel()
	return 0, io.ErrClosedPipe
}

func TestListings(t *testing.T) {
	b := bucket(t, start(t, ossserver.Config{}))
	var want []string
	for i := range 25 {
		want = append(want, fmt.Sprintf("ls/%02d 中+%%&", i), fmt.Sprintf("ls/sub%d/x y", i%4))
	}
	slices.Sort(want)
	want = slices.Compact(want)
	for _, key := range want {
		if err := b.PutObject(key, strings.NewReader(key)); err != nil {
			t.Fatal(err)
		}
	}
	var v1, v2 []string
	for marker := ""; ; {
		l, err := b.ListObjects(oss.Prefix("ls/"), oss.MaxKeys(7), oss.Marker(marker))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range l.Objects {
			v1 = append(v1, o.Key)
			if o.Size != int64(len(o.Key)) || o.Type != "Normal" || o.LastModified.IsZero() {
				t.Errorf("got %+v", o)
			}
		}
		if marker = l.NextMarker; !l.IsTruncated {
			break
		}
	}
	for token := ""; ; {
		l, err := b.ListObjectsV2(oss.Prefix("ls/"), oss.MaxKeys(7), oss.ContinuationToken(token))
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
		t.Errorf("v1 %q\nv2 %q\nwant %q", v1, v2, want)
	}
	l, err := b.ListObjects(oss.Prefix("ls/"), oss.Delimiter("/"))
	if err != nil || len(l.Objects) != 25 || !slices.Equal(l.CommonPrefixes, []string{"ls/sub0/", "ls/sub1/", "ls/sub2/", "ls/sub3/"}) {
		t.Errorf("by folders: %d objects, %q, %v", len(l.Objects), l.CommonPrefixes, err)
	}
	deleted, err := b.DeleteObjects(append(want[:3:3], "not there"))
	if err != nil || len(deleted.DeletedObjects) != 4 {
		t.Errorf("deleted %q, %v", deleted.DeletedObjects, err)
	}
	if ok, _ := b.IsObjectExist(want[0]); ok {
		t.Error("a deleted object is still there")
	}
	buckets, err := b.Client.ListBuckets()
	if err != nil || len(buckets.Buckets) != 1 || buckets.Buckets[0].Name != "lan" {
		t.Errorf("buckets: %+v, %v", buckets, err)
	}
	if info, err := b.Client.GetBucketInfo("lan"); err != nil || info.BucketInfo.Name != "lan" || info.BucketInfo.ACL != "private" {
		t.Errorf("info: %+v, %v", info, err)
	}
	if loc, err := b.Client.GetBucketLocation("lan"); err != nil || loc == "" {
		t.Errorf("location: %q, %v", loc, err)
	}
	if ok, err := b.Client.IsBucketExist("lan"); err != nil || !ok {
		t.Errorf("exists: %v, %v", ok, err)
	}
	_, err = b.Client.GetBucketInfo("another")
	wantStatus(t, err, http.StatusNotFound, "NoSuchBucket")
	_, err = b.Client.GetBucketLifecycle("lan")
	wantStatus(t, err, http.StatusNotImplemented, "NotImplemented")
}

func TestMultipart(t *testing.T) {
	b := bucket(t, start(t, ossserver.Config{}))
	dir := t.TempDir()
	data := make([]byte, 3<<20+12345)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	file := filepath.Join(dir, "up")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.UploadFile("big", file, 256<<10, oss.Routines(4), oss.Checkpoint(true, "")); err != nil {
		t.Fatal(err)
	}
	down := filepath.Join(dir, "down")
	if err := b.DownloadFile("big", down, 300<<10, oss.Routines(3)); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(down)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
		t.Errorf("it came back as %d other bytes, %v", len(got), err)
	}
	if got := get(t, b, "big"); got != string(data) { // whole: the SDK checks the CRC
		t.Error("a plain get has other bytes")
	}

	u, err := b.InitiateMultipartUpload("parts", oss.Meta("who", "me"))
	if err != nil {
		t.Fatal(err)
	}
	var parts []oss.UploadPart
	for i, n := range []int{1, 2} {
		p, err := b.UploadPart(u, bytes.NewReader(data[i*200_000:(i+1)*200_000]), 200_000, n)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
	}
	if l, err := b.ListUploadedParts(u); err != nil || len(l.UploadedParts) != 2 || l.UploadedParts[1].Size != 200_000 {
		t.Errorf("parts: %+v, %v", l, err)
	}
	if l, err := b.ListMultipartUploads(); err != nil || len(l.Uploads) != 1 || l.Uploads[0].Key != "parts" {
		t.Errorf("uploads: %+v, %v", l, err)
	}
	_, err = b.CompleteMultipartUpload(u, []oss.UploadPart{{PartNumber: 1, ETag: parts[1].ETag}})
	wantStatus(t, err, http.StatusBadRequest, "InvalidPart")
	done, err := b.CompleteMultipartUpload(u, parts)
	if err != nil || !strings.HasSuffix(strings.Trim(done.ETag, `"`), "-2") {
		t.Fatalf("complete: %+v, %v", done, err)
	}
	if got := get(t, b, "parts"); got != string(data[:400_000]) {
		t.Error("the parts are not the object")
	}
	if again, err := b.CompleteMultipartUpload(u, parts); err != nil || again.ETag != done.ETag { // its answer may have been lost
		t.Errorf("completed again: %+v, %v", again, err)
	}
	if u, err = b.InitiateMultipartUpload("aborted"); err != nil {
		t.Fatal(err)
	}
	if err := b.AbortMultipartUpload(u); err != nil {
		t.Error(err)
	}
	_, err = b.ListUploadedParts(u)
	wantStatus(t, err, http.StatusNotFound, "NoSuchUpload")
}

func TestSignedURLs(t *testing.T) {
	url := start(t, ossserver.Config{})
	for _, opts := range [][]oss.ClientOption{nil, {oss.AuthVersion(oss.AuthV4), oss.Region("lan")}} {
		b := bucket(t, url, opts...)
		put, err := b.SignURL("s p/中", oss.HTTPPut, 60)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.PutObjectWithURL(put, strings.NewReader("by URL")); err != nil {
			t.Fatal(err)
		}
		signed, err := b.SignURL("s p/中", oss.HTTPGet, 60)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Get(signed)
		if err != nil {
			t.Fatal(err)
		}
		if got := content(t, resp.Body, nil); got != "by URL" {
			t.Errorf("got %s", got)
		}
		resp, err = http.Get(strings.Replace(signed, "s%20p", "other", 1))
		if err != nil {
			t.Fatal(err)
		}
		if got := content(t, resp.Body, nil); resp.StatusCode != http.StatusForbidden || !strings.Contains(got, "<Code>SignatureDoesNotMatch</Code>") {
			t.Errorf("for another object: %s, %s", resp.Status, got)
		}
	}
	resp, err := http.Get(url + "/lan/x")
	if err != nil {
		t.Fatal(err)
	}
	if got := content(t, resp.Body, nil); resp.StatusCode != http.StatusForbidden || !strings.Contains(got, "AccessDenied") || strings.Contains(got, "xmlns") {
		t.Errorf("unsigned: %s, %s", resp.Status, got)
	}
}

// What keys may do, and how much there may be.
func TestPermissionsAndLimits(t *testing.T) {
	b := bucket(t, start(t, ossserver.Config{MaxObject: 1000, Quota: 2500, Allow: func(id, key string, write bool) bool {
		return !write || strings.HasPrefix(key, "mine/")
	}}))
	if err := b.PutObject("mine/a", strings.NewReader(strings.Repeat("x", 1000))); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, b.PutObject("yours", strings.NewReader("x")), http.StatusForbidden, "AccessDenied")
	wantStatus(t, b.DeleteObject("yours"), http.StatusForbidden, "AccessDenied")
	_, err := b.DeleteObjects([]string{"mine/a", "yours"})
	wantStatus(t, err, http.StatusForbidden, "AccessDenied")
	wantStatus(t, b.PutObject("mine/b", strings.NewReader(strings.Repeat("x", 1001))), http.StatusBadRequest, "EntityTooLarge")
	if err := b.PutObject("mine/b", strings.NewReader(strings.Repeat("x", 1000))); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, b.PutObject("mine/c", strings.NewReader(strings.Repeat("x", 501))), http.StatusInsufficientStorage, "InsufficientStorage")
	if got := get(t, b, "mine/a"); len(got) != 1000 {
		t.Errorf("mine/a has %d bytes", len(got))
	}
}

func TestConfigErrors(t *testing.T) {
	for _, cfg := range []ossserver.Config{{}, {Dir: t.TempDir()}, {Dir: t.TempDir(), Bucket: "a/b", Secret: secret}, {Dir: t.TempDir(), Bucket: "b"}, {Dir: "/proc/nope", Bucket: "b", Secret: secret}} {
		if _, err := ossserver.New(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

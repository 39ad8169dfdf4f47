package ossserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v2 "github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/credentials"

	"github.com/crosscomm/crosscomm-go/ossserver"
)

// v2Client is the real Go SDK v2 on the endpoint, with its own defaults if
// nothing changes them: they are V4 and the checking of every CRC.
func v2Client(url string, change ...func(*v2.Config)) *v2.Client {
	cfg := v2.NewConfig().WithEndpoint(url).WithRegion("lan").WithUsePathStyle(true).
		WithCredentialsProvider(credentials.NewStaticCredentialsProvider(keyID, keySecret))
	for _, f := range change {
		f(cfg)
	}
	return v2.NewClient(cfg)
}

func withV1(c *v2.Config) { c.WithSignatureVersion(v2.SignatureVersionV1) }

// onceV2 is for what the SDK would try again, as it does after each status of
// 500 and more.
func onceV2(o *v2.Options) { o.RetryMaxAttempts = v2.Ptr(1) }

// eachV2 runs the test with a client for each way of signing, each on an
// endpoint of its own.
func eachV2(t *testing.T, test func(t *testing.T, c *v2.Client)) {
	for name, change := range map[string]func(*v2.Config){
		"V4": func(*v2.Config) {},
		// V4 signs few headers if it is not told of more.
		"V4 with more headers": func(c *v2.Config) { c.AdditionalHeaders = []string{"range", "user-agent", "cache-control", "if-match"} },
		"V1":                   withV1,
	} {
		t.Run(name, func(t *testing.T) { test(t, v2Client(start(t, ossserver.Config{}), change)) })
	}
}

// lan is the bucket, as the SDK wants it.
var lan = v2.Ptr("lan")

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func putV2(t *testing.T, c *v2.Client, key, text string) *v2.PutObjectResult {
	t.Helper()
	r, err := c.PutObject(t.Context(), &v2.PutObjectRequest{Bucket: lan, Key: &key, Body: strings.NewReader(text)})
	if err != nil {
		t.Fatalf("%q: %v", key, err)
	}
	return r
}

func getV2(t *testing.T, c *v2.Client, key string) string {
	t.Helper()
	r, err := c.GetObject(t.Context(), &v2.GetObjectRequest{Bucket: lan, Key: &key})
	if err != nil {
		t.Fatalf("%q: %v", key, err)
	}
	return content(t, r.Body, nil)
}

func headV2(t *testing.T, c *v2.Client, key string) *v2.HeadObjectResult {
	t.Helper()
	r, err := c.HeadObject(t.Context(), &v2.HeadObjectRequest{Bucket: lan, Key: &key})
	noError(t, err)
	return r
}

// existsV2 also tells whether the SDK understood the answer to its HEAD.
func existsV2(t *testing.T, c *v2.Client, key string) bool {
	t.Helper()
	ok, err := c.IsObjectExist(t.Context(), "lan", key)
	noError(t, err)
	return ok
}

func wantV2(t *testing.T, err error, status int, code string) {
	t.Helper()
	var e *v2.ServiceError
	if !errors.As(err, &e) || e.StatusCode != status || e.Code != code || e.RequestID == "" {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

func TestV2Objects(t *testing.T) {
	eachV2(t, func(t *testing.T, c *v2.Client) {
		for _, key := range []string{"a", "a/", "a/b", "k/a b c.txt", "k/中文/文件 名.txt", "k/plus+plus", "k/100%", "k/%2F%20+", "k/a&b=c?d#e", "k//double", "k/~'()*!;:@$,[]", strings.Repeat("k", 1023)} {
			text := "content of " + key
			putV2(t, c, key, text)
			if got := getV2(t, c, key); got != text {
				t.Errorf("%q is %q", key, got)
			}
			if !existsV2(t, c, key) {
				t.Errorf("%q does not exist", key)
			}
			_, err := c.DeleteObject(t.Context(), &v2.DeleteObjectRequest{Bucket: lan, Key: &key})
			noError(t, err)
			if existsV2(t, c, key) {
				t.Errorf("%q is still there", key)
			}
		}
		if r := putV2(t, c, "empty", ""); v2.ToString(r.ETag) != `"D41D8CD98F00B204E9800998ECF8427E"` || v2.ToString(r.HashCRC64) != "0" {
			t.Errorf("the empty object has the ETag %s and the CRC %s", v2.ToString(r.ETag), v2.ToString(r.HashCRC64))
		}
		if got := getV2(t, c, "empty"); got != "" {
			t.Errorf("the empty object is %q", got)
		}
		// A reader that is nothing else has no length, so it is sent in chunks.
		long := strings.Repeat("0123456789", 20_000)
		_, err := c.PutObject(t.Context(), &v2.PutObjectRequest{Bucket: lan, Key: v2.Ptr("chunked"), Body: io.MultiReader(strings.NewReader(long))})
		noError(t, err)
		if got := getV2(t, c, "chunked"); got != long {
			t.Errorf("of %d bytes in chunks came %d back", len(long), len(got))
		}
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := c.PutObject(ctx, &v2.PutObjectRequest{Bucket: lan, Key: v2.Ptr("chunked"), Body: io.MultiReader(strings.NewReader(long), cancelReader{cancel})}); err == nil {
			t.Error("a broken put succeeded")
		}
		if got := getV2(t, c, "chunked"); got != long {
			t.Error("a broken put has changed the object")
		}
	})
}

func TestV2Errors(t *testing.T) {
	url := start(t, ossserver.Config{MaxObject: 100})
	for name, version := range map[string]func(*v2.Config){"V4": func(*v2.Config) {}, "V1": withV1} {
		t.Run(name, func(t *testing.T) {
			c := v2Client(url, version)
			getErr := func(c *v2.Client, bucket, key string) error {
				_, err := c.GetObject(t.Context(), &v2.GetObjectRequest{Bucket: &bucket, Key: &key})
				return err
			}
			putErr := func(request v2.PutObjectRequest, text string) error {
				request.Bucket, request.Body = lan, strings.NewReader(text)
				_, err := c.PutObject(t.Context(), &request)
				return err
			}
			putV2(t, c, "there", "x")
			wantV2(t, getErr(c, "lan", "missing"), http.StatusNotFound, "NoSuchKey")
			_, err := c.HeadObject(t.Context(), &v2.HeadObjectRequest{Bucket: lan, Key: v2.Ptr("missing")})
			wantV2(t, err, http.StatusNotFound, "NoSuchKey")
			wantV2(t, getErr(c, "another", "there"), http.StatusNotFound, "NoSuchBucket")
			for bucket, want := range map[string]bool{"lan": true, "another": false} {
				if got, err := c.IsBucketExist(t.Context(), bucket); err != nil || got != want {
					t.Errorf("bucket %s: %v, %v", bucket, got, err)
				}
			}
			for _, key := range []string{"../x", "a/../b", "a/.", "a\\..\\b", "a\nb"} {
				wantV2(t, putErr(v2.PutObjectRequest{Key: &key}, "x"), http.StatusBadRequest, "InvalidObjectName")
			}
			wantV2(t, putErr(v2.PutObjectRequest{Key: v2.Ptr("there"), ForbidOverwrite: v2.Ptr("true")}, "y"), http.StatusConflict, "FileAlreadyExists")
			wantV2(t, putErr(v2.PutObjectRequest{Key: v2.Ptr("there"), ContentMD5: v2.Ptr("XUFAKrxLKna5cZ2REBfFkg==")}, "hellx"), http.StatusBadRequest, "InvalidDigest")
			wantV2(t, putErr(v2.PutObjectRequest{Key: v2.Ptr("there")}, strings.Repeat("x", 101)), http.StatusBadRequest, "EntityTooLarge")
			if got := getV2(t, c, "there"); got != "x" {
				t.Errorf("after puts that were refused it is %q", got)
			}

			for code, provider := range map[string]credentials.CredentialsProvider{
				"SignatureDoesNotMatch": credentials.NewStaticCredentialsProvider(keyID, keySecret+"x"),
				"InvalidAccessKeyId":    credentials.NewStaticCredentialsProvider(keyID+"x", keySecret),
				"AccessDenied":          credentials.NewAnonymousCredentialsProvider(),
			} {
				stranger := v2Client(url, version, func(c *v2.Config) { c.WithCredentialsProvider(provider) })
				wantV2(t, getErr(stranger, "lan", "there"), http.StatusForbidden, code)
				_, err := stranger.HeadObject(t.Context(), &v2.HeadObjectRequest{Bucket: lan, Key: v2.Ptr("there")})
				wantV2(t, err, http.StatusForbidden, code)
			}
			// A time of its own keeps the SDK from taking the server's.
			late := v2.RequestCommon{Headers: map[string]string{"x-oss-date": time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)}}
			_, err = c.GetObject(t.Context(), &v2.GetObjectRequest{Bucket: lan, Key: v2.Ptr("there"), RequestCommon: late}, onceV2)
			wantV2(t, err, http.StatusForbidden, "RequestTimeTooSkewed")
		})
	}
}

func TestV2Metadata(t *testing.T) {
	eachV2(t, func(t *testing.T, c *v2.Client) {
		ctx := t.Context()
		_, err := c.PutObject(ctx, &v2.PutObjectRequest{
			Bucket: lan, Key: v2.Ptr("m"), Body: strings.NewReader("x"),
			Metadata:    map[string]string{"Who": "me", "mixed-CASE": "A b", "empty-is-not-sent": ""},
			ContentType: v2.Ptr("image/png"), CacheControl: v2.Ptr("no-cache"), ContentDisposition: v2.Ptr(`attachment; filename="a b"`),
		})
		noError(t, err)
		h := headV2(t, c, "m")
		if len(h.Metadata) != 2 || h.Metadata["who"] != "me" || h.Metadata["mixed-case"] != "A b" {
			t.Errorf("metadata: %q", h.Metadata)
		}
		if h.ContentLength != 1 || v2.ToString(h.ETag) != `"9DD4E461268C8034F5C8564E155C67A6"` || v2.ToString(h.ContentType) != "image/png" || v2.ToString(h.CacheControl) != "no-cache" || v2.ToString(h.ContentDisposition) != `attachment; filename="a b"` || v2.ToString(h.ObjectType) != "Normal" || time.Since(v2.ToTime(h.LastModified)).Abs() > time.Minute {
			t.Errorf("head: %+v", h.Headers)
		}
		meta, err := c.GetObjectMeta(ctx, &v2.GetObjectMetaRequest{Bucket: lan, Key: v2.Ptr("m")})
		if err != nil || meta.ContentLength != 1 || v2.ToString(meta.ETag) != v2.ToString(h.ETag) || meta.Headers.Get("X-Oss-Meta-Who") != "" {
			t.Errorf("meta: %+v, %v", meta, err)
		}
		copied, err := c.CopyObject(ctx, &v2.CopyObjectRequest{Bucket: lan, Key: v2.Ptr("c o+p%y/中"), SourceKey: v2.Ptr("m")})
		if err != nil || v2.ToString(copied.ETag) != v2.ToString(h.ETag) || copied.LastModified == nil {
			t.Fatalf("copy: %+v, %v", copied, err)
		}
		if h := headV2(t, c, "c o+p%y/中"); h.Metadata["who"] != "me" || v2.ToString(h.ContentType) != "image/png" {
			t.Errorf("the copy has %q", h.Headers)
		}
		_, err = c.CopyObject(ctx, &v2.CopyObjectRequest{Bucket: lan, Key: v2.Ptr("m2"), SourceKey: v2.Ptr("c o+p%y/中"), MetadataDirective: v2.Ptr("REPLACE"), Metadata: map[string]string{"who": "you"}})
		noError(t, err)
		if h := headV2(t, c, "m2"); len(h.Metadata) != 1 || h.Metadata["who"] != "you" || v2.ToString(h.CacheControl) != "" {
			t.Errorf("the copy with other metadata has %q", h.Headers)
		}
		_, err = c.CopyObject(ctx, &v2.CopyObjectRequest{Bucket: lan, Key: v2.Ptr("m3"), SourceKey: v2.Ptr("missing")})
		wantV2(t, err, http.StatusNotFound, "NoSuchKey")
		if _, err := c.NewCopier().Copy(ctx, &v2.CopyObjectRequest{Bucket: lan, Key: v2.Ptr("m4"), SourceKey: v2.Ptr("m")}); err != nil {
			t.Error(err)
		} else if h := headV2(t, c, "m4"); h.Metadata["who"] != "me" {
			t.Errorf("the Copier's copy has %q", h.Headers)
		}

		got, err := c.GetObject(ctx, &v2.GetObjectRequest{Bucket: lan, Key: v2.Ptr("m"), IfMatch: h.ETag, ResponseContentType: v2.Ptr("a/b"), ResponseContentDisposition: v2.Ptr("attachment; filename=x 中.txt")})
		noError(t, err)
		if content(t, got.Body, nil) != "x" || v2.ToString(got.ContentType) != "a/b" || got.Headers.Get("Content-Disposition") != "attachment; filename=x 中.txt" || got.Metadata["who"] != "me" {
			t.Errorf("overridden headers: %q", got.Headers)
		}
		_, err = c.GetObject(ctx, &v2.GetObjectRequest{Bucket: lan, Key: v2.Ptr("m"), IfMatch: v2.Ptr(`"X"`)})
		wantV2(t, err, http.StatusPreconditionFailed, "PreconditionFailed")
		_, err = c.GetObject(ctx, &v2.GetObjectRequest{Bucket: lan, Key: v2.Ptr("m"), IfNoneMatch: h.ETag})
		wantV2(t, err, http.StatusNotModified, "BadErrorResponse") // so the SDK calls an error without a body
		if acl, err := c.GetObjectAcl(ctx, &v2.GetObjectAclRequest{Bucket: lan, Key: v2.Ptr("m")}); err != nil || v2.ToString(acl.ACL) != "default" {
			t.Errorf("ACL: %+v, %v", acl, err)
		}
	})
}

func TestV2Ranges(t *testing.T) {
	eachV2(t, func(t *testing.T, c *v2.Client) {
		key := v2.Ptr("r")
		putV2(t, c, *key, "0123456789")
		for rng, want := range map[string][2]string{
			"bytes=0-3": {"0123", "bytes 0-3/10"}, "bytes=4-": {"456789", "bytes 4-9/10"}, "bytes=-2": {"89", "bytes 8-9/10"},
			"bytes=9-100": {"9", "bytes 9-9/10"}, "bytes=100-200": {"0123456789", ""}, "bytes=3-1": {"0123456789", ""},
		} {
			r, err := c.GetObject(t.Context(), &v2.GetObjectRequest{Bucket: lan, Key: key, Range: &rng})
			noError(t, err)
			if got := content(t, r.Body, nil); got != want[0] || v2.ToString(r.ContentRange) != want[1] || r.ContentLength != int64(len(got)) {
				t.Errorf("range %s is %q, %q, %d bytes, want %q", rng, got, v2.ToString(r.ContentRange), r.ContentLength, want)
			}
		}
		_, err := c.GetObject(t.Context(), &v2.GetObjectRequest{Bucket: lan, Key: key, Range: v2.Ptr("bytes=100-200"), RangeBehavior: v2.Ptr("standard")})
		wantV2(t, err, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
	})
}

func TestV2Listings(t *testing.T) {
	eachV2(t, func(t *testing.T, c *v2.Client) {
		prefix, ctx := v2.Ptr("ls/"), t.Context()
		var want []string
		for i := range 25 {
			want = append(want, fmt.Sprintf("ls/%02d 中+%%&<", i))
		}
		folders := []string{"ls/sub +/", "ls/sub%20/", "ls/sub中/"}
		for _, f := range folders {
			want = append(want, f+"x y", f+"z")
		}
		slices.Sort(want)
		for _, key := range want {
			putV2(t, c, key, key)
		}
		putV2(t, c, "other", "x")

		// A page has 7 entries, so that the folders begin on one and end on the
		// next.
		limit := func(o *v2.PaginatorOptions) { o.Limit = 7 }
		add := func(keys, folders *[]string, objects []v2.ObjectProperties, prefixes []v2.CommonPrefix) {
			if len(objects)+len(prefixes) > 7 {
				t.Errorf("%d keys and %d folders on one page", len(objects), len(prefixes))
			}
			for _, o := range objects {
				*keys = append(*keys, v2.ToString(o.Key))
				if o.Size != int64(len(v2.ToString(o.Key))) || v2.ToString(o.Type) != "Normal" || o.LastModified == nil {
					t.Errorf("got %+v", o)
				}
			}
			for _, p := range prefixes {
				*folders = append(*folders, v2.ToString(p.Prefix))
			}
		}
		pages := func(delimiter *string) (keys1, folders1, keys2, folders2 []string) {
			for p := c.NewListObjectsPaginator(&v2.ListObjectsRequest{Bucket: lan, Prefix: prefix, Delimiter: delimiter}, limit); p.HasNext(); {
				l, err := p.NextPage(ctx)
				noError(t, err)
				add(&keys1, &folders1, l.Contents, l.CommonPrefixes)
			}
			for p := c.NewListObjectsV2Paginator(&v2.ListObjectsV2Request{Bucket: lan, Prefix: prefix, Delimiter: delimiter}, limit); p.HasNext(); {
				l, err := p.NextPage(ctx)
				noError(t, err)
				add(&keys2, &folders2, l.Contents, l.CommonPrefixes)
				if l.KeyCount != len(l.Contents)+len(l.CommonPrefixes) {
					t.Errorf("KeyCount %d of %+v", l.KeyCount, l)
				}
			}
			return keys1, folders1, keys2, folders2
		}
		k1, f1, k2, f2 := pages(nil)
		if !slices.Equal(k1, want) || !slices.Equal(k2, want) || len(f1)+len(f2) > 0 {
			t.Errorf("all: %q %q\n%q %q\nwant %q", k1, f1, k2, f2, want)
		}
		k1, f1, k2, f2 = pages(v2.Ptr("/"))
		if !slices.Equal(k1, want[:25]) || !slices.Equal(k2, want[:25]) || !slices.Equal(f1, folders) || !slices.Equal(f2, folders) {
			t.Errorf("by folders: %q %q\n%q %q\nwant %q", k1, f1, k2, f2, folders)
		}
		l, err := c.ListObjectsV2(ctx, &v2.ListObjectsV2Request{Bucket: lan, StartAfter: &want[24], Prefix: prefix, FetchOwner: true, MaxKeys: 2})
		if err != nil || !l.IsTruncated || len(l.Contents) != 2 || v2.ToString(l.Contents[0].Key) != want[25] || l.Contents[0].Owner == nil || v2.ToString(l.StartAfter) != want[24] {
			t.Errorf("after %q: %+v, %v", want[24], l, err)
		}

		deleted, err := c.DeleteMultipleObjects(ctx, &v2.DeleteMultipleObjectsRequest{Bucket: lan, EncodingType: v2.Ptr("url"), Delete: &v2.Delete{Objects: []v2.ObjectIdentifier{{Key: &want[0]}, {Key: &want[26]}, {Key: v2.Ptr("not & there")}}}})
		if err != nil || len(deleted.DeletedObjects) != 3 || v2.ToString(deleted.DeletedObjects[0].Key) != want[0] || v2.ToString(deleted.DeletedObjects[2].Key) != "not & there" {
			t.Fatalf("deleted %+v, %v", deleted, err)
		}
		quiet, err := c.DeleteMultipleObjects(ctx, &v2.DeleteMultipleObjectsRequest{Bucket: lan, Delete: &v2.Delete{Objects: []v2.ObjectIdentifier{{Key: &want[1]}}, Quiet: true}})
		if err != nil || len(quiet.DeletedObjects) != 0 {
			t.Fatalf("quietly deleted %+v, %v", quiet, err)
		}
		if k, _, _, _ := pages(nil); !slices.Equal(k, slices.Concat(want[2:26], want[27:])) {
			t.Errorf("after deleting there are %q", k)
		}
		buckets, err := c.ListBuckets(ctx, &v2.ListBucketsRequest{})
		if err != nil || len(buckets.Buckets) != 1 || v2.ToString(buckets.Buckets[0].Name) != "lan" {
			t.Errorf("buckets: %+v, %v", buckets, err)
		}
		if info, err := c.GetBucketInfo(ctx, &v2.GetBucketInfoRequest{Bucket: lan}); err != nil || v2.ToString(info.BucketInfo.Name) != "lan" || v2.ToString(info.BucketInfo.ACL) != "private" {
			t.Errorf("info: %+v, %v", info, err)
		}
		_, err = c.GetBucketVersioning(ctx, &v2.GetBucketVersioningRequest{Bucket: lan}, onceV2)
		wantV2(t, err, http.StatusNotImplemented, "NotImplemented")
	})
}

func TestV2Multipart(t *testing.T) {
	data := make([]byte, 2<<20+12345)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data) // never fails
	eachV2(t, func(t *testing.T, c *v2.Client) {
		ctx, dir := t.Context(), t.TempDir()
		file := filepath.Join(dir, "up 文.png")
		noError(t, os.WriteFile(file, data, 0o600))
		// Each part is 256 KiB: 9 of them.
		up := c.NewUploader(func(o *v2.UploaderOptions) { o.PartSize, o.ParallelNum = 256<<10, 4 })
		checked := func(key string, r *v2.UploadResult, err error) {
			t.Helper()
			if err != nil || !strings.HasSuffix(v2.ToString(r.ETag), `-9"`) || v2.ToString(r.HashCRC64) == "" {
				t.Fatalf("%s: %+v, %v", key, r, err)
			}
			if getV2(t, c, key) != string(data) {
				t.Errorf("%s has other bytes", key)
			}
		}
		r, err := up.UploadFile(ctx, &v2.PutObjectRequest{Bucket: lan, Key: v2.Ptr("big 文+%"), Metadata: map[string]string{"Who": "me"}}, file, func(o *v2.UploaderOptions) { o.EnableCheckpoint, o.CheckpointDir = true, dir })
		checked("big 文+%", r, err)
		if h := headV2(t, c, "big 文+%"); h.Metadata["who"] != "me" || v2.ToString(h.ObjectType) != "Multipart" || v2.ToString(h.ContentType) != "image/png" {
			t.Errorf("head: %+v", h)
		}
		r, err = up.UploadFrom(ctx, &v2.PutObjectRequest{Bucket: lan, Key: v2.Ptr("from")}, io.MultiReader(bytes.NewReader(data)))
		checked("from", r, err)

		down := c.NewDownloader(func(o *v2.DownloaderOptions) { o.PartSize, o.ParallelNum = 300<<10, 3 })
		target := filepath.Join(dir, "down")
		if n, err := down.DownloadFile(ctx, &v2.GetObjectRequest{Bucket: lan, Key: v2.Ptr("big 文+%")}, target); err != nil || n.Written != int64(len(data)) {
			t.Fatalf("%+v, %v", n, err)
		}
		if got, err := os.ReadFile(target); err != nil || !bytes.Equal(got, data) {
			t.Errorf("it came back as %d other bytes, %v", len(got), err)
		}
		opened, err := c.OpenFile(ctx, "lan", "from")
		noError(t, err)
		_, err = opened.Seek(1_000_000, io.SeekStart)
		if got := content(t, opened, err); got != string(data[1_000_000:]) {
			t.Errorf("from the middle come %d other bytes", len(got))
		}

		key := v2.Ptr("parts +")
		u, err := c.InitiateMultipartUpload(ctx, &v2.InitiateMultipartUploadRequest{Bucket: lan, Key: key})
		if err != nil || v2.ToString(u.Key) != *key {
			t.Fatalf("%+v, %v", u, err)
		}
		var parts []v2.UploadPart
		for n := int32(1); n <= 3; n++ {
			p, err := c.UploadPart(ctx, &v2.UploadPartRequest{Bucket: lan, Key: key, UploadId: u.UploadId, PartNumber: n, Body: bytes.NewReader(data[(n-1)*150_000 : n*150_000])})
			noError(t, err)
			parts = append(parts, v2.UploadPart{PartNumber: n, ETag: p.ETag})
		}
		var sizes []int64
		for p := c.NewListPartsPaginator(&v2.ListPartsRequest{Bucket: lan, Key: key, UploadId: u.UploadId, MaxParts: 2}); p.HasNext(); {
			l, err := p.NextPage(ctx)
			noError(t, err)
			for _, part := range l.Parts {
				sizes = append(sizes, part.Size)
			}
		}
		if !slices.Equal(sizes, []int64{150_000, 150_000, 150_000}) {
			t.Errorf("parts: %v", sizes)
		}
		if l, err := c.ListMultipartUploads(ctx, &v2.ListMultipartUploadsRequest{Bucket: lan}); err != nil || len(l.Uploads) != 1 || v2.ToString(l.Uploads[0].Key) != *key || l.Uploads[0].Initiated == nil {
			t.Errorf("uploads: %+v, %v", l, err)
		}
		complete := func(parts ...v2.UploadPart) (*v2.CompleteMultipartUploadResult, error) {
			return c.CompleteMultipartUpload(ctx, &v2.CompleteMultipartUploadRequest{Bucket: lan, Key: key, UploadId: u.UploadId, CompleteMultipartUpload: &v2.CompleteMultipartUpload{Parts: parts}})
		}
		_, err = complete(parts[0], v2.UploadPart{PartNumber: 2, ETag: parts[2].ETag})
		wantV2(t, err, http.StatusBadRequest, "InvalidPart")
		done, err := complete(parts...)
		if err != nil || v2.ToString(done.Key) != *key || !strings.HasSuffix(v2.ToString(done.ETag), `-3"`) {
			t.Fatalf("%+v, %v", done, err)
		}
		if getV2(t, c, *key) != string(data[:450_000]) {
			t.Error("the parts are not the object")
		}
		if again, err := complete(parts...); err != nil || v2.ToString(again.ETag) != v2.ToString(done.ETag) { // its answer may have been lost
			t.Errorf("completed again: %+v, %v", again, err)
		}
		u, err = c.InitiateMultipartUpload(ctx, &v2.InitiateMultipartUploadRequest{Bucket: lan, Key: key})
		noError(t, err)
		_, err = c.AbortMultipartUpload(ctx, &v2.AbortMultipartUploadRequest{Bucket: lan, Key: key, UploadId: u.UploadId})
		noError(t, err)
		_, err = c.ListParts(ctx, &v2.ListPartsRequest{Bucket: lan, Key: key, UploadId: u.UploadId})
		wantV2(t, err, http.StatusNotFound, "NoSuchUpload")
	})
}

func TestV2SignedURLs(t *testing.T) {
	url := start(t, ossserver.Config{})
	for sign, change := range map[string]func(*v2.Config){"x-oss-signature=": func(*v2.Config) {}, "&Signature=": withV1} {
		c := v2Client(url, change)
		key, minute := v2.Ptr("s p/中+%"), v2.PresignExpires(time.Minute)
		presign := func(request any, expires func(*v2.PresignOptions)) *v2.PresignResult {
			t.Helper()
			// What is signed must tell V4 and V1 apart, or V4 was tested twice.
			p, err := c.Presign(t.Context(), request, expires)
			if err != nil || !strings.Contains(p.URL, sign) {
				t.Fatalf("%+v, %v; want %s in it", p, err, sign)
			}
			return p
		}
		do := func(p *v2.PresignResult, url, body string, header map[string]string) (int, string) {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), p.Method, url, strings.NewReader(body))
			noError(t, err)
			for name, value := range header {
				req.Header.Set(name, value)
			}
			resp, err := http.DefaultClient.Do(req)
			noError(t, err)
			return resp.StatusCode, content(t, resp.Body, nil)
		}
		refused := func(what, code string) func(int, string) {
			return func(status int, text string) {
				t.Helper()
				if status != http.StatusForbidden || !strings.Contains(text, "<Code>"+code+"</Code>") {
					t.Errorf("%s %s: %d, %s", sign, what, status, text)
				}
			}
		}
		put := presign(&v2.PutObjectRequest{Bucket: lan, Key: key, ContentType: v2.Ptr("text/plain"), Metadata: map[string]string{"who": "me"}}, minute)
		if len(put.SignedHeaders) < 2 {
			t.Errorf("the signed headers are %q", put.SignedHeaders)
		}
		refused("without its signed headers", "SignatureDoesNotMatch")(do(put, put.URL, "by URL", nil))
		if status, text := do(put, put.URL, "by URL", put.SignedHeaders); status != http.StatusOK {
			t.Fatalf("put: %d, %s", status, text)
		}
		if h := headV2(t, c, *key); h.Metadata["who"] != "me" || v2.ToString(h.ContentType) != "text/plain" {
			t.Errorf("head: %+v", h)
		}
		get := presign(&v2.GetObjectRequest{Bucket: lan, Key: key, ResponseContentType: v2.Ptr("a/b c")}, minute)
		if status, text := do(get, get.URL, "", nil); status != http.StatusOK || text != "by URL" {
			t.Errorf("get: %d, %s", status, text)
		}
		refused("for another object", "SignatureDoesNotMatch")(do(get, strings.Replace(get.URL, "s%20p", "other", 1), "", nil))
		refused("for another method", "SignatureDoesNotMatch")(do(put, get.URL, "x", nil))
		expired := presign(&v2.GetObjectRequest{Bucket: lan, Key: key}, v2.PresignExpiration(time.Now().Add(-time.Minute)))
		refused("of a minute ago", "AccessDenied")(do(expired, expired.URL, "", nil))
	}
}

package ossserver_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	v2 "github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/crosscomm/crosscomm-go/ossserver"
)

// What OSS can do and this endpoint cannot is never taken for another thing.
func TestSubresources(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	ask(e, "PUT", "/lan/k", "hello", nil)
	methods := []string{"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"}
	foreign := []string{
		"accessmonitor", "accessPoint", "append&position=0", "asyncFetch", "callback=x", "cname", "cname&comp=add", "cors", "encryption",
		"httpsConfig", "inventory", "inventory&inventoryId=1", "lifecycle", "live", "logging", "metaQuery", "policy", "policyStatus",
		"publicAccessBlock", "qos", "qosInfo", "referer", "replication", "replication&comp=add", "replicationLocation", "requestPayment", "resourceGroup",
		"restore", "stat", "style&styleName=s", "symlink", "tagging", "transferAcceleration", "versioning", "versions", "versionId=1", "vod",
		"website", "worm", "worm&wormId=1", "x-oss-process=image/resize", "x-oss-async-process=x", "anything", "select", "sequential",
		"x-oss-rename=old", "x-oss-delete=", "seal", "x-oss-traffic-limit",
		// A value makes no other thing of them.
		"accessmonitor=1", "cors=1", "inventory=1", "requestPayment=1", "stat=1", "stat=", "symlink=1", "tagging=1", "versioning=1",
		"website=1", "worm=1", "regionList=1",
	}
	for _, target := range []string{"/", "/lan", "/lan/k", "/lan/new"} {
		for _, method := range methods {
			for _, query := range foreign {
				w := ask(e, method, target+"?"+query, "", nil)
				if w.Code != http.StatusNotImplemented || method != "HEAD" && !strings.Contains(w.Body.String(), "<Code>NotImplemented</Code>") {
					t.Errorf("%s %s?%s: %d %s", method, target, query, w.Code, w.Body)
				}
			}
		}
	}
	for _, c := range []struct {
		method, target string
		want           int
	}{
		{"DELETE", "/lan/k?acl", http.StatusNotImplemented}, // and not the object
		{"PUT", "/lan/k?acl", http.StatusNotImplemented},
		{"PUT", "/lan/k?objectMeta", http.StatusNotImplemented},
		{"DELETE", "/lan/k?objectMeta", http.StatusNotImplemented},
		{"PUT", "/lan/k?partNumber=1", http.StatusNotImplemented},
		{"GET", "/lan/k?uploads", http.StatusNotImplemented},
		{"GET", "/lan/k?bucketInfo", http.StatusNotImplemented},
		{"GET", "/lan?objectMeta", http.StatusNotImplemented},
		{"GET", "/lan?delete", http.StatusNotImplemented},
		{"PUT", "/lan", http.StatusNotImplemented},
		{"DELETE", "/lan", http.StatusNotImplemented},
		{"POST", "/", http.StatusNotImplemented},
		{"GET", "/?acl", http.StatusNotImplemented},
		// What is known elsewhere is not known here, with a value neither.
		{"GET", "/?uploads=1", http.StatusNotImplemented},
		{"GET", "/lan?uploadId=1", http.StatusNotImplemented},
		{"PUT", "/lan/k?delete=1", http.StatusNotImplemented},
		{"DELETE", "/lan/k?location=1", http.StatusNotImplemented},
		{"DELETE", "/lan/k?stat=1", http.StatusNotImplemented},
		{"PATCH", "/lan/k", http.StatusNotImplemented},
		{"OPTIONS", "/lan", http.StatusNotImplemented},
		{"DELETE", "/", http.StatusNotImplemented},
		// Real OSS ignores what others have put into a URL.
		{"GET", "/lan/k?utm_source=mail", http.StatusOK},
		{"GET", "/lan/k?x-oss-traffic-limit=819200", http.StatusOK},
		{"GET", "/lan/k?x-oss-request-payer=requester&continuation-token=x", http.StatusOK},
		{"GET", "/lan/k?acl", http.StatusOK},
		{"HEAD", "/lan/k?objectMeta", http.StatusOK},
		{"GET", "/lan?prefix=&marker=&delimiter=&encoding-type=", http.StatusOK},
		{"GET", "/?prefix=&marker=", http.StatusOK},
	} {
		if w := ask(e, c.method, c.target, "", nil); w.Code != c.want {
			t.Errorf("%s %s: %d %s", c.method, c.target, w.Code, w.Body)
		}
	}
	if w := ask(e, "GET", "/lan/k", "", nil); w.Body.String() != "hello" {
		t.Errorf("the object is %q", w.Body)
	}
	if w := ask(e, "GET", "/lan", "", nil); strings.Count(w.Body.String(), "<Contents>") != 1 {
		t.Errorf("the bucket has %s", w.Body)
	}
}

// What an SDK asks for that is not served here is refused as such, and not for
// a signature that nobody here can verify.
func TestForeignOfSDKs(t *testing.T) {
	url := start(t, ossserver.Config{})
	for name, opts := range map[string][]oss.ClientOption{"V1": nil, "V4": {oss.AuthVersion(oss.AuthV4), oss.Region("lan")}} {
		b := bucket(t, url, opts...)
		for call, do := range map[string]func() error{
			"stat":           func() error { _, err := b.Client.GetBucketStat("lan"); return err },
			"qosInfo":        func() error { _, err := b.Client.GetBucketQosInfo("lan"); return err },
			"transfer":       func() error { _, err := b.Client.GetBucketTransferAcc("lan"); return err },
			"metaQuery":      func() error { _, err := b.Client.GetMetaQueryStatus("lan"); return err },
			"responseHeader": func() error { _, err := b.Client.GetBucketResponseHeader("lan"); return err },
			"cloudboxes":     func() error { _, err := b.Client.ListCloudBoxes(); return err },
			"symlink":        func() error { return b.PutSymlink("link", "k") },
			"tagging":        func() error { return b.DeleteObjectTagging("k") },
			"process":        func() error { _, err := b.GetObject("k", oss.Process("image/resize")); return err },
			"asyncProcess":   func() error { _, err := b.AsyncProcessObject("k", "video/convert"); return err },
		} {
			if s, c := status(do()); s != http.StatusNotImplemented || c != "NotImplemented" {
				t.Errorf("%s %s: %d %s", name, call, s, c)
			}
		}
	}
	for name, change := range map[string]func(*v2.Config){"V1": withV1, "V4": func(*v2.Config) {}} {
		c := v2Client(url, change)
		for call, do := range map[string]func() error{
			"accessPoint": func() error {
				_, err := c.ListAccessPoints(t.Context(), &v2.ListAccessPointsRequest{}, onceV2)
				return err
			},
			"policyStatus": func() error {
				_, err := c.GetBucketPolicyStatus(t.Context(), &v2.GetBucketPolicyStatusRequest{Bucket: lan}, onceV2)
				return err
			},
			"worm": func() error {
				_, err := c.GetBucketWorm(t.Context(), &v2.GetBucketWormRequest{Bucket: lan}, onceV2)
				return err
			},
		} {
			var e *v2.ServiceError
			if err := do(); !errors.As(err, &e) || e.StatusCode != http.StatusNotImplemented || e.Code != "NotImplemented" {
				t.Errorf("SDK v2, %s %s: %v", name, call, err)
			}
		}
	}
}

// An answer that says that nothing has changed says since what.
func TestNotModified(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	etag := ask(e, "PUT", "/lan/k", "hello", nil).Header().Get("Etag")
	since := ask(e, "HEAD", "/lan/k", "", nil).Header().Get("Last-Modified")
	for _, method := range []string{"GET", "HEAD"} {
		for _, h := range []http.Header{{"If-None-Match": {etag}}, {"If-Modified-Since": {since}}} {
			w := ask(e, method, "/lan/k", "", h)
			if w.Code != http.StatusNotModified || w.Header().Get("Etag") != etag || w.Header().Get("Last-Modified") != since || w.Body.Len() != 0 {
				t.Errorf("%s %v: %d %v %q", method, h, w.Code, w.Header(), w.Body)
			}
		}
	}
}

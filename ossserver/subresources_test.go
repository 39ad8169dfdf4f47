package ossserver_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go/ossserver"
)

// What OSS can do and this endpoint cannot is never taken for another thing.
func TestSubresources(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	ask(e, "PUT", "/lan/k", "hello", nil)
	methods := []string{"GET", "HEAD", "PUT", "POST", "DELETE"}
	foreign := []string{
		"accessmonitor", "accessPoint", "append&position=0", "asyncFetch", "callback=x", "cname", "cname&comp=add", "cors", "encryption",
		"httpsConfig", "inventory", "inventory&inventoryId=1", "lifecycle", "live", "logging", "metaQuery", "policy", "policyStatus",
		"publicAccessBlock", "qos", "qosInfo", "referer", "replication", "replication&comp=add", "replicationLocation", "requestPayment", "resourceGroup",
		"restore", "stat", "style&styleName=s", "symlink", "tagging", "transferAcceleration", "versioning", "versions", "versionId=1", "vod",
		"website", "worm", "worm&wormId=1", "x-oss-process=image/resize", "x-oss-async-process=x", "anything", "select", "sequential",
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
		// Real OSS ignores what others have put into a URL.
		{"GET", "/lan/k?utm_source=mail", http.StatusOK},
		{"GET", "/lan/k?x-oss-traffic-limit=819200", http.StatusOK},
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

// An answer that says that nothing has changed says since what.
func TestNotModified(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	etag := ask(e, "PUT", "/lan/k", "hello", nil).Header().Get("Etag")
	w := ask(e, "GET", "/lan/k", "", http.Header{"If-None-Match": {etag}})
	if w.Code != http.StatusNotModified || w.Header().Get("Etag") != etag || w.Header().Get("Last-Modified") == "" || w.Body.Len() != 0 {
		t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
	}
}

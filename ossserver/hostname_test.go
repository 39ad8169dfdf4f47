package ossserver_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	v2 "github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"

	"github.com/crosscomm/crosscomm-go/ossserver"
)

// A machine may be called like the bucket: what a request is about is then
// known by its signature, in either style.
func TestHostNameLikeTheBucket(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	web := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, e.addr)
	}}}
	t.Cleanup(web.CloseIdleConnections)
	for name, change := range map[string]func(*v2.Config){"V4": func(*v2.Config) {}, "V1": withV1} {
		for host, pathStyle := range map[string]bool{"lan.local:9898": true, "example.org:9898": false, "local:80": true} {
			t.Run(name+" "+host, func(t *testing.T) {
				c := v2Client("http://"+host, change, func(cfg *v2.Config) {
					cfg.WithUsePathStyle(pathStyle).WithHttpClient(web)
				})
				for _, key := range []string{"k", "lan/k", "lan"} {
					putV2(t, c, key, key+" by "+host)
					if got := getV2(t, c, key); got != key+" by "+host {
						t.Errorf("%s: got %q", key, got)
					}
					signed, err := c.Presign(t.Context(), &v2.GetObjectRequest{Bucket: lan, Key: v2.Ptr(key)})
					noError(t, err)
					resp, err := web.Get(signed.URL)
					noError(t, err)
					text, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || string(text) != key+" by "+host {
						t.Errorf("%s by URL: got %q, %v", key, text, err)
					}
				}
				l, err := c.ListObjectsV2(t.Context(), &v2.ListObjectsV2Request{Bucket: lan})
				noError(t, err)
				if len(l.Contents) != 3 {
					t.Errorf("%d objects", len(l.Contents))
				}
				if pathStyle {
					b, err := c.ListBuckets(t.Context(), &v2.ListBucketsRequest{})
					noError(t, err)
					if len(b.Buckets) != 1 {
						t.Errorf("%d buckets", len(b.Buckets))
					}
				}
			})
		}
	}
	for _, target := range []string{"http://lan.local/lan/k", "http://lan.local/k", "http://lan.local/"} {
		u, err := url.Parse(target)
		noError(t, err)
		resp, err := web.Get(u.String())
		noError(t, err)
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusForbidden || !strings.Contains(string(text), "not signed") {
			t.Errorf("unsigned %s: %s %s, %v", target, resp.Status, text, err)
		}
	}
}

package ossserver_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	v2 "github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/crosscomm/crosscomm-go/ossserver"
)

// webOf is a client for which all names are those of the endpoint.
func webOf(t *testing.T, e *endpoint) *http.Client {
	web := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, e.addr)
	}}}
	t.Cleanup(web.CloseIdleConnections)
	return web
}

// A machine may be called like the bucket: what a request is about is then
// known by its signature, in either style.
func TestHostNameLikeTheBucket(t *testing.T) {
	web := webOf(t, serve(t, ossserver.Config{}, 0))
	for name, change := range map[string]func(*v2.Config){"V4": func(*v2.Config) {}, "V1": withV1} {
		for host, pathStyle := range map[string]bool{"lan.local:9898": true, "example.org:9898": false, "local:80": false} {
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

// The other SDK for Go makes its URLs and signatures by code of its own.
func TestHostNameLikeTheBucketV3(t *testing.T) {
	web := webOf(t, serve(t, ossserver.Config{}, 0))
	for version, auth := range map[string][]oss.ClientOption{"V1": nil, "V4": {oss.AuthVersion(oss.AuthV4), oss.Region("lan")}} {
		// The Host of the third is lan.local, that of the second lan.lan.local.
		for _, c := range []struct {
			host      string
			pathStyle bool
		}{{"lan.local:9898", true}, {"lan.local:9898", false}, {"local:9898", false}} {
			name := fmt.Sprintf("%s %s %t", version, c.host, c.pathStyle)
			t.Run(name, func(t *testing.T) {
				b := bucket(t, "http://"+c.host, append([]oss.ClientOption{oss.HTTPClient(web), oss.ForcePathStyle(c.pathStyle)}, auth...)...)
				for _, key := range []string{"k", "lan/k", "lan"} {
					text := key + " by " + name
					noError(t, b.PutObject(key, strings.NewReader(text)))
					if got := get(t, b, key); got != text {
						t.Errorf("%s: got %q", key, got)
					}
					url, err := b.SignURL(key, oss.HTTPGet, 60)
					noError(t, err)
					r, err := b.GetObjectWithURL(url)
					if got := content(t, r, err); got != text {
						t.Errorf("%s by URL: got %q", key, got)
					}
				}
				l, err := b.ListObjects()
				noError(t, err)
				if len(l.Objects) != 3 {
					t.Errorf("%d objects", len(l.Objects))
				}
				all, err := b.Client.ListBuckets()
				noError(t, err)
				if len(all.Buckets) != 1 {
					t.Errorf("%d buckets", len(all.Buckets))
				}
			})
		}
	}
}

// If the signature is right for no reading, the error is that of the likelier.
func TestHostNameLikeTheBucketWrongly(t *testing.T) {
	e := serve(t, ossserver.Config{}, 0)
	for target, resource := range map[string]string{"/lan": "/lan/", "/lan/k": "/lan/k", "/k": "/lan/k", "/": "/lan/"} {
		r := httptest.NewRequest("GET", "http://lan.local"+target, nil)
		r.RequestURI = target
		r.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
		r.Header.Set("Authorization", "OSS "+keyID+":wrong")
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "<Code>SignatureDoesNotMatch</Code>") || !strings.Contains(w.Body.String(), "&#xA;"+resource+"</StringToSign>") {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
}

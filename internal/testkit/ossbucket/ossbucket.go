// Package ossbucket has the real OSS SDK's client for tests of the server's
// endpoint.
package ossbucket

import (
	"net/http"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/crosscomm/crosscomm-go"
)

// Open returns the bucket as who has this access sees it. Its connections are
// closed when the test ends.
func Open(t testing.TB, access crosscomm.OSSConfig) *oss.Bucket {
	t.Helper()
	web := &http.Client{Transport: &http.Transport{}} // without a proxy
	t.Cleanup(web.CloseIdleConnections)
	client, err := oss.New(access.Endpoint, access.AccessKeyID, access.AccessKeySecret, oss.ForcePathStyle(true), oss.HTTPClient(web))
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := client.Bucket(access.BucketName)
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

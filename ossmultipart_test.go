package crosscomm

import (
	"context"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go/internal/inprocess"
	"github.com/crosscomm/crosscomm-go/internal/partetag"
	"github.com/crosscomm/crosscomm-go/ossserver"
)

// Our endpoint is known by its answers, also when an upload goes on, and makes
// no MD5s for us.
func TestPartsAtOurEndpoint(t *testing.T) {
	server, err := ossserver.New(ossserver.Config{Dir: t.TempDir(), Bucket: "bucket", Secret: func(string) (string, bool) { return "s", true }})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	store, err := newOSSStore(OSSConfig{Endpoint: "http://127.0.0.1", BucketName: "bucket", AccessKeyID: "i", AccessKeySecret: "s"}, inprocess.Transport{Handler: server})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	text := strings.NewReader(strings.Repeat("x", smallPart+1000))
	for _, step := range []string{"begun", "found"} {
		p := &multipartPut{ossStore: store, key: "k", r: text, opts: PutOptions{
			Size: text.Size(), Resumable: true, Progress: func(int64) {}, Checked: func(int64) {},
		}}
		p.allocate()
		if step == "begun" {
			err = p.initiate(ctx)
		} else {
			p.find(ctx)
		}
		if err != nil || !p.ours || p.upload.UploadID == "" {
			t.Fatalf("%s: %v, %v, %+v", step, err, p.ours, p.upload)
		}
		if err := p.put(ctx, 2); err != nil {
			t.Fatal(err)
		}
		if got := strings.Trim(p.parts[1].ETag, `"`); got != partetag.Of(p.sums[1], 1000) {
			t.Errorf("%s: the ETag is %s", step, got)
		}
	}
	if err := store.abortUploads(ctx, "k"); err != nil {
		t.Error(err)
	}
	p := &multipartPut{ossStore: store, key: "k"}
	if p.find(ctx); p.upload.UploadID != "" {
		t.Error("an aborted upload is found")
	}
}

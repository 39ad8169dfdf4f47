package main

import (
	"context"
	"fmt"
	"os"

	"github.com/crosscomm/crosscomm-go"
)

type downloadCommand struct {
	clientFlags
	Key     string  `arg:"" help:"The key of the image, the file or the folder: the oss_key of its message."`
	Dir     content `arg:"" help:"The directory to download it to; made if it is missing."`
	JSON    bool    `name:"json" help:"Print events, one JSON object a line."`
	Timeout seconds `help:"How long to try to log in (10s without it), and how long the download may make no progress (1m)." placeholder:"DURATION"`
}

// Help is shown by kong.
func (downloadCommand) Help() string {
	return `It prints the path of what was downloaded: in the directory, under the whole key. What was cut before goes on where it stopped.

It logs in to ask the server for its store, unless OSS_ENDPOINT, OSS_BUCKET_NAME, OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET are set, in the environment or in .env: then no server is needed.

Example:
  crosscomm download --server 192.168.1.10:9898 cross_comm/robot-7/1700000000000_0a1b2c3d.jpg photos

With --json it prints {"event": "progress", "op": "download", "key": …, "path": …, "bytes": …, "total": …, "file": …, "files": …, "done": …}, with "error" if it has failed, and at last {"event": "downloaded", "path": …}.`
}

// Run is called by kong.
func (c downloadCommand) Run(ctx context.Context, con console) error {
	report, out, con := newReporter(con, c.JSON)
	cfg, done, err := c.config(con.stderr)
	if err != nil {
		return err
	}
	defer done()
	if c.Key == "" || c.Dir.text == "" {
		return usageError{"the key and the directory must not be empty"}
	}
	// What is wrong with it is better told before the login.
	if err := os.MkdirAll(c.Dir.text, 0o777); err != nil {
		return err
	}
	cfg.OnProgress = report.report
	svc, err := crosscomm.New(cfg)
	if err != nil {
		return usageError{err.Error()}
	}
	if !hasStore(svc.Config().OSS) {
		if err := loginTo(ctx, svc, c.Timeout.or(messageTimeout)); err != nil {
			return err
		}
	}
	path, err := c.download(ctx, svc, report)
	logout(svc)
	report.close()
	switch {
	case err != nil:
		return err
	case c.JSON:
		out.event("downloaded", "path", path)
	default:
		out.line("%s", printable(path))
	}
	return out.err
}

func (c downloadCommand) download(ctx context.Context, svc *crosscomm.Service, report *reporter) (string, error) {
	ctx, cancel := report.limit(ctx, c.Timeout.or(stallTimeout))
	defer cancel()
	return svc.DownloadFileManually(ctx, c.Key, c.Dir.text)
}

// hasStore reports whether the settings name a store, be they complete or not:
// if they are not, the library says what is missing.
func hasStore(o crosscomm.OSSConfig) bool {
	return fmt.Sprint(o.Endpoint, o.BucketName, o.AccessKeyID, o.AccessKeySecret) != ""
}

package crosscomm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/crosscomm/crosscomm-go/internal/checksum"
)

const (
	// A request that fails in a way that may pass is tried again, up to
	// maxAttempts times in all, with full jitter between retryMin and retryMax:
	// some 20 s, in which a phone leaves its lift.
	maxAttempts = 10
	retryMin    = 100 * time.Millisecond
	retryMax    = 8 * time.Second
	// dialTimeout bounds one attempt to reach the store.
	dialTimeout = 10 * time.Second
	// stallTimeout ends a connection on which nothing moves.
	stallTimeout = time.Minute
	// modeHeader keeps a file's permission bits with its object. It is metadata
	// of the user's, which the other peers ignore.
	modeHeader = "Mode"
)

// ossStore is the ObjectStore of Aliyun OSS and of crosscomm servers.
type ossStore struct {
	bucket *oss.Bucket
	client *http.Client
}

// newOSSStore makes a store. A transport is given for the endpoint of a
// crosscomm server, whose bucket has no name in DNS. Nil stands for the
// network, with the proxy of the environment unless the endpoint is an IP
// address.
func newOSSStore(cfg OSSConfig, transport http.RoundTripper) (*ossStore, error) {
	ofServer := transport != nil
	endpoint := cfg.Endpoint
	if !strings.Contains(endpoint, "://") {
		// The SDK would send the secret's signatures, and the files, in clear.
		if strings.HasSuffix(endpoint, ".aliyuncs.com") {
			endpoint = "https://" + endpoint
		} else {
			endpoint = "http://" + endpoint
		}
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("the OSS endpoint %q is not an address such as http://192.168.1.10:9898", cfg.Endpoint)
	}
	if transport == nil {
		t := newTransport(new(net.Dialer).DialContext, nil)
		if net.ParseIP(u.Hostname()) == nil {
			t.Proxy = http.ProxyFromEnvironment
		}
		transport = t
	}
	s := &ossStore{client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	options := []oss.ClientOption{
		oss.HTTPClient(s.client),
		// The sums are checked here: the SDK does it neither for ranges nor for
		// a whole that came in parts.
		oss.EnableCRC(false),
		// A name without a dot has no bucket.name in any DNS.
		oss.ForcePathStyle(ofServer || !strings.Contains(u.Hostname(), ".")),
	}
	if cfg.Region != "" {
		options = append(options, oss.Region(cfg.Region), oss.AuthVersion(oss.AuthV4))
	}
	client, err := oss.New(endpoint, cfg.AccessKeyID, cfg.AccessKeySecret, options...)
	if err != nil {
		return nil, fmt.Errorf("OSS: %w", err)
	}
	if s.bucket, err = client.Bucket(cfg.BucketName); err != nil {
		return nil, fmt.Errorf("OSS: bucket %q: %w", cfg.BucketName, err)
	}
	return s, nil
}

// newTransport makes the network of a store, without a proxy.
func newTransport(dial openFunc, secure *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return stallConn{conn}, nil
		},
		TLSClientConfig:     secure,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: 4 * folderWorkers,
		IdleConnTimeout:     30 * time.Second,
		DisableCompression:  true,
		ReadBufferSize:      64 << 10,
		WriteBufferSize:     64 << 10,
	}
}

// stallConn fails when nothing has moved for stallTimeout.
type stallConn struct{ net.Conn }

func (c stallConn) Read(p []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(stallTimeout))
	return c.Conn.Read(p)
}

func (c stallConn) Write(p []byte) (int, error) {
	// The read of the answer waits all the while that a body is written.
	_ = c.SetDeadline(time.Now().Add(stallTimeout))
	return c.Conn.Write(p)
}

// String tells stores apart; it has no secret.
func (s *ossStore) String() string {
	return s.bucket.Client.Config.Endpoint + "/" + s.bucket.BucketName
}

// close gives up the connections that are idle.
func (s *ossStore) close() { s.client.CloseIdleConnections() }

// retry calls f until it succeeds, fails for good, or has failed too often.
func (s *ossStore) retry(ctx context.Context, f func() error) error {
	wait := backoff{min: retryMin, max: retryMax}
	for {
		err := explainOSS(f())
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !isTransient(err) || wait.attempts+1 >= maxAttempts:
			return err
		}
		if !sleep(ctx, wait.next()) {
			return context.Cause(ctx)
		}
	}
}

// body reads size bytes of a file for a request, and sums them up. The network
// may still read from it when the request has failed already.
type body struct {
	progress func(int64)

	mu    sync.Mutex
	r     io.Reader
	left  int64
	sum   hash.Hash64
	told  int64
	err   error // of the file
	ended bool  // nobody wants it any more
}

func newBody(r io.ReaderAt, offset, size int64, progress func(int64)) *body {
	if progress == nil {
		progress = func(int64) {}
	}
	return &body{r: io.NewSectionReader(r, offset, size), left: size, sum: checksum.New(), progress: progress}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return 0, io.ErrClosedPipe
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	b.sum.Write(p[:n])
	b.told += int64(n)
	b.progress(int64(n))
	if err != nil && (!errors.Is(err, io.EOF) || b.left > 0) {
		if errors.Is(err, io.EOF) {
			err = errFileShrunk
		}
		b.err = &localError{err}
		err = b.err
	}
	return n, err
}

var errFileShrunk = errors.New("the file has become shorter while it was sent")

// outcome ends the body, and is the error of the request that has sent it,
// verified by the store's own sum if it gives one.
func (b *body) outcome(err error, answer http.Header) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	switch {
	case b.err != nil:
		err = b.err
	case err == nil:
		if sum, ok := headerCRC(answer); ok && sum != b.sum.Sum64() {
			err = fmt.Errorf("the store has got other bytes than were sent (CRC64 %d, not %d)", sum, b.sum.Sum64())
		}
	}
	if err != nil {
		b.progress(-b.told) // they will be sent once more, or never
	}
	return err
}

func headerCRC(h http.Header) (sum uint64, ok bool) {
	sum, err := strconv.ParseUint(h.Get(oss.HTTPHeaderOssCRC64), 10, 64)
	return sum, err == nil
}

// Put implements ObjectStore.
func (s *ossStore) Put(ctx context.Context, key string, r io.ReaderAt, opts PutOptions) error {
	if opts.Size >= multipartFrom {
		return s.putParts(ctx, key, r, opts)
	}
	return s.retry(ctx, func() error {
		var answer http.Header
		b := newBody(r, 0, opts.Size, opts.Progress)
		options := append(putOptions(ctx, opts), oss.GetResponseHeader(&answer))
		err := s.bucket.PutObject(key, &io.LimitedReader{R: b, N: opts.Size}, options...)
		return b.outcome(err, answer)
	})
}

func putOptions(ctx context.Context, opts PutOptions) []oss.Option {
	options := []oss.Option{oss.WithContext(ctx)}
	if mode := opts.Mode.Perm(); mode != 0 {
		options = append(options, oss.Meta(modeHeader, fmt.Sprintf("%04o", mode)))
	}
	return options
}

// Get implements ObjectStore.
func (s *ossStore) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, ObjectInfo, error) {
	var result *oss.GetObjectResult
	err := s.retry(ctx, func() (err error) {
		options := []oss.Option{oss.WithContext(ctx)}
		if offset > 0 {
			options = append(options, oss.NormalizedRange(strconv.FormatInt(offset, 10)+"-"))
		}
		result, err = s.bucket.DoGetObject(&oss.GetObjectRequest{ObjectKey: key}, options)
		return err
	})
	if err != nil {
		return nil, ObjectInfo{}, err
	}
	info := newObjectInfo(key, result.Response.Headers)
	if offset > 0 {
		// OSS answers with the whole if there is nothing at the offset.
		total, err := strconv.ParseInt(afterLast(result.Response.Headers.Get("Content-Range"), "/"), 10, 64)
		if err != nil {
			result.Response.Body.Close()
			return nil, ObjectInfo{}, ErrShorter
		}
		info.Size = total
	}
	return result.Response.Body, info, nil
}

func afterLast(s, sep string) string { return s[strings.LastIndex(s, sep)+1:] }

// newObjectInfo reads the headers of an object that is whole. The size is -1 if
// they do not tell.
func newObjectInfo(key string, h http.Header) ObjectInfo {
	info := ObjectInfo{Key: key, ETag: strings.Trim(h.Get("Etag"), `"`)}
	var err error
	if info.Size, err = strconv.ParseInt(h.Get("Content-Length"), 10, 64); err != nil {
		info.Size = -1
	}
	info.CRC64, info.HasCRC64 = headerCRC(h)
	if mode, err := strconv.ParseUint(h.Get(oss.HTTPHeaderOssMetaPrefix+modeHeader), 8, 32); err == nil {
		info.Mode = fs.FileMode(mode).Perm()
	}
	return info
}

// Stat implements ObjectStore.
func (s *ossStore) Stat(ctx context.Context, key string) (ObjectInfo, error) {
	var h http.Header
	err := s.retry(ctx, func() (err error) {
		h, err = s.bucket.GetObjectDetailedMeta(key, oss.WithContext(ctx))
		return err
	})
	if err != nil {
		return ObjectInfo{}, err
	}
	return newObjectInfo(key, h), nil
}

// List implements ObjectStore.
func (s *ossStore) List(ctx context.Context, prefix string) iter.Seq2[ObjectInfo, error] {
	return func(yield func(ObjectInfo, error) bool) {
		token := ""
		for {
			var page oss.ListObjectsResultV2
			err := s.retry(ctx, func() (err error) {
				page, err = s.bucket.ListObjectsV2(oss.WithContext(ctx), oss.Prefix(prefix), oss.MaxKeys(1000), oss.ContinuationToken(token))
				return err
			})
			if err != nil {
				yield(ObjectInfo{}, err)
				return
			}
			for _, o := range page.Objects {
				if !yield(ObjectInfo{Key: o.Key, Size: o.Size, ETag: strings.Trim(o.ETag, `"`)}, nil) {
					return
				}
			}
			if !page.IsTruncated || page.NextContinuationToken == "" {
				return
			}
			token = page.NextContinuationToken
		}
	}
}

// Delete implements ObjectStore.
func (s *ossStore) Delete(ctx context.Context, key string) error {
	return s.retry(ctx, func() error { return s.bucket.DeleteObject(key, oss.WithContext(ctx)) })
}

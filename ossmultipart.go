package crosscomm

import (
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/crosscomm/crosscomm-go/internal/checksum"
	"github.com/crosscomm/crosscomm-go/internal/partetag"
	"github.com/crosscomm/crosscomm-go/internal/pipeline"
)

const (
	// multipartFrom is the size from which on a file is sent in parts: a part
	// that was stored is not sent again when a link is lost.
	multipartFrom = 16 << 20
	// smallPart is the size of the parts of a file up to smallPartsUpTo: what is
	// lost of a part when a link breaks has to be sent again. Larger files go in
	// largePart, or in whatever gives no more than maxParts.
	smallPart      = 4 << 20
	smallPartsUpTo = 256 << 20
	largePart      = 8 << 20
	maxParts       = 9_000 // OSS takes 10,000
	// partWorkers is how many parts are under way at once.
	partWorkers = 4
)

// partSize is the same for the same size, so that a later run finds its parts.
func partSize(size int64) int64 {
	if size <= smallPartsUpTo {
		return smallPart
	}
	const mib = 1 << 20
	need := (size + maxParts - 1) / maxParts
	return max(largePart, (need+mib-1)/mib*mib)
}

// multipartPut is a Put in parts.
type multipartPut struct {
	*ossStore
	key    string
	r      io.ReaderAt
	opts   PutOptions
	upload oss.InitiateMultipartUploadResult
	stored map[int]oss.UploadedPart // by an earlier run
	ours   bool                     // whether the endpoint is a crosscomm server's

	parts []oss.UploadPart // by number - 1; each is written by one worker
	sums  []uint64         // likewise: the CRC64 of each
}

// putParts is Put for a large file. The SDK's own UploadFile leaves goroutines
// behind when it fails, and does not verify the whole.
func (s *ossStore) putParts(ctx context.Context, key string, r io.ReaderAt, opts PutOptions) error {
	if opts.Progress == nil {
		opts.Progress = func(int64) {}
	}
	if opts.Checked == nil {
		opts.Checked = func(int64) {}
	}
	p := &multipartPut{ossStore: s, key: key, r: r, opts: opts}
	p.allocate()
	if opts.Resumable {
		p.find(ctx)
	}
	if p.upload.UploadID == "" {
		if err := p.initiate(ctx); err != nil {
			return err
		}
	}
	err := p.putAll(ctx)
	if err == nil {
		err = p.complete(ctx)
	}
	if err != nil && (!opts.Resumable || isFinal(err)) {
		ctx, cancel := cleanupContext(ctx)
		defer cancel()
		_ = s.bucket.AbortMultipartUpload(p.upload, oss.WithContext(ctx)) // the store expires what is left
	}
	return err
}

// allocate makes room for what is told of each part.
func (p *multipartPut) allocate() {
	size := partSize(p.opts.Size)
	n := (p.opts.Size + size - 1) / size
	p.parts, p.sums = make([]oss.UploadPart, n), make([]uint64, n)
}

// abortUploads deletes what was kept of Puts below the prefix that were cut.
func (s *ossStore) abortUploads(ctx context.Context, prefix string) error {
	for {
		found, err := s.bucket.ListMultipartUploads(oss.WithContext(ctx), oss.Prefix(prefix), oss.MaxUploads(1000))
		if err != nil || len(found.Uploads) == 0 {
			return err
		}
		err = forEach(ctx, partWorkers, found.Uploads, func(ctx context.Context, u oss.UncompletedUpload) error {
			upload := oss.InitiateMultipartUploadResult{Bucket: s.bucket.BucketName, Key: u.Key, UploadID: u.UploadID}
			return s.bucket.AbortMultipartUpload(upload, oss.WithContext(ctx))
		})
		if err != nil {
			return err
		}
	}
}

// initiate begins an upload. It is not idempotent, but one that is begun twice
// costs nothing, and expires.
func (p *multipartPut) initiate(ctx context.Context) error {
	return p.retry(ctx, func() (err error) {
		var answer http.Header
		p.upload, err = p.bucket.InitiateMultipartUpload(p.key, append(putOptions(ctx, p.opts), oss.GetResponseHeader(&answer))...)
		p.ours = isOurs(answer)
		return err
	})
}

// isOurs reports whether an answer is that of a crosscomm server.
func isOurs(answer http.Header) bool { return answer.Get("Server") == "crosscomm" }

// find looks for an upload of the key that was cut, and its parts. If it
// cannot be found the file is sent anew.
func (p *multipartPut) find(ctx context.Context) {
	var found oss.ListMultipartUploadResult
	err := p.retry(ctx, func() (err error) {
		var answer http.Header
		found, err = p.bucket.ListMultipartUploads(oss.WithContext(ctx), oss.Prefix(p.key), oss.GetResponseHeader(&answer))
		p.ours = isOurs(answer)
		return err
	})
	if err != nil {
		return
	}
	for _, u := range found.Uploads {
		if u.Key != p.key {
			continue
		}
		upload := oss.InitiateMultipartUploadResult{Bucket: p.bucket.BucketName, Key: p.key, UploadID: u.UploadID}
		stored, err := p.storedParts(ctx, upload)
		if err == nil && len(stored) >= len(p.stored) {
			p.upload, p.stored = upload, stored
		}
	}
}

func (p *multipartPut) storedParts(ctx context.Context, upload oss.InitiateMultipartUploadResult) (map[int]oss.UploadedPart, error) {
	stored := map[int]oss.UploadedPart{}
	for marker := 0; ; {
		var page oss.ListUploadedPartsResult
		err := p.retry(ctx, func() (err error) {
			page, err = p.bucket.ListUploadedParts(upload, oss.WithContext(ctx), oss.MaxParts(1000), oss.PartNumberMarker(marker))
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, part := range page.UploadedParts {
			stored[part.PartNumber] = part
			marker = max(marker, part.PartNumber)
		}
		if !page.IsTruncated || len(page.UploadedParts) == 0 {
			return stored, nil
		}
	}
}

// putAll sends the parts that are not there yet; the first error ends it.
func (p *multipartPut) putAll(ctx context.Context) error {
	numbers := make([]int, len(p.parts))
	for i := range numbers {
		numbers[i] = i + 1
	}
	return forEach(ctx, partWorkers, numbers, p.put)
}

func (p *multipartPut) put(ctx context.Context, number int) error {
	size := partSize(p.opts.Size)
	offset := int64(number-1) * size
	size = min(size, p.opts.Size-offset)
	if part, ok := p.stored[number]; ok && int64(part.Size) == size {
		sum, same, err := p.compare(ctx, offset, size, part.ETag)
		if err != nil {
			return err
		}
		if same {
			p.parts[number-1], p.sums[number-1] = oss.UploadPart{PartNumber: number, ETag: part.ETag}, sum
			p.opts.Progress(size)
			return nil
		}
	}
	return p.retry(ctx, func() error {
		var answer http.Header
		b := newBody(p.r, offset, size, p.opts.Progress)
		options := []oss.Option{oss.WithContext(ctx), oss.GetResponseHeader(&answer)}
		if p.ours {
			options = append(options, oss.SetHeader(partetag.Header, partetag.CRC64))
		}
		part, err := p.bucket.UploadPart(p.upload, b, size, number, options...)
		if err = b.outcome(err, answer); err == nil {
			p.parts[number-1], p.sums[number-1] = part, b.sum.Sum64() // nobody reads b any more
		}
		return err
	})
}

// compare reports whether the bytes are those of a part that is stored, and
// their CRC64.
func (p *multipartPut) compare(ctx context.Context, offset, size int64, etag string) (sum uint64, same bool, err error) {
	etag = strings.ToUpper(strings.Trim(etag, `"`))
	check, digest := checksum.New(), md5.New()
	if err := p.sum(ctx, check, offset, size); err != nil {
		return 0, false, err
	}
	sum = check.Sum64()
	if etag == partetag.Of(sum, size) {
		return sum, true, nil
	}
	// Another endpoint's ETags are MD5s.
	if err := p.sum(ctx, digest, offset, size); err != nil {
		return 0, false, err
	}
	return sum, etag == fmt.Sprintf("%X", digest.Sum(nil)), nil
}

func (p *multipartPut) sum(ctx context.Context, h io.Writer, offset, size int64) error {
	n, err := pipeline.Copy(ctx, h, io.NewSectionReader(p.r, offset, size), p.opts.Checked)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil && n < size:
		err = errFileShrunk
	}
	if err != nil {
		return &localError{err}
	}
	return nil
}

// complete makes the parts an object, and verifies the whole.
func (p *multipartPut) complete(ctx context.Context) error {
	sum, rest := uint64(0), p.opts.Size
	for i, s := range p.sums {
		n := partSize(p.opts.Size)
		if i == len(p.sums)-1 {
			n = rest
		}
		rest -= n
		sum = checksum.Combine(sum, s, n)
	}
	err := p.retry(ctx, func() error {
		_, err := p.bucket.CompleteMultipartUpload(p.upload, p.parts, oss.WithContext(ctx))
		return err
	})
	info, statErr := p.Stat(ctx, p.key)
	switch {
	case err != nil && (statErr != nil || info.Size != p.opts.Size || !info.HasCRC64 || info.CRC64 != sum):
		return err // else an answer was lost, and the upload had been completed
	case statErr != nil:
		return statErr
	case info.Size != p.opts.Size || info.HasCRC64 && info.CRC64 != sum:
		_ = p.Delete(ctx, p.key)
		return fmt.Errorf("the store has put together other bytes than were sent (%d bytes, CRC64 %d; not %d and %d)", info.Size, info.CRC64, p.opts.Size, sum)
	}
	return nil
}

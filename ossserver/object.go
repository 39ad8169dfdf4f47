package ossserver

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/objects"
)

func (req *request) serveObject() error {
	q := req.query
	method := req.r.Method
	reads := method == http.MethodGet || method == http.MethodHead
	if asksForMore(q, objectParameters) {
		return notImplemented()
	}
	if err := req.allow(req.key, !reads); err != nil {
		return err
	}
	switch {
	case q.Has("uploads") || q.Has("uploadId"):
		return req.serveUpload()
	case q.Has("acl"):
		return req.serveACL()
	case q.Has("partNumber") || q.Has("objectMeta") && !reads:
		return notImplemented()
	}
	switch method {
	case http.MethodPut:
		if req.r.Header.Get("X-Oss-Copy-Source") != "" {
			return req.copyObject()
		}
		return req.putObject()
	case http.MethodGet, http.MethodHead:
		return req.getObject()
	case http.MethodDelete:
		err := req.store.Delete(req.key)
		if err != nil && !errors.Is(err, objects.ErrNotFound) {
			return err
		}
		return req.answerEmpty(http.StatusNoContent)
	}
	return notImplemented()
}

// serveACL reads the only ACL there is, or has it set to itself.
func (req *request) serveACL() error {
	acl := req.r.Header.Get("X-Oss-Object-Acl")
	read, keep := req.r.Method == http.MethodGet, req.r.Method == http.MethodPut && (acl == "private" || acl == "default")
	if !read && !keep {
		return notImplemented()
	}
	if _, err := req.store.Stat(req.key); err != nil {
		return err
	}
	if keep {
		return req.answerEmpty(http.StatusOK)
	}
	return req.answer(newACL("default"))
}

// maxKept bounds the headers that are kept with an object, as OSS does.
const maxKept = 8 << 10

// givenHeaders are those that are given with an object as its sender wished, or
// as a URL says.
var givenHeaders = []string{"content-type", "cache-control", "content-disposition", "content-encoding", "content-language", "expires"}

// keptHeaders returns the headers that are kept with an object.
func (req *request) keptHeaders() (map[string]string, error) {
	kept, size := map[string]string{}, 0
	for name, values := range req.r.Header {
		name = strings.ToLower(name)
		if !slices.Contains(givenHeaders, name) && !strings.HasPrefix(name, "x-oss-meta-") {
			continue
		}
		kept[name] = strings.Join(values, ",")
		size += len(name) + len(kept[name])
	}
	if size > maxKept {
		return nil, &apiError{http.StatusBadRequest, "InvalidArgument", "The metadata exceeds 8 KB."}
	}
	return kept, nil
}

// expect reads what the request announces of its body.
func (req *request) expect() (objects.Expect, error) {
	want := objects.Expect{Size: req.r.ContentLength}
	if text := req.r.Header.Get("Content-Md5"); text != "" {
		sum, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(sum) != 16 {
			return want, &apiError{http.StatusBadRequest, "InvalidDigest", "The Content-MD5 is malformed."}
		}
		want.MD5 = (*[16]byte)(sum)
	}
	return want, nil
}

func (req *request) putObject() error {
	want, err := req.expect()
	if err != nil {
		return err
	}
	header, err := req.keptHeaders()
	if err != nil {
		return err
	}
	o, err := req.store.Put(req.r.Context(), req.key, req, objects.PutOptions{
		Expect: want, Header: header, MustBeNew: req.forbidsOverwrite(),
	})
	if err != nil {
		return err
	}
	req.answerStored(o.ETag, o.CRC)
	return nil
}

// answerStored tells that bytes are stored, and which.
func (req *request) answerStored(etag string, crc uint64) {
	req.set("etag", quoted(etag))
	req.set("x-oss-hash-crc64ecma", strconv.FormatUint(crc, 10))
	_ = req.answerEmpty(http.StatusOK)
}

func (req *request) forbidsOverwrite() bool {
	return strings.EqualFold(req.r.Header.Get("X-Oss-Forbid-Overwrite"), "true")
}

func quoted(etag string) string { return `"` + etag + `"` }

// copyObject is a put whose bytes are those of another object.
func (req *request) copyObject() error {
	// The Go SDK writes a space as a plus sign here.
	source, err := url.QueryUnescape(req.r.Header.Get("X-Oss-Copy-Source"))
	if err != nil {
		return &apiError{http.StatusBadRequest, "InvalidArgument", "The copy source is malformed."}
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(source, "/"), "/")
	if bucket != req.cfg.Bucket {
		return &apiError{http.StatusNotFound, "NoSuchBucket", "The bucket of the copy source does not exist."}
	}
	if err := req.allow(key, false); err != nil {
		return err
	}
	from, err := req.store.Open(key)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := checkConditions(req.r.Header, "X-Oss-Copy-Source-", from.Object); err != nil {
		return err
	}
	header := from.Header
	if strings.EqualFold(req.r.Header.Get("X-Oss-Metadata-Directive"), "REPLACE") {
		if header, err = req.keptHeaders(); err != nil {
			return err
		}
	}
	o, err := req.store.Put(req.r.Context(), req.key, from, objects.PutOptions{
		Expect: objects.Expect{Size: from.Size}, Header: header, MustBeNew: req.forbidsOverwrite(),
	})
	if err != nil {
		return err
	}
	req.set("x-oss-hash-crc64ecma", strconv.FormatUint(o.CRC, 10))
	return req.answer(copyResult{ETag: quoted(o.ETag), LastModified: isoTime(o.Modified)})
}

func (req *request) getObject() error {
	object, err := req.store.Open(req.key)
	if err != nil {
		return err
	}
	defer object.Close()
	if err := checkConditions(req.r.Header, "", object.Object); err != nil {
		req.set("etag", quoted(object.ETag))
		req.set("last-modified", object.Modified.Format(http.TimeFormat))
		return err
	}
	offset, length, status := int64(0), object.Size, http.StatusOK
	meta := req.query.Has("objectMeta")
	if text := req.r.Header.Get("Range"); text != "" && !meta {
		from, n, ok, satisfiable := parseRange(text, object.Size)
		switch {
		case ok && satisfiable:
			offset, length, status = from, n, http.StatusPartialContent
			req.set("content-range", contentRange(from, n, object.Size))
		case ok && strings.EqualFold(req.r.Header.Get("X-Oss-Range-Behavior"), "standard"):
			req.set("content-range", "bytes */"+strconv.FormatInt(object.Size, 10))
			return &apiError{http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The range cannot be satisfied."}
		}
	}
	req.setObjectHeaders(object.Object, meta)
	req.set("content-length", strconv.FormatInt(length, 10))
	req.w.WriteHeader(status)
	if req.r.Method == http.MethodHead {
		return nil
	}
	if err := req.send(object, offset, length); err != nil {
		var damaged *objects.BlobError
		if errors.As(err, &damaged) {
			req.cfg.Logger.Error("an object is damaged", "request_id", req.id, "key", req.key, "error", err)
		} else {
			req.cfg.Logger.Debug("a download was cut", "request_id", req.id, "error", err)
		}
		panic(http.ErrAbortHandler) // the client must not take it for whole
	}
	return nil
}

// setObjectHeaders sets what is known of the object, and, but for meta, what its
// sender has wished to be given with it.
func (req *request) setObjectHeaders(o objects.Object, meta bool) {
	if !meta {
		req.set("content-type", "application/octet-stream")
		for name, value := range o.Header {
			if value != "" {
				req.set(name, value)
			}
		}
	}
	for _, name := range givenHeaders {
		if value := req.query.Get("response-" + name); value != "" {
			req.set(name, headerValue(value))
		}
	}
	req.set("etag", quoted(o.ETag))
	req.set("last-modified", o.Modified.Format(http.TimeFormat))
	req.set("x-oss-hash-crc64ecma", strconv.FormatUint(o.CRC, 10))
	req.set("x-oss-object-type", objectType(o))
	req.set("x-oss-storage-class", "Standard")
	req.set("accept-ranges", "bytes")
}

func objectType(o objects.Object) string {
	if strings.Contains(o.ETag, "-") {
		return "Multipart"
	}
	return "Normal"
}

// headerValue keeps what a URL says from making headers of its own.
func headerValue(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F {
			return -1
		}
		return r
	}, s)
}

// checkConditions reads the conditional headers that begin with the prefix. The
// oss2 SDK does not quote ETags.
func checkConditions(h http.Header, prefix string, o objects.Object) error {
	matches := func(list string) bool {
		for etag := range strings.SplitSeq(list, ",") {
			if etag = strings.Trim(strings.TrimSpace(etag), `"`); etag == "*" || strings.EqualFold(etag, o.ETag) {
				return true
			}
		}
		return false
	}
	date := func(name string) (time.Time, bool) {
		t, err := http.ParseTime(h.Get(prefix + name))
		return t, err == nil
	}
	failed := &apiError{http.StatusPreconditionFailed, "PreconditionFailed", "A condition of the request does not hold."}
	notModified := &apiError{http.StatusNotModified, "NotModified", ""}
	if prefix != "" {
		notModified = failed
	}
	if list := h.Get(prefix + "If-Match"); list != "" && !matches(list) {
		return failed
	}
	if t, ok := date("If-Unmodified-Since"); ok && o.Modified.After(t) {
		return failed
	}
	if list := h.Get(prefix + "If-None-Match"); list != "" {
		if matches(list) {
			return notModified
		}
		return nil
	}
	if t, ok := date("If-Modified-Since"); ok && !o.Modified.After(t) {
		return notModified
	}
	return nil
}

// parseRange reads "bytes=FIRST-LAST", either of which may be missing. What is
// not of that form is not ok, and is ignored.
func parseRange(text string, size int64) (offset, length int64, ok, satisfiable bool) {
	spec, found := strings.CutPrefix(strings.TrimSpace(text), "bytes=")
	first, last, dash := strings.Cut(spec, "-")
	if !found || !dash {
		return 0, 0, false, false
	}
	if first == "" {
		n, err := strconv.ParseUint(last, 10, 63)
		if err != nil {
			return 0, 0, false, false
		}
		n = min(n, uint64(size))
		return size - int64(n), int64(n), true, n > 0
	}
	from, err := strconv.ParseUint(first, 10, 63)
	if err != nil {
		return 0, 0, false, false
	}
	to := uint64(size) - 1
	if last != "" {
		n, err := strconv.ParseUint(last, 10, 63)
		if err != nil || n < from {
			return 0, 0, false, false
		}
		to = min(n, to)
	}
	if from >= uint64(size) {
		return 0, 0, true, false
	}
	return int64(from), int64(to - from + 1), true, true
}

func contentRange(offset, length, size int64) string {
	return "bytes " + strconv.FormatInt(offset, 10) + "-" + strconv.FormatInt(offset+length-1, 10) + "/" + strconv.FormatInt(size, 10)
}

// Package ossserver is an endpoint for the clients of Aliyun OSS, as an
// http.Handler: files with no cloud account. The SDKs for Python (oss2), Go and
// Java work with it unmodified. It has one bucket, which lies in a directory.
//
//	server, err := ossserver.New(ossserver.Config{Dir: "objects", Bucket: "lan", Secret: secret})
//	…
//	defer server.Close()
//	http.ListenAndServe(":8080", server)
//
// Served are objects (put, get, head, copy, delete, with ranges, conditions and
// user metadata), listings, multipart uploads, reading of ACLs and of the
// bucket's properties, and signed URLs. All else is answered with 501
// NotImplemented in OSS's form.
package ossserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/crosscomm/crosscomm-go/internal/objects"
	"github.com/crosscomm/crosscomm-go/internal/osssign"
)

// Config configures a [Server]. Dir, Bucket and Secret are needed.
type Config struct {
	// Dir is the directory that holds the objects; it is made if it is missing.
	// Only one process at a time can use it.
	Dir string
	// Bucket is the name of the one bucket.
	Bucket string
	// Secret returns the secret of an access key, and false for one that is not
	// known. It may be called concurrently.
	Secret func(accessKeyID string) (secret string, ok bool)
	// Allow reports whether the access key may read or write the object key,
	// or, if that is "", list the bucket. It is asked after the signature was
	// verified. If it is nil, any key that is known may do anything. It may be
	// called concurrently.
	Allow func(accessKeyID, objectKey string, write bool) bool
	// MaxObject bounds the bytes of one object, Quota those of all; there is no
	// bound if they are zero.
	MaxObject, Quota int64
	// UploadTTL is how long a multipart upload may take before it is removed:
	// 7 days if zero.
	UploadTTL time.Duration
	// ObjectTTL is how long objects are kept: forever if zero.
	ObjectTTL time.Duration
	// Logger is told what goes wrong in the server itself, as an error, and what
	// was removed for its age, as information; nothing is logged if it is nil.
	Logger *slog.Logger
}

// expireEvery is how often is looked for what is too old.
const expireEvery = 10 * time.Minute

// Server is an endpoint with one bucket. Make it with [New]. It may be used
// concurrently.
type Server struct {
	cfg     Config
	store   *objects.Store
	cancel  context.CancelFunc
	done    chan struct{}
	stall   atomic.Int64 // stallTime, but in tests; a time.Duration
	running accounts
}

// ErrInUse is returned by [New] if another process has the directory open.
var ErrInUse = objects.ErrInUse

// New opens the directory. It returns an error if a field of the configuration
// is missing, or the directory cannot be used; see [ErrInUse].
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Dir == "":
		return nil, errors.New("ossserver: Dir is missing")
	case cfg.Bucket == "" || strings.ContainsAny(cfg.Bucket, "/. "):
		return nil, errors.New("ossserver: Bucket must be a name without slashes, dots and spaces")
	case cfg.Secret == nil:
		return nil, errors.New("ossserver: Secret is missing")
	}
	if cfg.MaxObject < 0 || cfg.Quota < 0 || cfg.UploadTTL < 0 || cfg.ObjectTTL < 0 {
		return nil, errors.New("ossserver: a limit is negative")
	}
	if cfg.UploadTTL == 0 {
		cfg.UploadTTL = 7 * 24 * time.Hour
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	store, err := objects.Open(cfg.Dir, objects.Limits{MaxObject: cfg.MaxObject, Quota: cfg.Quota})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{cfg: cfg, store: store, cancel: cancel, done: make(chan struct{})}
	s.stall.Store(int64(stallTime))
	go s.expire(ctx)
	return s, nil
}

// Close ends the server's work and closes the directory. Requests that are
// still being served fail.
func (s *Server) Close() error {
	s.cancel()
	<-s.done
	return s.store.Close()
}

// expire removes what is too old until ctx ends.
func (s *Server) expire(ctx context.Context) {
	defer close(s.done)
	ticker := time.NewTicker(expireEvery)
	defer ticker.Stop()
	for {
		s.removeOld()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// removeOld removes what is too old now.
func (s *Server) removeOld() {
	uploads, err := s.store.ExpireUploads(time.Now().Add(-s.cfg.UploadTTL))
	expired := 0
	if s.cfg.ObjectTTL > 0 {
		var objectsErr error
		expired, objectsErr = s.store.ExpireObjects(time.Now().Add(-s.cfg.ObjectTTL))
		err = errors.Join(err, objectsErr)
	}
	if err != nil {
		s.cfg.Logger.Error("not all that is too old could be removed", "error", err)
	}
	if uploads > 0 || expired > 0 {
		s.cfg.Logger.Info("old objects and uploads were removed", "objects", expired, "uploads", uploads)
	}
}

// request is an HTTP request to the endpoint.
type request struct {
	*Server          // cfg, store and running: what outlives the request
	*transfer        // w and r, and the reading and writing within time limits
	target           // bucket and key, once the signature is verified
	id        string // of the request
	path      string // decoded, without its first slash
	query     url.Values
	account   string // the access key id
}

// ServeHTTP implements http.Handler. It goes by the request's own target, so that
// a prefix must not be stripped before. The context of the request ends it: with
// a cause, by 503. A client that for a minute neither sends
// any of the body it has announced nor takes any of the answer is given up, and
// its connection closed. It takes an http.ResponseWriter that supports deadlines, as
// net/http's own do.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	r = r.WithContext(ctx)
	req := &request{Server: s, transfer: newTransfer(w, r, time.Duration(s.stall.Load())), id: newRequestID()}
	defer req.settle() // also if it is cut short by a panic
	req.set("x-oss-request-id", req.id)
	req.set("server", "crosscomm")
	if err := req.serve(cancel); err != nil {
		req.drain()
		req.settle()
		req.fail(err)
	}
	req.finish()
}

func (req *request) serve(cancel context.CancelCauseFunc) error {
	if err := req.parse(); err != nil {
		return err
	}
	if err := req.verify(); err != nil {
		return err
	}
	defer req.running.add(req.account, cancel)()
	if _, ok := req.cfg.Secret(req.account); !ok {
		return errDisconnected // just before it could be told so
	}
	if req.bucket == "" {
		return req.serveService()
	}
	if req.bucket != req.cfg.Bucket {
		return &apiError{http.StatusNotFound, "NoSuchBucket", "The bucket does not exist."}
	}
	if req.key == "" {
		return req.serveBucket()
	}
	if err := checkKey(req.key); err != nil {
		return err
	}
	return req.serveObject()
}

// verify finds out whose request it is, and what it is about. A host name that
// begins with the bucket's may mean the bucket, or be that of this machine; the
// signature is right for one of the two.
func (req *request) verify() error {
	var first error
	for _, t := range req.targets() {
		account, err := osssign.Verify(osssign.Request{
			Method: req.r.Method, Bucket: t.bucket, Key: t.key, Query: req.query, Header: req.signedHeader(),
		}, req.cfg.Secret, time.Now())
		if err == nil {
			req.account, req.bucket, req.key = account, t.bucket, t.key
			return nil
		}
		if first == nil {
			first, req.bucket, req.key = err, t.bucket, t.key
		}
	}
	return first
}

// target is what a request is about.
type target struct {
	bucket string // "" for the endpoint itself
	key    string // "" for the bucket itself
}

// targets returns what the request may be about, the likelier one first.
func (req *request) targets() []target {
	var byPath target
	byPath.bucket, byPath.key, _ = strings.Cut(req.path, "/")
	host, _, _ := strings.Cut(req.r.Host, ":")
	if !strings.HasPrefix(host, req.cfg.Bucket+".") || net.ParseIP(host) != nil {
		return []target{byPath}
	}
	byHost := target{req.cfg.Bucket, req.path}
	if byPath.bucket == req.cfg.Bucket {
		return []target{byPath, byHost}
	}
	return []target{byHost, byPath}
}

// signedHeader is the header as signatures see it: net/http takes Host out of
// it.
func (req *request) signedHeader() http.Header {
	h := req.r.Header.Clone()
	h.Set("Host", req.r.Host)
	return h
}

// parse finds path and query. It goes by the request's own text: "//" and
// ".." must reach checkKey, and "%2F" is the same as "/".
func (req *request) parse() error {
	target := req.r.RequestURI
	if i := strings.Index(target, "://"); i >= 0 && target[0] != '/' { // as to a proxy
		target = target[i+3:]
		slash := strings.IndexByte(target, '/')
		if slash < 0 {
			slash = len(target)
		}
		target = target[slash:]
	}
	path, rawQuery, _ := strings.Cut(target, "?")
	path, err := url.PathUnescape(strings.TrimPrefix(path, "/"))
	if err != nil {
		return &apiError{http.StatusBadRequest, "InvalidURI", "The path is malformed."}
	}
	if req.query, err = url.ParseQuery(rawQuery); err != nil {
		return &apiError{http.StatusBadRequest, "InvalidURI", "The query is malformed."}
	}
	req.path = path
	return nil
}

// checkKey refuses what would be trouble as a file name of a receiver's.
func checkKey(key string) error {
	bad := func(reason string) error {
		return &apiError{http.StatusBadRequest, "InvalidObjectName", "The object name is not valid: " + reason + "."}
	}
	switch {
	case len(key) > 1023:
		return bad("it has more than 1023 bytes")
	case !utf8.ValidString(key):
		return bad("it is not UTF-8")
	case key[0] == '/' || key[0] == '\\':
		return bad("it begins with a slash")
	}
	for _, r := range key {
		if r < ' ' || r == 0x7F {
			return bad("it has a control character")
		}
	}
	for segment := range strings.FieldsFuncSeq(key, func(r rune) bool { return r == '/' || r == '\\' }) {
		if segment == "." || segment == ".." {
			return bad("it has the segment " + segment)
		}
	}
	return nil
}

// allow checks what the account may do.
func (req *request) allow(key string, write bool) error {
	if req.cfg.Allow == nil || req.cfg.Allow(req.account, key, write) {
		return nil
	}
	return &apiError{http.StatusForbidden, "AccessDenied", "The access key may not do this."}
}

// set sets a header of the answer. OSS's own stay in lower case on the wire,
// which the Java SDK needs for metadata; the others are known to net/http by
// their usual names.
func (req *request) set(name, value string) {
	if strings.HasPrefix(name, "x-oss-") {
		req.w.Header()[name] = []string{value}
		return
	}
	req.w.Header().Set(name, value)
}

func notImplemented() error {
	return &apiError{http.StatusNotImplemented, "NotImplemented", "This endpoint does not implement that."}
}

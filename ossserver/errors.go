package ossserver

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/crosscomm/crosscomm-go/internal/diskfull"
	"github.com/crosscomm/crosscomm-go/internal/objects"
	"github.com/crosscomm/crosscomm-go/internal/osssign"
)

// apiError is an answer in OSS's error form.
type apiError struct {
	status  int
	code    string
	message string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

// xmlError is the body of an error.
type xmlError struct {
	XMLName           xml.Name `xml:"Error"`
	Code              string
	Message           string
	RequestID         string `xml:"RequestId"`
	HostID            string `xml:"HostId"`
	OSSAccessKeyID    string `xml:"OSSAccessKeyId,omitempty"`
	SignatureProvided string `xml:",omitempty"`
	StringToSign      string `xml:",omitempty"`
}

// fail answers with the error.
func (req *request) fail(err error) {
	status, body := req.describe(err)
	if status == http.StatusNotModified {
		req.w.WriteHeader(status)
		return
	}
	if req.failed {
		// Where the next request would begin is not known.
		req.set("connection", "close")
	}
	text := marshalXML(body)
	req.set("content-type", "application/xml")
	if req.r.Method == http.MethodHead {
		req.set("x-oss-err", base64.StdEncoding.EncodeToString(text))
		req.w.WriteHeader(status)
		return
	}
	req.set("content-length", strconv.Itoa(len(text)))
	req.w.WriteHeader(status)
	req.write(text)
}

func (req *request) describe(err error) (status int, body xmlError) {
	body = xmlError{RequestID: req.id, HostID: req.r.Host}
	var api *apiError
	var sign *osssign.Error
	var broken *bodyError
	switch {
	case errors.Is(err, errDisconnected), errors.Is(context.Cause(req.r.Context()), errDisconnected):
		status, body.Code, body.Message = http.StatusForbidden, "InvalidAccessKeyId", "The access key is no longer valid."
	case endedByServer(req.r.Context()):
		status, body.Code, body.Message = http.StatusServiceUnavailable, "ServiceUnavailable", "The server is ending this request. Try again."
	case errors.As(err, &api):
		status, body.Code, body.Message = api.status, api.code, api.message
	case errors.As(err, &sign):
		status, body.Code, body.Message = http.StatusForbidden, sign.Code, sign.Message
		body.OSSAccessKeyID, body.SignatureProvided, body.StringToSign = sign.AccessKeyID, printableXML(sign.SignatureProvided), printableXML(sign.StringToSign)
	case errors.Is(err, objects.ErrNotFound):
		status, body.Code, body.Message = http.StatusNotFound, "NoSuchKey", "The object does not exist."
	case errors.Is(err, objects.ErrExists):
		status, body.Code, body.Message = http.StatusConflict, "FileAlreadyExists", "The object exists already."
	case errors.Is(err, objects.ErrTooLarge):
		status, body.Code, body.Message = http.StatusBadRequest, "EntityTooLarge", "The object is larger than this server takes."
	case errors.Is(err, objects.ErrQuota), diskfull.Is(err):
		status, body.Code, body.Message = http.StatusInsufficientStorage, "InsufficientStorage", "There is no room left for the object."
	case errors.Is(err, objects.ErrDigest):
		status, body.Code, body.Message = http.StatusBadRequest, "InvalidDigest", "The Content-MD5 is not that of the bytes received."
	case errors.As(err, &broken) && errors.Is(err, os.ErrDeadlineExceeded):
		status, body.Code, body.Message = http.StatusBadRequest, "RequestTimeout", "No byte of the body has come for too long."
	case errors.As(err, &broken), errors.Is(err, objects.ErrShort), errors.Is(err, context.Canceled):
		status, body.Code, body.Message = http.StatusBadRequest, "IncompleteBody", "The body is not as long as announced."
	case errors.Is(err, objects.ErrPart):
		status, body.Code, body.Message = http.StatusBadRequest, "InvalidPart", "A part is missing, has another ETag, or is out of order."
	default:
		req.cfg.Logger.Error("a request failed", "request_id", req.id, "method", req.r.Method, "error", err)
		status, body.Code, body.Message = http.StatusInternalServerError, "InternalError", "The server could not serve this. Its log says why."
	}
	return status, body
}

// endedByServer reports whether the context was ended by the server that this is
// a part of: it says why, unlike net/http when the client is gone.
func endedByServer(ctx context.Context) bool {
	return ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.Canceled)
}

// printableXML replaces what XML cannot hold.
func printableXML(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0xFFFE || r == 0xFFFF {
			return 0xFFFD
		}
		return r
	}, s)
}

func marshalXML(v any) []byte {
	text, err := xml.Marshal(v)
	if err != nil {
		panic(err) // the types of this package can all be written
	}
	return append([]byte(xml.Header), text...)
}

// answer writes a document.
func (req *request) answer(v any) error {
	text := marshalXML(v)
	req.set("content-type", "application/xml")
	req.set("content-length", strconv.Itoa(len(text)))
	req.w.WriteHeader(http.StatusOK)
	req.write(text)
	return nil
}

// answerEmpty answers with no body.
func (req *request) answerEmpty(status int) error {
	if status == http.StatusOK {
		req.set("content-length", "0")
	}
	req.w.WriteHeader(status)
	return nil
}

func newRequestID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return strings.ToUpper(hex.EncodeToString(b[:]))
}

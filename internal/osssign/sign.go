// Package osssign verifies the signatures of requests to an OSS endpoint: V1 and
// V4, in the header or in the URL, as the SDKs for Python, Go and Java make
// them. All comparisons take the same time whatever the signature.
//
// Its functions are pure and may be called concurrently.
package osssign

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxSkew is how far a client's clock may be off.
const maxSkew = 15 * time.Minute

// Request is what is signed of an HTTP request.
type Request struct {
	Method string
	Bucket string // "" for the endpoint itself
	Key    string // decoded; "" for the bucket itself
	Query  url.Values
	Header http.Header
}

// Error says why a request is refused. Code is OSS's, and the status is always
// 403.
type Error struct {
	Code    string
	Message string
	// Those are set if the signature does not match.
	AccessKeyID, SignatureProvided, StringToSign string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func denied(format string, args ...any) error {
	return &Error{Code: "AccessDenied", Message: fmt.Sprintf(format, args...)}
}

// Verify returns the id of the access key that has signed the request, or an
// *Error. The function secret returns the secret of a key, if that is known; an
// empty one is none. The signature says nothing of whether the key may do what
// the request wants.
func Verify(r Request, secret func(id string) (string, bool), now time.Time) (id string, err error) {
	sig, err := parse(r)
	if err != nil {
		return "", err
	}
	key, ok := secret(sig.id)
	if !ok || key == "" { // with no secret anybody could sign
		// The same work as for a known key, for it not to show in the time.
		sig.sign("")
		return "", &Error{Code: "InvalidAccessKeyId", Message: "The access key id does not exist."}
	}
	want := sig.sign(key)
	if subtle.ConstantTimeCompare([]byte(want), []byte(sig.given)) != 1 {
		return "", &Error{
			Code:              "SignatureDoesNotMatch",
			Message:           "The signature that was calculated does not match the one provided. Check the secret and the way of signing.",
			AccessKeyID:       sig.id,
			SignatureProvided: sig.given,
			StringToSign:      sig.toSign,
		}
	}
	// Only who has the secret is told about the time.
	if !sig.expires.IsZero() {
		if sig.date.Sub(now) > maxSkew {
			return "", denied("The URL is not valid before %s.", sig.date.UTC().Format(time.RFC3339))
		}
		if now.After(sig.expires) {
			return "", denied("The URL has expired at %s.", sig.expires.UTC().Format(time.RFC3339))
		}
		return sig.id, nil
	}
	if now.Sub(sig.date).Abs() > maxSkew {
		return "", &Error{Code: "RequestTimeTooSkewed", Message: "The time of the request and the server's differ by more than 15 minutes."}
	}
	return sig.id, nil
}

// signature is what a request says of its signature.
type signature struct {
	id      string
	given   string
	toSign  string
	date    time.Time // of the signature; V1 has none in the URL
	expires time.Time // of one in the URL
	sign    func(secret string) string
}

// parse finds the one signature that the request has.
func parse(r Request) (*signature, error) {
	auth := r.Header.Get("Authorization")
	inURL := r.Query.Has("Signature") || r.Query.Has("x-oss-signature")
	switch {
	case auth != "" && inURL:
		return nil, denied("The request has a signature in its header and another one in its URL.")
	case strings.HasPrefix(auth, "OSS4-HMAC-SHA256 "):
		return parseV4Header(r, strings.TrimPrefix(auth, "OSS4-HMAC-SHA256 "))
	case strings.HasPrefix(auth, "OSS "):
		return parseV1Header(r, strings.TrimPrefix(auth, "OSS "))
	case auth != "":
		return nil, denied("The Authorization header is of an unknown kind.")
	case r.Query.Has("x-oss-signature"):
		return parseV4URL(r)
	case r.Query.Has("Signature"):
		return parseV1URL(r)
	}
	return nil, denied("The request is not signed.")
}

// canonicalHeaders returns a line for each header that include accepts, in the
// order of their names in lower case.
func canonicalHeaders(h http.Header, include func(name string) bool) string {
	lines := make([]string, 0, len(h))
	for name, values := range h {
		name = strings.ToLower(name)
		if !include(name) {
			continue
		}
		trimmed := make([]string, len(values))
		for i, v := range values {
			trimmed[i] = strings.TrimSpace(v)
		}
		lines = append(lines, name+":"+strings.Join(trimmed, ",")+"\n")
	}
	slices.SortFunc(lines, func(a, b string) int {
		nameA, _, _ := strings.Cut(a, ":")
		nameB, _, _ := strings.Cut(b, ":")
		return strings.Compare(nameA, nameB)
	})
	return strings.Join(lines, "")
}

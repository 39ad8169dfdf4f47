package osssign

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// subResources are the query parameters that V1 signs, beside all that begin
// with "response-".
var subResources = []string{
	"acl", "append", "asyncFetch", "bucketInfo", "callback", "callback-var", "cname", "comp", "continuation-token",
	"cors", "delete", "encryption", "endTime", "img", "inventory", "inventoryId", "lifecycle", "live", "location",
	"logging", "objectMeta", "partNumber", "policy", "position", "qos", "referer", "replication",
	"replicationLocation", "replicationProgress", "requestPayment", "resourceGroup", "restore", "security-token",
	"sequential", "startTime", "stat", "status", "style", "styleName", "symlink", "tagging", "uploadId", "uploads",
	"versionId", "versioning", "versions", "vod", "website", "worm", "wormExtend", "wormId", "x-oss-process",
	"x-oss-traffic-limit",
}

// parseV1Header reads "ID:SIGNATURE".
func parseV1Header(r Request, auth string) (*signature, error) {
	id, given, ok := strings.Cut(auth, ":")
	if !ok {
		return nil, denied("The Authorization header has no colon between key id and signature.")
	}
	// x-oss-date is for clients that cannot set Date, whose place in what is
	// signed is empty then.
	text := r.Header.Get("X-Oss-Date")
	if text == "" {
		text = r.Header.Get("Date")
	}
	date, err := parseDate(text)
	if err != nil {
		return nil, err
	}
	sig := newV1(r, id, given, r.Header.Get("Date"))
	sig.date = date
	return sig, nil
}

// parseV1URL reads OSSAccessKeyId, Expires and Signature.
func parseV1URL(r Request) (*signature, error) {
	text := r.Query.Get("Expires")
	expires, err := strconv.ParseInt(text, 10, 64)
	if err != nil || expires <= 0 {
		return nil, denied("Expires is %.40q; it must be a number of seconds since 1970.", text)
	}
	sig := newV1(r, r.Query.Get("OSSAccessKeyId"), r.Query.Get("Signature"), text)
	sig.expires = time.Unix(expires, 0)
	return sig, nil
}

func newV1(r Request, id, given, date string) *signature {
	toSign := r.Method + "\n" + r.Header.Get("Content-Md5") + "\n" + r.Header.Get("Content-Type") + "\n" + date + "\n" +
		canonicalHeaders(r.Header, func(name string) bool { return strings.HasPrefix(name, "x-oss-") }) +
		v1Resource(r)
	return &signature{id: id, given: given, toSign: toSign, sign: func(secret string) string {
		mac := hmac.New(sha1.New, []byte(secret))
		mac.Write([]byte(toSign))
		return base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}}
}

// v1Resource is "/bucket/key" with the signed parameters, nothing encoded.
func v1Resource(r Request) string {
	resource := "/"
	if r.Bucket != "" {
		resource += r.Bucket + "/" + r.Key
	}
	var params []string
	for name := range r.Query {
		if slices.Contains(subResources, name) || strings.HasPrefix(name, "response-") {
			params = append(params, name)
		}
	}
	slices.Sort(params)
	for i, name := range params {
		if value := r.Query.Get(name); value != "" {
			params[i] = name + "=" + value
		}
	}
	if len(params) > 0 {
		resource += "?" + strings.Join(params, "&")
	}
	return resource
}

// isoDate is the form of x-oss-date.
const isoDate = "20060102T150405Z"

func parseDate(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, denied("The request has no Date.")
	}
	if t, err := http.ParseTime(text); err == nil {
		return t, nil
	}
	t, err := time.Parse(isoDate, text)
	if err != nil {
		return time.Time{}, denied("The date %.60q is malformed.", text)
	}
	return t, nil
}

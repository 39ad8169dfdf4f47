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
// with "response-": those of the lists in the SDKs for Python, Go, both versions,
// and Java, of which none is complete. x-oss-ac-source-ip and its like are left
// out, so that V1 grants no URL whose limits nobody here enforces.
var subResources = []string{
	"accessPoint", "accessPointConfigForObjectProcess", "accessPointForObjectProcess", "accessPointPolicy",
	"accessPointPolicyForObjectProcess", "acl", "append", "asyncFetch", "bucketArchiveDirectRead", "bucketInfo",
	"callback", "callback-var", "cleanRestoredObject", "cloudboxes", "cname", "comp", "continuation-token", "cors",
	"delete", "encryption", "endTime", "httpsConfig", "img", "inventory", "inventoryId", "legalHold", "lifecycle",
	"live", "location", "logging", "metaQuery", "metadataConfiguration", "metadataInventoryTable",
	"metadataJournalTable", "objectMeta", "objectWorm", "overwriteConfig", "partNumber", "policy", "policyStatus",
	"position", "processConfiguration", "publicAccessBlock", "qos", "qosInfo", "qosRequester", "quota",
	"redundancyTransition", "referer", "regionList", "regions", "replication", "replicationLocation",
	"replicationProgress", "requestPayment", "requesterQosInfo", "resourceGroup", "resourcePool",
	"resourcePoolBuckets", "resourcePoolInfo", "responseHeader", "restore", "retention", "rtc", "seal",
	"security-token", "sequential", "startTime", "stat", "status", "style", "styleName", "symlink", "tagging",
	"transferAcceleration", "udf", "udfApplication", "udfApplicationLog", "udfId", "udfImage", "udfImageDesc",
	"udfName", "uploadId", "uploads", "userDefinedLogFieldsConfig", "versionId", "versioning", "versions", "vod",
	"website", "withHashContext", "worm", "wormExtend", "wormId", "x-oss-access-point-name", "x-oss-async-process",
	"x-oss-delete", "x-oss-dir", "x-oss-enable-md5", "x-oss-enable-sha1", "x-oss-enable-sha256", "x-oss-hash-ctx",
	"x-oss-md5-ctx", "x-oss-process", "x-oss-redundancy-transition-taskid", "x-oss-rename", "x-oss-request-payer",
	"x-oss-target-redundancy-type", "x-oss-traffic-limit", "x-oss-write-get-object-response",
}

// IsSubResource reports whether a query parameter of that name is part of what
// a request is about, as opposed to one that OSS does not know. It is so for
// those that V1 signs.
func IsSubResource(name string) bool {
	return slices.Contains(subResources, name) || strings.HasPrefix(name, "response-")
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
		if IsSubResource(name) {
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

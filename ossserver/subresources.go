package ossserver

import (
	"net/url"
	"slices"
	"strings"
)

// The query parameters that mean something here, beside those of signatures.
var (
	serviceParameters = []string{"prefix", "marker", "max-keys"}
	bucketParameters  = []string{
		"acl", "location", "bucketInfo", "delete", "encoding-type", "prefix", "delimiter", "max-keys", // for all, and both lists
		"marker", "list-type", "continuation-token", "start-after", "fetch-owner", "uploads", "key-marker", "upload-id-marker", "max-uploads",
	}
	objectParameters = []string{
		"acl", "objectMeta", "uploads", "uploadId", "partNumber", "part-number-marker", "max-parts", "encoding-type",
	}
	signatureParameters = []string{
		"OSSAccessKeyId", "Expires", "Signature", "security-token", "x-oss-signature", "x-oss-signature-version", "x-oss-credential",
		"x-oss-date", "x-oss-expires", "x-oss-additional-headers", "x-oss-security-token",
	}
)

// foreignSubresources are those of OSS that are not served here, of which a
// value may be given. Those without a value need not be known by name.
var foreignSubresources = []string{
	"append", "asyncFetch", "callback", "callback-var", "comp", "endTime", "img", "inventoryId", "lifecycle", "live", "policy",
	"position", "qos", "replication", "restore", "select", "sequential", "startTime", "status", "style", "styleName", "symlink",
	"tagging", "versionId", "versions", "vod", "wormId", "x-oss-async-process", "x-oss-process",
}

// asksForMore reports whether the query asks for another thing than those that
// the parameters stand for. As OSS does, it ignores parameters with a value that
// it does not know: a URL may have some for others.
func asksForMore(q url.Values, parameters []string) bool {
	for name, values := range q {
		switch {
		case slices.Contains(parameters, name), slices.Contains(signatureParameters, name), strings.HasPrefix(name, "response-"):
		case slices.Contains(foreignSubresources, name), strings.Join(values, "") == "":
			return true
		}
	}
	return false
}

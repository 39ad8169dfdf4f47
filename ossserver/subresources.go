package ossserver

import (
	"net/url"
	"slices"
	"strings"

	"github.com/crosscomm/crosscomm-go/internal/osssign"
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
	// ignoredParameters count as sub-resources for signatures, but change nothing
	// of what is answered here: there are no traffic limits and no bills, and a
	// list is gone on with only where there is one.
	ignoredParameters = []string{"x-oss-traffic-limit", "x-oss-request-payer", "continuation-token"}
)

// foreignParameters are those of OSS that are not served here and not known to
// osssign, since they are signed by no SDK by V1.
var foreignParameters = []string{"accessmonitor", "select"}

// asksForMore reports whether the query asks for another thing than those that
// the parameters stand for: whether it has a sub-resource of OSS's that is not
// among them, or a parameter without a value, which need not be known by name
// to be taken for one. As OSS does, it ignores parameters with a value that it
// does not know: a URL may have some for others.
func asksForMore(q url.Values, parameters []string) bool {
	for name, values := range q {
		switch {
		case slices.Contains(parameters, name), slices.Contains(signatureParameters, name), strings.HasPrefix(name, "response-"):
		case strings.Join(values, "") == "":
			return true
		case slices.Contains(ignoredParameters, name):
		case osssign.IsSubResource(name), slices.Contains(foreignParameters, name):
			return true
		}
	}
	return false
}

package osssign

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	v4Algorithm     = "OSS4-HMAC-SHA256"
	unsignedPayload = "UNSIGNED-PAYLOAD"

	// maxURLLife is the longest time for which a URL may be signed.
	maxURLLife = 7 * 24 * time.Hour
)

// parseV4Header reads "Credential=…,AdditionalHeaders=…,Signature=…", in which
// some SDKs put a space after the comma.
func parseV4Header(r Request, auth string) (*signature, error) {
	fields := map[string]string{}
	for field := range strings.SplitSeq(auth, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(field), "=")
		if !ok {
			return nil, denied("The Authorization header has the malformed field %.40q.", field)
		}
		fields[name] = value
	}
	text := r.Header.Get("X-Oss-Date")
	if text == "" {
		text = r.Header.Get("Date")
	}
	date, err := parseDate(text)
	if err != nil {
		return nil, err
	}
	sig, err := newV4(r, fields["Credential"], fields["Signature"], fields["AdditionalHeaders"], text, date)
	if err != nil {
		return nil, err
	}
	sig.date = date
	return sig, nil
}

// parseV4URL reads the parameters that begin with x-oss-.
func parseV4URL(r Request) (*signature, error) {
	if got := r.Query.Get("x-oss-signature-version"); got != v4Algorithm {
		return nil, denied("x-oss-signature-version is %.40q; it must be %s.", got, v4Algorithm)
	}
	text := r.Query.Get("x-oss-date")
	date, err := time.Parse(isoDate, text)
	if err != nil {
		return nil, denied("x-oss-date is %.40q; it must look like %s.", text, isoDate)
	}
	seconds, err := strconv.ParseInt(r.Query.Get("x-oss-expires"), 10, 64)
	if err != nil || seconds < 1 || seconds > int64(maxURLLife/time.Second) {
		return nil, denied("x-oss-expires is %.40q; it must be a number of seconds, a week at most.", r.Query.Get("x-oss-expires"))
	}
	sig, err := newV4(r, r.Query.Get("x-oss-credential"), r.Query.Get("x-oss-signature"), r.Query.Get("x-oss-additional-headers"), text, date)
	if err != nil {
		return nil, err
	}
	sig.date = date
	sig.expires = date.Add(time.Duration(seconds) * time.Second)
	return sig, nil
}

// newV4 computes what is signed. The credential is
// ID/DAY/REGION/PRODUCT/aliyun_v4_request.
func newV4(r Request, credential, given, additional, dateText string, date time.Time) (*signature, error) {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 || parts[4] != "aliyun_v4_request" {
		return nil, denied("The credential %.80q is malformed.", credential)
	}
	id, day, region, product := parts[0], parts[1], parts[2], parts[3]
	if day != date.UTC().Format("20060102") {
		return nil, denied("The day of the credential is %.20q, but the request is of %s.", day, date.UTC().Format(time.DateOnly))
	}
	hash := sha256.Sum256([]byte(canonicalV4(r, additional)))
	toSign := strings.Join([]string{v4Algorithm, dateText, strings.Join(parts[1:], "/"), hex.EncodeToString(hash[:])}, "\n")
	return &signature{id: id, given: given, toSign: toSign, sign: func(secret string) string {
		key := []byte("aliyun_v4" + secret)
		for _, step := range []string{day, region, product, parts[4]} {
			key = sum256(key, step)
		}
		return hex.EncodeToString(sum256(key, toSign))
	}}, nil
}

func sum256(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// canonicalV4 is the request as V4 signs it.
func canonicalV4(r Request, additional string) string {
	path := "/"
	if r.Bucket != "" {
		path += Escape(r.Bucket, false) + "/" + Escape(r.Key, true)
	}
	var query []string
	for name, values := range r.Query {
		if name == "x-oss-signature" {
			continue
		}
		for _, value := range values {
			pair := Escape(name, false)
			if value != "" {
				pair += "=" + Escape(value, false)
			}
			query = append(query, pair)
		}
	}
	slices.Sort(query)

	var extra []string
	if additional != "" {
		extra = strings.Split(strings.ToLower(additional), ";")
		slices.Sort(extra)
	}
	headers := canonicalHeaders(r.Header, func(name string) bool {
		return name == "content-type" || name == "content-md5" || strings.HasPrefix(name, "x-oss-") || slices.Contains(extra, name)
	})
	payload := r.Header.Get("X-Oss-Content-Sha256")
	if payload == "" {
		payload = unsignedPayload
	}
	return strings.Join([]string{r.Method, path, strings.Join(query, "&"), headers, strings.Join(extra, ";"), payload}, "\n")
}

// Escape is OSS's percent-encoding: all but the unreserved characters of RFC
// 3986, and a slash only if keepSlash.
func Escape(s string, keepSlash bool) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '~', c == '/' && keepSlash:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}

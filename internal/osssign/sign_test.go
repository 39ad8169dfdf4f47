package osssign_test

import (
	_ "embed"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/osssign"
)

// Requests that the real SDKs have signed.
//
//go:embed testdata/vectors.jsonl
var vectors string

type vector struct {
	SDK           string
	Test          string `json:"sdk_test"`
	Auth          string
	ID            string `json:"access_key_id"`
	Secret        string `json:"access_key_secret"`
	Bucket        string
	Method        string
	Host          string
	URI           string
	Headers       map[string]string
	StringToSign  string `json:"string_to_sign"`
	Authorization string
	Signature     string
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	var all []vector
	for line := range strings.Lines(vectors) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		var v vector
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// request is the vector's, and when it was made.
func (v vector) request(t testing.TB) (osssign.Request, time.Time) {
	t.Helper()
	path, query, _ := strings.Cut(v.URI, "?")
	path, err := url.PathUnescape(strings.TrimPrefix(path, "/"))
	if err != nil {
		t.Fatal(err)
	}
	r := osssign.Request{Method: v.Method, Header: http.Header{}}
	if r.Query, err = url.ParseQuery(query); err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(v.Host, v.Bucket+".") {
		r.Bucket, r.Key = v.Bucket, path
	} else {
		r.Bucket, r.Key, _ = strings.Cut(path, "/")
	}
	for name, value := range v.Headers {
		r.Header.Set(name, value)
	}
	if v.Authorization != "" {
		r.Header.Set("Authorization", v.Authorization)
	}
	for _, text := range []string{r.Header.Get("X-Oss-Date"), r.Header.Get("Date"), r.Query.Get("x-oss-date")} {
		if at, err := http.ParseTime(text); err == nil {
			return r, at
		}
		if at, err := time.Parse("20060102T150405Z", text); err == nil {
			return r, at
		}
	}
	expires, err := strconv.ParseInt(r.Query.Get("Expires"), 10, 64)
	if err != nil {
		t.Fatalf("%s %s has no time", v.SDK, v.Test)
	}
	return r, time.Unix(expires, 0).Add(-time.Second)
}

func (v vector) secret(id string) (string, bool) { return v.Secret, id == v.ID }

func code(err error) string {
	var e *osssign.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestVectors(t *testing.T) {
	all := readVectors(t)
	if len(all) != 127 {
		t.Errorf("%d vectors", len(all))
	}
	for _, v := range all {
		name := v.SDK + " " + v.Test + " " + v.Method + " " + v.URI
		r, at := v.request(t)
		if id, err := osssign.Verify(r, v.secret, at); err != nil || id != v.ID {
			var e *osssign.Error
			errors.As(err, &e)
			t.Errorf("%s: %v\nsigned  %q\nvector  %q", name, err, e.StringToSign, v.StringToSign)
			continue
		}
		wrong := func(string) (string, bool) { return v.Secret + "x", true }
		_, err := osssign.Verify(r, wrong, at)
		var e *osssign.Error
		if !errors.As(err, &e) || e.Code != "SignatureDoesNotMatch" || e.StringToSign != v.StringToSign || e.SignatureProvided != v.Signature || e.AccessKeyID != v.ID {
			t.Errorf("%s with a wrong secret: %+v", name, e)
		}
		unknown := func(string) (string, bool) { return "", false }
		if _, err := osssign.Verify(r, unknown, at); code(err) != "InvalidAccessKeyId" {
			t.Errorf("%s with an unknown key: %v", name, err)
		}
		for what, change := range map[string]func(*osssign.Request){
			"method": func(r *osssign.Request) { r.Method += "X" },
			"key":    func(r *osssign.Request) { r.Key += "x" },
			"bucket": func(r *osssign.Request) { r.Bucket = "other" },
			"header": func(r *osssign.Request) { r.Header = r.Header.Clone(); r.Header.Set("X-Oss-Meta-New", "1") },
			"query":  func(r *osssign.Request) { r.Query = url.Values{"acl": {""}}; addAll(r.Query, v, t) },
		} {
			changed := r
			change(&changed)
			if changed.Key == r.Key && what == "key" || changed.Bucket == r.Bucket && what == "bucket" {
				continue
			}
			if r.Bucket == "" && what == "key" || r.Query.Has("acl") && what == "query" {
				continue // a key without a bucket is none
			}
			if _, err := osssign.Verify(changed, v.secret, at); code(err) != "SignatureDoesNotMatch" {
				t.Errorf("%s with another %s: %v", name, what, err)
			}
		}
		late := at.Add(16 * time.Minute)
		want := "RequestTimeTooSkewed"
		if strings.HasSuffix(v.Auth, "url") {
			want = "AccessDenied"
		}
		if _, err := osssign.Verify(r, v.secret, late); code(err) != want {
			t.Errorf("%s a quarter of an hour later: %v", name, err)
		}
	}
}

// A URL of the future would live longer than URLs may.
func TestURLOfTheFuture(t *testing.T) {
	found := false
	for _, v := range readVectors(t) {
		r, now := v.request(t)
		if !r.Query.Has("x-oss-signature") {
			continue
		}
		found = true
		if _, err := osssign.Verify(r, v.secret, now.Add(-10*time.Minute)); err != nil {
			t.Errorf("10 minutes before its time: %v", err)
		}
		if _, err := osssign.Verify(r, v.secret, now.Add(-time.Hour)); code(err) != "AccessDenied" {
			t.Errorf("an hour before its time: %v", err)
		}
	}
	if !found {
		t.Error("no vector is a URL of V4")
	}
}

// With no secret anybody could sign.
func TestEmptySecret(t *testing.T) {
	for _, v := range readVectors(t) {
		r, now := v.request(t)
		if _, err := osssign.Verify(r, func(string) (string, bool) { return "", true }, now); code(err) != "InvalidAccessKeyId" {
			t.Errorf("%s %s: %v", v.Method, v.URI, err)
		}
	}
}

func addAll(q url.Values, v vector, t testing.TB) {
	r, _ := v.request(t)
	for name, values := range r.Query {
		q[name] = values
	}
}

func TestMalformed(t *testing.T) {
	now := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	date := now.Format(http.TimeFormat)
	secret := func(string) (string, bool) { return "s", true }
	for name, tc := range map[string]struct {
		header http.Header
		query  string
		reason string
	}{
		"nothing":      {nil, "", "not signed"},
		"another kind": {http.Header{"Authorization": {"Basic eDp5"}}, "", "unknown kind"},
		"no colon":     {http.Header{"Authorization": {"OSS id"}, "Date": {date}}, "", "no colon"},
		"no date":      {http.Header{"Authorization": {"OSS id:sig"}}, "", "no Date"},
		"bad date":     {http.Header{"Authorization": {"OSS id:sig"}, "Date": {"yesterday"}}, "", "malformed"},
		"two":          {http.Header{"Authorization": {"OSS id:sig"}, "Date": {date}}, "Signature=x&Expires=1", "another one"},
		"expires":      {nil, "Signature=x&Expires=soon&OSSAccessKeyId=id", "Expires"},
		"v4 field":     {http.Header{"Authorization": {"OSS4-HMAC-SHA256 Credential"}, "Date": {date}}, "", "malformed field"},
		"v4 cred":      {http.Header{"Authorization": {"OSS4-HMAC-SHA256 Credential=a/b,Signature=x"}, "Date": {date}}, "", "credential"},
		"v4 day":       {http.Header{"Authorization": {"OSS4-HMAC-SHA256 Credential=a/20200101/r/oss/aliyun_v4_request,Signature=x"}, "Date": {date}}, "", "day"},
		"v4 version":   {nil, "x-oss-signature=x", "x-oss-signature-version"},
		"v4 url date":  {nil, "x-oss-signature=x&x-oss-signature-version=OSS4-HMAC-SHA256", "x-oss-date"},
		"v4 life":      {nil, "x-oss-signature=x&x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date=20261124T080000Z&x-oss-expires=9999999", "x-oss-expires"},
	} {
		query, err := url.ParseQuery(tc.query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := osssign.Verify(osssign.Request{Method: "GET", Header: tc.header, Query: query}, secret, now); code(err) != "AccessDenied" || !strings.Contains(err.Error(), tc.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzVerify: nothing that a stranger sends is accepted, and nothing panics.
func FuzzVerify(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(v.Method, v.URI, v.Authorization, v.Headers["date"], v.Headers["x-oss-date"])
	}
	f.Fuzz(func(t *testing.T, method, uri, auth, date, ossDate string) {
		path, query, _ := strings.Cut(uri, "?")
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		r := osssign.Request{Method: method, Query: values, Header: http.Header{"Authorization": {auth}, "Date": {date}, "X-Oss-Date": {ossDate}}}
		r.Bucket, r.Key, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
		now := time.Date(2026, 11, 24, 8, 11, 0, 0, time.UTC)
		if id, err := osssign.Verify(r, func(string) (string, bool) { return "a secret that no vector has", true }, now); err == nil {
			t.Fatalf("%q was accepted as %q", uri, id)
		}
	})
}

package ossserver

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/crosscomm/crosscomm-go/internal/objects"
)

// serveService serves what concerns no bucket: the list of them.
func (req *request) serveService() error {
	if req.r.Method != http.MethodGet || asksForMore(req.query, serviceParameters) {
		return notImplemented()
	}
	if err := req.allow("", false); err != nil {
		return err
	}
	result := bucketsResult{Owner: owner, Buckets: []bucketEntry{}}
	name := req.cfg.Bucket
	if strings.HasPrefix(name, req.query.Get("prefix")) && name > req.query.Get("marker") {
		result.Buckets = append(result.Buckets, bucketEntry{Name: name, Location: location, CreationDate: created, StorageClass: "Standard", ExtranetEndpoint: req.r.Host, IntranetEndpoint: req.r.Host, Region: region})
	}
	return req.answer(result)
}

func (req *request) serveBucket() error {
	q := req.query
	if asksForMore(q, bucketParameters) {
		return notImplemented()
	}
	if req.r.Method == http.MethodPost && q.Has("delete") {
		return req.deleteMany()
	}
	if req.r.Method != http.MethodGet && req.r.Method != http.MethodHead || q.Has("delete") {
		return notImplemented()
	}
	if err := req.allow("", false); err != nil {
		return err
	}
	switch {
	case q.Has("acl"):
		return req.answer(newACL("private"))
	case q.Has("location"):
		return req.answer(locationResult{Location: location})
	case q.Has("bucketInfo"):
		return req.answer(infoResult{Bucket: infoBucket{
			CreationDate: created, ExtranetEndpoint: req.r.Host, IntranetEndpoint: req.r.Host, Location: location,
			Name: req.bucket, StorageClass: "Standard", Owner: owner, ACL: aclList{Grant: "private"}, DataRedundancyType: "LRS",
		}})
	case q.Has("uploads"):
		return req.listUploads()
	case q.Get("list-type") == "2":
		return req.listV2()
	}
	return req.listV1()
}

// deleteMany deletes up to 1,000 objects. One that is not there counts as
// deleted.
func (req *request) deleteMany() error {
	var doc struct {
		XMLName xml.Name `xml:"Delete"`
		Quiet   bool
		Object  []struct{ Key string }
	}
	if err := req.readDocument(&doc); err != nil {
		return err
	}
	if len(doc.Object) == 0 || len(doc.Object) > 1000 {
		return &apiError{http.StatusBadRequest, "MalformedXML", "There must be 1 to 1000 keys to delete."}
	}
	for _, o := range doc.Object {
		if o.Key == "" {
			return &apiError{http.StatusBadRequest, "MalformedXML", "A key is empty."}
		}
		if err := req.allow(o.Key, true); err != nil {
			return err
		}
	}
	result := deleteResult{EncodingType: req.encodingType()}
	keys := make([]string, len(doc.Object))
	for i, o := range doc.Object {
		keys[i] = o.Key
		if !doc.Quiet {
			result.Deleted = append(result.Deleted, deletedEntry{Key: req.encode(o.Key)})
		}
	}
	if err := req.store.Delete(keys...); err != nil && !errors.Is(err, objects.ErrNotFound) {
		return err
	}
	return req.answer(result)
}

// limit reads how many entries are wanted.
func (req *request) limit(name string, usual, most int) (int, error) {
	text := req.query.Get(name)
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, &apiError{http.StatusBadRequest, "InvalidArgument", name + " must be between 1 and " + strconv.Itoa(most) + "."}
	}
	return n, nil
}

func (req *request) listV1() error {
	q := req.query
	limit, err := req.limit("max-keys", 100, 1000)
	if err != nil {
		return err
	}
	l, err := req.store.List(objects.ListOptions{Prefix: q.Get("prefix"), Delimiter: q.Get("delimiter"), After: q.Get("marker"), Max: limit})
	if err != nil {
		return err
	}
	return req.answer(listResult{
		Name: req.bucket, Prefix: req.encode(q.Get("prefix")), Marker: ptr(req.encode(q.Get("marker"))), MaxKeys: limit, Delimiter: req.encode(q.Get("delimiter")),
		EncodingType: req.encodingType(), IsTruncated: l.Truncated, NextMarker: req.encode(l.Next),
		Contents: req.entries(l, true), CommonPrefixes: req.prefixes(l),
	})
}

func (req *request) listV2() error {
	q := req.query
	limit, err := req.limit("max-keys", 100, 1000)
	if err != nil {
		return err
	}
	after := q.Get("start-after")
	if token := q.Get("continuation-token"); token != "" {
		raw, err := base64.StdEncoding.DecodeString(token)
		if err != nil {
			return &apiError{http.StatusBadRequest, "InvalidArgument", "The continuation token is malformed."}
		}
		after = string(raw)
	}
	l, err := req.store.List(objects.ListOptions{Prefix: q.Get("prefix"), Delimiter: q.Get("delimiter"), After: after, Max: limit})
	if err != nil {
		return err
	}
	result := listResult{
		Name: req.bucket, Prefix: req.encode(q.Get("prefix")), MaxKeys: limit, Delimiter: req.encode(q.Get("delimiter")),
		StartAfter: req.encode(q.Get("start-after")), ContinuationToken: q.Get("continuation-token"),
		EncodingType: req.encodingType(), IsTruncated: l.Truncated, KeyCount: ptr(len(l.Objects) + len(l.Prefixes)),
		Contents: req.entries(l, q.Get("fetch-owner") == "true"), CommonPrefixes: req.prefixes(l),
	}
	if l.Truncated {
		result.NextContinuationToken = base64.StdEncoding.EncodeToString([]byte(l.Next))
	}
	return req.answer(result)
}

func (req *request) entries(l objects.Listing, withOwner bool) []objectEntry {
	entries := make([]objectEntry, len(l.Objects))
	for i, o := range l.Objects {
		entries[i] = objectEntry{Key: req.encode(o.Key), LastModified: isoTime(o.Modified), ETag: quoted(o.ETag), Type: objectType(o), Size: o.Size, StorageClass: "Standard"}
		if withOwner {
			entries[i].Owner = &owner
		}
	}
	return entries
}

func (req *request) prefixes(l objects.Listing) []prefixEntry {
	entries := make([]prefixEntry, len(l.Prefixes))
	for i, p := range l.Prefixes {
		entries[i] = prefixEntry{Prefix: req.encode(p)}
	}
	return entries
}

func (req *request) listUploads() error {
	q := req.query
	limit, err := req.limit("max-uploads", 1000, 1000)
	if err != nil {
		return err
	}
	opts := objects.UploadsOptions{Prefix: q.Get("prefix"), AfterKey: q.Get("key-marker"), AfterID: q.Get("upload-id-marker"), Max: limit}
	if opts.AfterID == "" {
		opts.AfterID = "\xFF" // after all of that key
	}
	uploads, truncated, err := req.store.Uploads(opts)
	if err != nil {
		return err
	}
	result := uploadsResult{Bucket: req.bucket, Prefix: req.encode(q.Get("prefix")), KeyMarker: req.encode(q.Get("key-marker")), UploadIDMarker: q.Get("upload-id-marker"), MaxUploads: limit, EncodingType: req.encodingType(), IsTruncated: truncated}
	for _, u := range uploads {
		result.Upload = append(result.Upload, uploadEntry{Key: req.encode(u.Key), UploadID: u.ID, Initiated: isoTime(u.Initiated), StorageClass: "Standard"})
		result.NextKeyMarker, result.NextUploadIDMarker = req.encode(u.Key), u.ID
	}
	return req.answer(result)
}

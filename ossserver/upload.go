package ossserver

import (
	"crypto/md5"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/crosscomm/crosscomm-go/internal/objects"
	"github.com/crosscomm/crosscomm-go/internal/osssign"
	"github.com/crosscomm/crosscomm-go/internal/partetag"
)

// maxDocument bounds the XML that a client may send: 10,000 parts or 1,000
// keys with room to spare.
const maxDocument = 4 << 20

func (req *request) serveUpload() error {
	id := req.query.Get("uploadId")
	switch {
	case req.query.Has("uploads") && req.r.Method == http.MethodPost:
		header, err := req.keptHeaders()
		if err != nil {
			return err
		}
		u, err := req.store.Initiate(req.r.Context(), req.key, header)
		if err != nil {
			return err
		}
		return req.answer(initiateResult{Bucket: req.bucket, Key: req.encode(req.key), UploadID: u.ID, EncodingType: req.encodingType()})
	case req.query.Has("uploads"):
		return notImplemented()
	case req.r.Method == http.MethodPut:
		return uploadError(req.putPart(id))
	case req.r.Method == http.MethodPost:
		return uploadError(req.completeUpload(id))
	case req.r.Method == http.MethodDelete:
		if err := req.store.Abort(req.key, id); err != nil {
			return uploadError(err)
		}
		return req.answerEmpty(http.StatusNoContent)
	case req.r.Method == http.MethodGet:
		return uploadError(req.listParts(id))
	}
	return notImplemented()
}

// uploadError tells of an upload what objects.ErrNotFound tells of an object.
func uploadError(err error) error {
	if errors.Is(err, objects.ErrNotFound) {
		return &apiError{http.StatusNotFound, "NoSuchUpload", "The upload does not exist; it may have been completed or aborted."}
	}
	return err
}

func (req *request) putPart(id string) error {
	if req.r.Header.Get("X-Oss-Copy-Source") != "" {
		return notImplemented()
	}
	number, err := strconv.Atoi(req.query.Get("partNumber"))
	if err != nil || number < 1 || number > objects.MaxPart {
		return &apiError{http.StatusBadRequest, "InvalidArgument", "The part number must be between 1 and 10000."}
	}
	want, err := req.expect()
	if err != nil {
		return err
	}
	// An extension for our own client: it verifies by CRC64, and has no use for
	// an MD5.
	want.NoMD5 = want.MD5 == nil && req.r.Header.Get(partetag.Header) == partetag.CRC64
	p, err := req.store.PutPart(req.r.Context(), req.key, id, number, req, want)
	if err != nil {
		return err
	}
	req.answerStored(p.ETag, p.CRC)
	return nil
}

func (req *request) completeUpload(id string) error {
	var doc struct {
		XMLName xml.Name `xml:"CompleteMultipartUpload"`
		Part    []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := req.readDocument(&doc); err != nil {
		return err
	}
	parts := make([]objects.CompletePart, len(doc.Part))
	for i, p := range doc.Part {
		parts[i] = objects.CompletePart{Number: p.PartNumber, ETag: strings.Trim(p.ETag, `"`)}
	}
	o, err := req.store.Complete(req.r.Context(), req.key, id, parts)
	if err != nil {
		return err
	}
	scheme := "http"
	if req.r.TLS != nil {
		scheme = "https"
	}
	req.set("x-oss-hash-crc64ecma", strconv.FormatUint(o.CRC, 10))
	return req.answer(completeResult{
		Location: scheme + "://" + req.r.Host + "/" + req.bucket + "/" + osssign.Escape(o.Key, true),
		Bucket:   req.bucket, Key: req.encode(o.Key), ETag: quoted(o.ETag), EncodingType: req.encodingType(),
	})
}

// readDocument reads the XML that a request brings.
func (req *request) readDocument(v any) error {
	want, err := req.expect()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(req, maxDocument+1))
	switch {
	case err != nil:
		return err
	case len(data) > maxDocument:
		return &apiError{http.StatusBadRequest, "MalformedXML", "The document is too long."}
	case want.MD5 != nil && *want.MD5 != md5.Sum(data):
		return objects.ErrDigest
	case xml.Unmarshal(data, v) != nil:
		return &apiError{http.StatusBadRequest, "MalformedXML", "The document is malformed."}
	}
	return nil
}

func (req *request) listParts(id string) error {
	parts, err := req.store.Parts(req.key, id)
	if err != nil {
		return err
	}
	marker, _ := strconv.Atoi(req.query.Get("part-number-marker"))
	limit, err := req.limit("max-parts", 1000, 1000)
	if err != nil {
		return err
	}
	result := partsResult{Bucket: req.bucket, Key: req.encode(req.key), UploadID: id, PartNumberMarker: marker, MaxParts: limit, EncodingType: req.encodingType()}
	for _, p := range parts {
		if p.Number <= marker {
			continue
		}
		if len(result.Part) == limit {
			result.IsTruncated = true
			break
		}
		result.Part = append(result.Part, partEntry{PartNumber: p.Number, LastModified: isoTime(p.Modified), ETag: quoted(p.ETag), HashCRC64: strconv.FormatUint(p.CRC, 10), Size: p.Blob.Size})
		result.NextPartNumberMarker = p.Number
	}
	return req.answer(result)
}

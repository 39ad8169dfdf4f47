package ossserver

import (
	"encoding/xml"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/osssign"
)

// The documents of OSS. No SDK needs a name space, and some fail on one.

// What the one bucket says of itself.
const (
	location = "oss-crosscomm"
	region   = "crosscomm"
	created  = "2020-01-01T00:00:00.000Z"
)

var owner = ownerEntry{ID: "crosscomm", DisplayName: "crosscomm"}

type ownerEntry struct {
	ID          string
	DisplayName string
}

type copyResult struct {
	XMLName      xml.Name `xml:"CopyObjectResult"`
	ETag         string
	LastModified string
}

type aclList struct{ Grant string }

type aclResult struct {
	XMLName           xml.Name `xml:"AccessControlPolicy"`
	Owner             ownerEntry
	AccessControlList aclList
}

func newACL(grant string) aclResult {
	return aclResult{Owner: owner, AccessControlList: aclList{Grant: grant}}
}

type locationResult struct {
	XMLName  xml.Name `xml:"LocationConstraint"`
	Location string   `xml:",chardata"`
}

type infoBucket struct {
	CreationDate       string
	ExtranetEndpoint   string
	IntranetEndpoint   string
	Location           string
	Name               string
	StorageClass       string
	DataRedundancyType string
	Owner              ownerEntry
	ACL                aclList `xml:"AccessControlList"`
}

type infoResult struct {
	XMLName xml.Name `xml:"BucketInfo"`
	Bucket  infoBucket
}

type bucketEntry struct {
	Name             string
	Location         string
	CreationDate     string
	StorageClass     string
	ExtranetEndpoint string
	IntranetEndpoint string
	Region           string
}

type bucketsResult struct {
	XMLName xml.Name `xml:"ListAllMyBucketsResult"`
	Owner   ownerEntry
	Buckets []bucketEntry `xml:"Buckets>Bucket"`
}

type objectEntry struct {
	Key          string
	LastModified string
	ETag         string
	Type         string
	Size         int64
	StorageClass string
	Owner        *ownerEntry `xml:",omitempty"`
}

type prefixEntry struct{ Prefix string }

type listResult struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	Name                  string
	Prefix                string
	Marker                *string `xml:",omitempty"` // of version 1, where it is always there
	MaxKeys               int
	Delimiter             string
	StartAfter            string `xml:",omitempty"`
	ContinuationToken     string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	IsTruncated           bool
	NextMarker            string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	KeyCount              *int   `xml:",omitempty"` // of version 2
	Contents              []objectEntry
	CommonPrefixes        []prefixEntry
}

type deletedEntry struct{ Key string }

type deleteResult struct {
	XMLName      xml.Name `xml:"DeleteResult"`
	EncodingType string   `xml:",omitempty"`
	Deleted      []deletedEntry
}

type initiateResult struct {
	XMLName      xml.Name `xml:"InitiateMultipartUploadResult"`
	EncodingType string   `xml:",omitempty"`
	Bucket       string
	Key          string
	UploadID     string `xml:"UploadId"`
}

type completeResult struct {
	XMLName      xml.Name `xml:"CompleteMultipartUploadResult"`
	EncodingType string   `xml:",omitempty"`
	Location     string
	Bucket       string
	Key          string
	ETag         string
}

type partEntry struct {
	PartNumber   int
	LastModified string
	ETag         string
	HashCRC64    string `xml:"HashCrc64ecma"`
	Size         int64
}

type partsResult struct {
	XMLName              xml.Name `xml:"ListPartsResult"`
	EncodingType         string   `xml:",omitempty"`
	Bucket               string
	Key                  string
	UploadID             string `xml:"UploadId"`
	PartNumberMarker     int
	NextPartNumberMarker int
	MaxParts             int
	IsTruncated          bool
	Part                 []partEntry
}

type uploadEntry struct {
	Key          string
	UploadID     string `xml:"UploadId"`
	StorageClass string
	Initiated    string
}

type uploadsResult struct {
	XMLName            xml.Name `xml:"ListMultipartUploadsResult"`
	EncodingType       string   `xml:",omitempty"`
	Bucket             string
	KeyMarker          string
	UploadIDMarker     string `xml:"UploadIdMarker"`
	NextKeyMarker      string
	NextUploadIDMarker string `xml:"NextUploadIdMarker"`
	Prefix             string
	MaxUploads         int
	IsTruncated        bool
	Upload             []uploadEntry
}

// isoTime is a time in a document; it must end in .000Z.
func isoTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func ptr[T any](v T) *T { return &v }

// encodingType is "url" if the client wants keys so.
func (req *request) encodingType() string {
	if req.query.Get("encoding-type") == "url" {
		return "url"
	}
	return ""
}

// encode is a key as the client wants it in a document.
func (req *request) encode(key string) string {
	if req.encodingType() == "url" {
		return osssign.Escape(key, true)
	}
	return key
}

// Package partetag is what our client and our endpoint agree on to save the
// endpoint an MD5 of each part of a large file, which was two thirds of its work
// for one: a part that is put with the header gets an ETag made of its CRC64,
// by which the client verifies it anyway. To other endpoints the header means
// nothing, and they answer with an MD5.
package partetag

import (
	"crypto/md5"
	"fmt"
)

// Header of a part, with the value CRC64, asks for an ETag made by [Of].
const (
	Header = "X-Crosscomm-Part-Etag"
	CRC64  = "crc64"
)

// Of returns the ETag of a part with the CRC64, by the ECMA polynomial, and the
// size in bytes: in upper case and of the form of the others, since SDKs expect
// that.
func Of(crc uint64, size int64) string {
	return fmt.Sprintf("%X", md5.Sum(fmt.Appendf(nil, "crc64 %d, %d bytes", crc, size)))
}

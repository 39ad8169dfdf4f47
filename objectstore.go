package crosscomm

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
)

// ObjectStore keeps the bytes of images, files and folders between their sender
// and their receivers. That of this package speaks to Aliyun OSS and to the
// endpoint of a crosscomm server; an application can bring its own in
// [Config.ObjectStore], if the other peers can read and write there too.
//
// All methods may be called concurrently. They end soon after their context
// does. Who calls them does not try again: a store tells of a failure only when
// it has given up. If a store is a fmt.Stringer, its String tells it apart from
// others, so that an upload goes on only at the one where it was begun.
type ObjectStore interface {
	// Put stores the first opts.Size bytes of r under the key, in the place of
	// an object that is there. Others see the old object or the new one, never
	// a part. An error of r is returned as it is.
	Put(ctx context.Context, key string, r io.ReaderAt, opts PutOptions) error

	// Get returns what is known of the object, and its bytes from the offset
	// on. The reader must be closed. Its error, other than io.EOF, says that
	// the link is lost; the caller may Get the rest. For an object that is not
	// there the error is fs.ErrNotExist, and for one that has become so short
	// that there is nothing at the offset, ErrShorter.
	Get(ctx context.Context, key string, offset int64) (io.ReadCloser, ObjectInfo, error)

	// Stat returns what is known of the object, or the error fs.ErrNotExist.
	Stat(ctx context.Context, key string) (ObjectInfo, error)

	// List returns the objects whose keys begin with the prefix, in any order.
	// Of their ObjectInfo only Key and Size need be there. An error ends it.
	List(ctx context.Context, prefix string) iter.Seq2[ObjectInfo, error]

	// Delete deletes the object. That there is none is no error.
	Delete(ctx context.Context, key string) error
}

// ObjectInfo is what an [ObjectStore] knows of an object.
type ObjectInfo struct {
	Key  string
	Size int64 // in bytes
	// ETag changes when the bytes do; "" if that is not known.
	ETag string
	// CRC64 is the checksum of the bytes, by the ECMA polynomial as hash/crc64
	// has it, if HasCRC64. Without one only the size can be verified.
	CRC64    uint64
	HasCRC64 bool
	// Mode has the permission bits of the sender's file; 0 if they are not
	// known.
	Mode fs.FileMode
}

// PutOptions are about an object that is put.
type PutOptions struct {
	Size int64       // how many bytes
	Mode fs.FileMode // permission bits to be kept with them; 0 for none
	// Resumable allows the store to keep the parts of a Put that was cut. A
	// later one with the same key and Resumable goes on from there if it can; it
	// must find out by itself whether the bytes are the same. Of a Put that has
	// failed for good, or is not Resumable, nothing should stay.
	Resumable bool
	// Progress, if not nil, is told of bytes as they are stored; n is negative
	// if some of them must be sent once more. Checked is told of bytes that
	// were only read, to see whether they are stored already. Both may be
	// called concurrently.
	Progress, Checked func(n int64)
}

// TransferError tells that a file or a folder could not be sent or received.
// Find it with errors.As; errors.Is finds the reasons in it, such as
// fs.ErrNotExist and fs.ErrPermission.
type TransferError struct {
	Op   TransferOp
	Key  string // the object, or the folder's prefix; "" if it did not come to that
	Path string // the file or folder on this machine; "" if it did not come to that
	// Err is why. For one file of a folder it is another *TransferError, with
	// the file's key and path.
	Err error
}

func (e *TransferError) Error() string {
	text := string(e.Op)
	if e.Path != "" {
		preposition := "of"
		if e.Op == OpDownload {
			preposition = "to"
		}
		text += fmt.Sprintf(" %s %q", preposition, e.Path)
	}
	if e.Key != "" {
		text += fmt.Sprintf(" (key %q)", e.Key)
	}
	return fmt.Sprintf("%s: %v", text, e.Err)
}

func (e *TransferError) Unwrap() error { return e.Err }

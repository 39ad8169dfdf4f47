package objects

import (
	"bytes"
	"encoding/json"
	"strings"

	"go.etcd.io/bbolt"
)

// ListOptions say what to list.
type ListOptions struct {
	Prefix    string
	Delimiter string // keys that have it after the prefix are listed as one common prefix
	After     string // only what comes after it
	Max       int    // how many objects and common prefixes together
}

// Listing is a part of the keys, in the order of their bytes.
type Listing struct {
	Objects   []Object // without Blobs
	Prefixes  []string
	Truncated bool
	Next      string // if Truncated, the After for the rest
}

// List lists objects.
func (s *Store) List(opts ListOptions) (l Listing, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(objectsBucket).Cursor()
		prefix := []byte(opts.Prefix)
		start := prefix
		if opts.After > opts.Prefix {
			start = []byte(opts.After)
		}
		k, v := c.Seek(start)
		for k != nil && bytes.HasPrefix(k, prefix) {
			if opts.After != "" && string(k) <= opts.After {
				k, v = c.Next()
				continue
			}
			common := commonPrefix(string(k), opts)
			// A common prefix that was the last of the part before is done with.
			if common != "" && common <= opts.After && strings.HasPrefix(opts.After, common) {
				k, v = seekPast(c, common)
				continue
			}
			if len(l.Objects)+len(l.Prefixes) >= opts.Max {
				l.Truncated = true
				return nil
			}
			if common != "" {
				l.Prefixes = append(l.Prefixes, common)
				l.Next = common
				k, v = seekPast(c, common)
				continue
			}
			o, err := withoutBlobs(v)
			if err != nil {
				return err
			}
			l.Objects = append(l.Objects, o)
			l.Next = o.Key
			k, v = c.Next()
		}
		return nil
	})
	if !l.Truncated {
		l.Next = ""
	}
	return l, err
}

// withoutBlobs reads an object of the index without making its list of blobs,
// which may have 10,000.
func withoutBlobs(value []byte) (o Object, err error) {
	err = json.Unmarshal(value, &struct {
		*Object
		Blobs ignored
	}{Object: &o})
	return o, err
}

type ignored struct{}

// UnmarshalJSON implements json.Unmarshaler.
func (ignored) UnmarshalJSON([]byte) error { return nil }

// commonPrefix returns what the key is listed as if that is not itself, and
// else "".
func commonPrefix(key string, opts ListOptions) string {
	if opts.Delimiter == "" {
		return ""
	}
	rest := key[len(opts.Prefix):]
	i := strings.Index(rest, opts.Delimiter)
	if i < 0 {
		return ""
	}
	return opts.Prefix + rest[:i+len(opts.Delimiter)]
}

// seekPast moves to the first key that does not begin with the prefix, so that
// a folder is one step however much is in it.
func seekPast(c *bbolt.Cursor, prefix string) (k, v []byte) {
	next := []byte(prefix)
	for len(next) > 0 {
		last := len(next) - 1
		if next[last] < 0xFF {
			next[last]++
			return c.Seek(next)
		}
		next = next[:last]
	}
	return nil, nil
}

// Package syncfs makes many files durable at once, where the system can.
package syncfs

import "os"

// Sync makes everything durable that was written to the file system of the file,
// by whomever, and reports whether the system can do that; if not, each file
// must be synced.
func Sync(file *os.File) (done bool, err error) { return sync(file) }

// Package syncfs makes durable what is more than one file: all files of a file
// system at once, where the system can, and the names in a directory.
package syncfs

import "os"

// Sync makes everything durable that was written to the file system of the file,
// by whomever, and reports whether the system can do that; if not, each file
// must be synced.
func Sync(file *os.File) (done bool, err error) { return sync(file) }

// Dir makes the names in the directory durable. Not every file system can; what was
// written is then there all the same.
func Dir(path string) {
	dir, err := os.Open(path)
	if err != nil {
		return
	}
	defer dir.Close()
	_ = dir.Sync()
}

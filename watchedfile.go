package crosscomm

import (
	"fmt"
	"io"
	"io/fs"
	"os"
)

// maxWatchedFile bounds the bytes of a file that is read again when it changes.
const maxWatchedFile = 64 << 20

// readSeen reads a file, and returns which one that was: what is written into it
// while it is read makes it another one. It waits for no pipe, which could not be read
// again either.
func readSeen(name string) (data []byte, seen fs.FileInfo, err error) {
	file, err := os.OpenFile(name, os.O_RDONLY|openNonblocking, 0)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	if seen, err = file.Stat(); err != nil {
		return nil, nil, err
	}
	if !seen.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is no file that could be read again when it changes, but a directory, a pipe or a device", name)
	}
	data, err = io.ReadAll(io.LimitReader(file, maxWatchedFile+1))
	if len(data) > maxWatchedFile {
		err = fmt.Errorf("%s has more than %d bytes", name, maxWatchedFile)
	}
	return data, seen, err
}

// sameVersion reports whether it is one file, and has not been written between; nil
// stands for none.
func sameVersion(a, b fs.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

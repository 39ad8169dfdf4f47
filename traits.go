package crosscomm

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
)

// traits are what a directory makes of names and modes. They depend on its file
// system more than on the operating system.
type traits struct {
	fold    bool        // names that differ only in case are the same
	windows bool        // Windows' rules for names hold
	umask   fs.FileMode // permission bits that new files do not get
}

// traitsOf tries out the directory. The process's umask could not be read
// without changing it, and the directory may have rules of its own. Nobody may
// write what came from another machine but its owner and group.
func traitsOf(root *os.Root) (t traits, err error) {
	const apple = runtime.GOOS == "darwin" || runtime.GOOS == "ios"
	name := partName("")
	file, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o777)
	if err != nil {
		return t, err
	}
	info, err := file.Stat()
	_, otherErr := root.Lstat(strings.ToUpper(name))
	if err = errors.Join(err, file.Close(), root.Remove(name)); err != nil {
		return t, err
	}
	t.umask = ^info.Mode().Perm()&0o777 | 0o002
	switch {
	case otherErr == nil: // the name is random: nobody else's file has it
		t.fold = true
	case !errors.Is(otherErr, fs.ErrNotExist):
		t.fold = runtime.GOOS == "windows" || apple
	}
	// Elsewhere such a directory is mostly one of Windows' file systems.
	t.windows = runtime.GOOS == "windows" || t.fold && !apple
	return t, nil
}

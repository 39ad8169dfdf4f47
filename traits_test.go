package crosscomm

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// What is found of a directory is what it does, and nothing is left there.
func TestTraits(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	got, err := traitsOf(root)
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "name"), os.O_CREATE|os.O_WRONLY, 0o777)
	if err != nil {
		t.Fatal(err)
	}
	info, err := file.Stat()
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	if want := ^info.Mode().Perm()&0o777 | 0o002; got.umask != want {
		t.Errorf("umask %o, want %o", got.umask, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "NAME")); got.fold != (err == nil) {
		t.Errorf("it says %v of case, the other name: %v", got.fold, err)
	}
	if runtime.GOOS == "windows" && !got.windows || runtime.GOOS == "darwin" && got.windows {
		t.Errorf("Windows' rules: %v", got.windows)
	}
}

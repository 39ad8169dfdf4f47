// Package smalldisk gives tests a small disk that they can fill, in a process in whose
// name spaces any user may mount one.
package smalldisk

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// exitNoDisk is how a child process exits if it may not mount a disk.
const exitNoDisk = 77

// Run runs the test binary once more in name spaces of its own, with the environment
// variable set to a directory for the disk. The test fails if that process does not
// exit with 0. It reports false, and says so, where no disk may be mounted.
func Run(t testing.TB, variable string) (ran bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), variable+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case cmd.ProcessState == nil || errors.As(err, &exit) && exit.ExitCode() == exitNoDisk:
		t.Logf("no disk can be mounted here: %v", err)
		return false
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case len(out) > 0:
		t.Logf("%s", out)
	}
	return true
}

// Mount mounts a disk of so many bytes, such as "3m", at the directory, in the child
// process of Run, or ends that.
func Mount(dir, size string) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		os.Exit(exitNoDisk)
	}
}

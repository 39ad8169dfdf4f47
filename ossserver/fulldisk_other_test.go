//go:build !linux

package ossserver_test

// Elsewhere no disk is mounted; internal/objects tests errors made up.
const fullDisk = "CROSSCOMM_TEST_FULL_DISK"

func onFullDisk(string) int { return 1 }

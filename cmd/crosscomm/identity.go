package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/crosscomm/crosscomm-go/internal/filelock"
)

// maxSlots is for how many programs at a time there are ids on a machine that
// last.
const maxSlots = 100

// borrowID returns an id in the original's form, and what gives it back. It is
// always the same for the first program of a user that runs at a time, another
// for the second, and so on: servers keep the ids of all clients that ever
// logged in, and would fill up with those of a script that sends a message a
// minute. Where there is no place to keep track, it returns "", and the id will
// be a new one.
func borrowID() (id string, giveBack func()) {
	none := func() {}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", none
	}
	dir := filepath.Join(cache, "crosscomm", "ids")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", none
	}
	host, err := os.Hostname()
	if err != nil {
		return "", none
	}
	for slot := range maxSlots {
		unlock, err := filelock.Lock(filepath.Join(dir, fmt.Sprint(slot, ".lock")), 0)
		if err != nil {
			continue
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", host, dir, slot))
		return hex.EncodeToString(uuid.NodeID()) + "_" + hex.EncodeToString(sum[:4]), unlock
	}
	return "", none
}

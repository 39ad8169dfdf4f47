package crosscomm

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// The receivers that are no client.
const (
	All      = "all"    // every online client but the sender, and the server's listeners
	ServerID = "server" // the server's listeners
)

// maxIDLen is the greatest length of an id, in bytes: ids go into log lines,
// the state file and every frame.
const maxIDLen = 256

// newClientID makes an id as the original does: the machine's MAC address and
// a part that is random, since one machine may run several clients.
func newClientID() string {
	return hex.EncodeToString(uuid.NodeID()) + "_" + random8()
}

// newMessageID makes a message id as the original does.
func newMessageID(clientID string, now time.Time) string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	var room [maxIDLen + 40]byte
	id := append(append(room[:0], clientID...), '_')
	id = append(strconv.AppendInt(id, now.UnixMilli(), 10), '_')
	return string(hex.AppendEncode(id, random[:]))
}

// random8 is what the original takes from a random UUID.
func random8() string { return randomHex(4) }

// randomHex returns random bytes as twice as many digits.
func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// shortHash is a name for what may be long, or have characters that a file
// name cannot.
func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// checkID says what is wrong with a client's id.
func checkID(id string) error {
	switch {
	case id == "":
		return errors.New("the client id is empty")
	case id == All || id == ServerID:
		return fmt.Errorf("the client id %q is reserved", id)
	case len(id) > maxIDLen:
		return fmt.Errorf("the client id has %d bytes; at most %d are allowed", len(id), maxIDLen)
	case !utf8.ValidString(id):
		return errors.New("the client id is not valid UTF-8")
	}
	for _, r := range id {
		if unseen(r) {
			return fmt.Errorf("the client id has the invisible character %U", r)
		}
	}
	return nil
}

// unseen reports whether a character has no place in an id: ids are read by people,
// on terminals and in logs, and one that moves the cursor, turns the direction of
// text or is not there for the eye could pass for another's. The joiners have a part
// in Persian and in emoji.
func unseen(r rune) bool {
	switch r {
	case '\u200c', '\u200d':
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

package crosscomm

import (
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// baseName is the last part of a path of any system, or of a key.
func baseName(name string) string {
	name = strings.TrimRight(name, `/\`)
	return name[strings.LastIndexAny(name, `/\`)+1:]
}

// keyPrefix is where a client's objects lie. An id that would make another
// path of it is escaped, and so is one that looks as if it were, lest two
// clients have the same; the original has no rule for these.
func keyPrefix(clientID string) string {
	if strings.ContainsAny(clientID, `/\`) || clientID == "." || clientID == ".." || looksEscaped(clientID) {
		clientID = strings.ReplaceAll(url.PathEscape(clientID), ".", "%2E")
	}
	return "cross_comm/" + clientID + "/"
}

// looksEscaped reports whether s may be what url.PathEscape makes of something
// else: "100%" never is.
func looksEscaped(s string) bool {
	_, err := url.PathUnescape(s)
	return err == nil && strings.Contains(s, "%")
}

// isAreaOfClients reports whether the prefix is not that of one folder, but of
// all that one client, or every client, has sent. No peer sends it; to download
// it would fill the receiver's disk.
func isAreaOfClients(prefix string) bool {
	segments, err := splitKey(prefix)
	return err == nil && segments[0] == "cross_comm" && len(segments) < 3
}

// newKey makes a key as the original does.
func (s *Service) newKey(name string, t MsgType) string {
	key := keyPrefix(s.cfg.ClientID) + strconv.FormatInt(time.Now().UnixMilli(), 10) + "_" + random8()
	if t == TypeFolder {
		return key + "_folder/"
	}
	return key + suffixOf(name)
}

// suffixOf is the suffix of Python's Path: not that of ".profile", nor that of
// "name.".
func suffixOf(name string) string {
	base := filepath.Base(name)
	ext := filepath.Ext(base)
	if ext == "." || ext == base || strings.Trim(base[:len(base)-len(ext)], ".") == "" {
		return ""
	}
	// What the key cannot hold; the file's own name is in the content.
	for _, r := range ext {
		if r < ' ' || r == 0x7F || r == '\\' {
			return ""
		}
	}
	return ext
}

package crosscomm

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxName is how many bytes a file name may have nearly everywhere.
	maxName = 255
	// maxKey is more than any store known takes, and any path of a sender's
	// has. A longer key, which a message may have, could nest directories so
	// deeply that it takes seconds, and nobody gets rid of them again.
	maxKey = 4096
)

// namer gives the objects of a folder names on this machine: relative paths
// with slashes. It keeps keys that this machine cannot tell apart, or hold, out
// of each other's way; the same keys in the same order get the same names.
type namer struct {
	traits
	names map[string]string
	taken map[string]bool
}

func newNamer(t traits) *namer {
	return &namer{traits: t, names: map[string]string{}, taken: map[string]bool{}}
}

// file returns the name for the object, or an error for a key that must not be
// written: an absolute one, or one that leads upwards.
func (n *namer) file(key string) (string, error) {
	if strings.HasSuffix(key, "/") {
		return "", fmt.Errorf("the key %q is that of a folder", key)
	}
	segments, err := splitKey(key)
	if err != nil {
		return "", err
	}
	last := len(segments) - 1
	return n.segment(n.dirs(segments[:last]), segments[last], false), nil
}

// dir returns the name for a folder.
func (n *namer) dir(key string) (string, error) {
	segments, err := splitKey(key)
	if err != nil {
		return "", err
	}
	return n.dirs(segments), nil
}

func (n *namer) dirs(segments []string) string {
	dir := ""
	for _, s := range segments {
		dir = n.segment(dir, s, true)
	}
	return dir
}

// splitKey splits a key at its slashes. Empty segments and "." mean nothing, as
// for Python's Path.
func splitKey(key string) ([]string, error) {
	if len(key) > maxKey {
		return nil, fmt.Errorf("the key is refused: it has %d bytes, more than %d", len(key), maxKey)
	}
	if strings.HasPrefix(key, "/") || strings.HasPrefix(key, `\`) {
		return nil, fmt.Errorf("the key %q is refused: it begins with a slash, and would be an absolute path", key)
	}
	var segments []string
	for s := range strings.SplitSeq(key, "/") {
		switch {
		case s == "" || s == ".":
			continue
		case s == ".." || strings.HasPrefix(s, `..\`) || strings.HasSuffix(s, `\..`) || strings.Contains(s, `\..\`):
			return nil, fmt.Errorf("the key %q is refused: it leads out of the directory", key)
		}
		segments = append(segments, s)
	}
	if len(segments) == 0 {
		return nil, errors.New("the key is empty")
	}
	return segments, nil
}

// segment returns the path of a segment in the directory, which is a path that
// was returned before.
func (n *namer) segment(dir, segment string, isDir bool) string {
	id := dir + "/" + segment
	if isDir {
		id += "/" // "a" and "a/b" can stand side by side in a store
	}
	if name, ok := n.names[id]; ok {
		return name
	}
	legal := legalName(segment, n.windows)
	name := path.Join(dir, legal)
	for i := 2; n.taken[n.folded(name)]; i++ {
		ext := shortExt(legal)
		name = path.Join(dir, withMark(strings.TrimSuffix(legal, ext), fmt.Sprintf("~%d%s", i, ext)))
	}
	n.names[id] = name
	n.taken[n.folded(name)] = true
	return name
}

func (n *namer) folded(name string) string {
	if n.fold {
		return foldCase(name)
	}
	return name
}

// foldCase makes the same of names that differ only in the case of letters. Some
// file systems take more for the same: macOS's and Linux's with casefold é in one
// character and in two, these also ß and ss. To know that takes Unicode's tables,
// which are no reason for a dependency; of two files of a folder with such names
// only the one written last is there.
func foldCase(name string) string { return strings.ToLower(strings.ToUpper(name)) }

// reserved are the devices of Windows, which are so with any extension.
var reserved = map[string]bool{
	"con": true, "prn": true, "aux": true, "nul": true,
	"com1": true, "com2": true, "com3": true, "com4": true, "com5": true, "com6": true, "com7": true, "com8": true, "com9": true,
	"com¹": true, "com²": true, "com³": true, "lpt¹": true, "lpt²": true, "lpt³": true, "conin$": true, "conout$": true,
	"lpt1": true, "lpt2": true, "lpt3": true, "lpt4": true, "lpt5": true, "lpt6": true, "lpt7": true, "lpt8": true, "lpt9": true,
}

// legalName writes what a file name cannot have as %XX, and shortens one that
// is too long. Control characters are possible on Unix, but only ever meant to
// trick whoever looks at the name.
func legalName(segment string, windows bool) string {
	var b strings.Builder
	for i, r := range segment {
		bad := unicode.IsControl(r) || r == utf8.RuneError && !strings.HasPrefix(segment[i:], "\uFFFD")
		if windows {
			last := i+utf8.RuneLen(r) == len(segment)
			bad = bad || strings.ContainsRune(`<>:"|?*\`, r) || last && (r == '.' || r == ' ')
		}
		if !bad {
			b.WriteRune(r)
			continue
		}
		size := 1
		if r != utf8.RuneError {
			size = utf8.RuneLen(r)
		}
		for _, c := range []byte(segment[i : i+size]) {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	name := b.String()
	if base, _, _ := strings.Cut(strings.ToLower(name), "."); windows && reserved[strings.TrimSpace(base)] {
		name = "_" + name
	}
	if isPartName(foldCase(name)) { // only our own are deleted when they are old
		name = "%2E" + name[1:]
	}
	if len(name) > maxName {
		name = withMark(name, "~"+shortHash(segment)+shortExt(name))
	}
	return name
}

// shortExt is the extension of a name, or nothing if that is long.
func shortExt(name string) string {
	if ext := path.Ext(name); len(ext) <= 20 && ext != name {
		return ext
	}
	return ""
}

// withMark appends the mark to as much of the name as there is room for.
func withMark(name, mark string) string {
	keep := maxName - len(mark)
	if len(name) <= keep {
		return name + mark
	}
	for keep > 0 && !utf8.RuneStart(name[keep]) {
		keep--
	}
	return name[:keep] + mark
}

package crosscomm

import (
	"path"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// What other systems cannot hold or tell apart.
func TestNamer(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		fold, windows bool
		keys, want    []string
	}{
		{keys: []string{"A", "a", "a/b", "c:d", "con", "x.", `a\b`}, want: []string{"A", "a", "a~2/b", "c:d", "con", "x.", `a\b`}},
		{fold: true, keys: []string{"Dir/x.txt", "dir/X.TXT", "dir/y", "STRASSE", "ſtrasse", "É", "é"}, want: []string{"Dir/x.txt", "dir~2/X.TXT", "dir~2/y", "STRASSE", "ſtrasse~2", "É", "é~2"}},
		{fold: true, keys: []string{"x.txt", "X.txt", "x.TXT", "x~2.txt"}, want: []string{"x.txt", "X~2.txt", "x~3.TXT", "x~2~2.txt"}},
		{windows: true, keys: []string{"c:d", "con", "Con.txt", "x.", "y ", `a\b`, `<>"|?*`, "nul.tar.gz", "conx", "100%"}, want: []string{"c%3Ad", "_con", "_Con.txt", "x%2E", "y%20", "a%5Cb", "%3C%3E%22%7C%3F%2A", "_nul.tar.gz", "conx", "100%"}},
		{keys: []string{"a\x01b", "a\nb", "a\x7f", "bad\xff", "a//b", "./c/./d"}, want: []string{"a%01b", "a%0Ab", "a%7F", "bad%FF", "a/b", "c/d"}},
		{keys: []string{long}, want: []string{strings.Repeat("x", 255-17) + "~" + shortHash(long)}},
		// A mark takes the place of the last characters.
		{fold: true, keys: []string{strings.Repeat("y", 251) + ".txt", strings.Repeat("Y", 251) + ".txt"}, want: []string{strings.Repeat("y", 251) + ".txt", strings.Repeat("Y", 249) + "~2.txt"}},
		{windows: true, keys: []string{"COM¹", "conin$.txt", "nul .txt", "x. ", "com0"}, want: []string{"_COM¹", "_conin$.txt", "_nul .txt", "x.%20", "com0"}},
		// What looks as if it were ours to delete.
		{keys: []string{".crosscomm-0011.part", "a/.Crosscomm-x.PART/b", ".croſſcomm-x.part", ".crosscomm-x.parts"}, want: []string{"%2Ecrosscomm-0011.part", "a/%2ECrosscomm-x.PART/b", "%2Ecroſſcomm-x.part", ".crosscomm-x.parts"}},
		{windows: true, keys: []string{"LPT³.a.b", "aux:x", "CONOUT$", "com1 . x", "a. .", ". .", "..."}, want: []string{"_LPT³.a.b", "aux%3Ax", "_CONOUT$", "_com1 . x", "a. %2E", ". %2E", "..%2E"}},
	} {
		n := newNamer(traits{fold: c.fold, windows: c.windows})
		for i, key := range c.keys {
			if got, err := n.file(key); err != nil || got != c.want[i] {
				t.Errorf("%q: got %q, %v; want %q", key, got, err, c.want[i])
			}
		}
		for i, key := range c.keys { // and the same again
			if got, err := n.file(key); err != nil || got != c.want[i] {
				t.Errorf("again: %q: got %q, %v; want %q", key, got, err, c.want[i])
			}
		}
	}
}

// A key that a store can have, and a message may name, has a name; one that is
// there only to make trouble is refused at once.
func TestLongKeys(t *testing.T) {
	n := newNamer(traits{})
	long := strings.Repeat("a/", maxKey/2-1) + "ab"
	if name, err := n.file(long); err != nil || name != long {
		t.Errorf("got %d bytes, %v", len(name), err)
	}
	for _, key := range []string{long + "c", strings.Repeat("/./", maxKey) + "a", strings.Repeat("a/", 1<<20)} {
		if _, err := n.dir(key); err == nil || len(err.Error()) > 100 {
			t.Errorf("%d bytes: got %v", len(key), err)
		}
	}
}

// No key makes a name that is not below the directory, or that two keys share.
func FuzzNamer(f *testing.F) {
	for _, key := range []string{"a/b", "../x", "a/../b", `a\..\b`, "/x", "a//b/./c", "con/aux.txt", "x\x00y", strings.Repeat("é", 200), "a~2", "A", "con", "CONIN$.x", "com¹ .x", "a:b. ", "x" + strings.Repeat(". ", 200)} {
		f.Add(key, "A/B", true, true)
		f.Add("a", key, false, false)
	}
	f.Fuzz(func(t *testing.T, one, two string, fold, windows bool) {
		n := newNamer(traits{fold: fold, windows: windows})
		names := map[string]string{}
		for _, key := range []string{one, two} {
			name, err := n.file(key)
			if err != nil {
				continue
			}
			if !filepath.IsLocal(name) || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) {
				t.Errorf("%q became %q", key, name)
			}
			for s := range strings.SplitSeq(name, "/") {
				if s == "" || s == "." || s == ".." || len(s) > maxName {
					t.Errorf("%q became %q", key, name)
				}
				// As filepath.IsLocal sees it on Windows, where it asks also what is
				// in front of an extension.
				base, _, _ := strings.Cut(strings.ToLower(s), ".")
				if windows && (strings.ContainsAny(s, `<>:"|?*\`) || strings.TrimRight(s, ". ") != s || reserved[strings.TrimRight(base, " ")]) {
					t.Errorf("%q became %q on Windows", key, name)
				}
			}
			segments, err := splitKey(key)
			if err != nil {
				t.Error(err)
			}
			id := path.Join(segments...)
			if other, ok := names[n.folded(name)]; ok && other != id {
				t.Errorf("%q and %q both became %q", other, id, name)
			}
			names[n.folded(name)] = id
		}
	})
}

package crosscomm

import (
	"os"
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
	} {
		n := newNamer()
		n.fold, n.windows = c.fold, c.windows
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

// No key makes a name that is not below the directory, or that two keys share.
func FuzzNamer(f *testing.F) {
	for _, key := range []string{"a/b", "../x", "a/../b", `a\..\b`, "/x", "a//b/./c", "con/aux.txt", "x\x00y", strings.Repeat("é", 200), "a~2", "A"} {
		f.Add(key, "A/B", true, true)
		f.Add("a", key, false, false)
	}
	f.Fuzz(func(t *testing.T, one, two string, fold, windows bool) {
		n := newNamer()
		n.fold, n.windows = fold, windows
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
				if s == "" || s == "." || s == ".." || len(s) > maxName+8 {
					t.Errorf("%q became %q", key, name)
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

func TestSuffix(t *testing.T) {
	// As Python's Path(name).suffix.
	for name, want := range map[string]string{
		"a.txt": ".txt", "/x.y/a.tar.gz": ".gz", ".profile": "", "..x": "", ".a.b": ".b", "a.": "", "a": "", "a b.中": ".中", "a.JPG": ".JPG", "...": "", "a..": "", "a.b.": "", "x.a\nb": "",
	} {
		if got := suffixOf(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

// All who open the keys at once get the same.
func TestAccessKeysAreMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	ids := make(chan string, 8)
	for range cap(ids) {
		go func() {
			k, err := openAccessKeys(dir)
			if err != nil {
				t.Error(err)
				ids <- ""
				return
			}
			id, _ := k.all()
			ids <- id
		}()
	}
	first := <-ids
	for range cap(ids) - 1 {
		if id := <-ids; id != first {
			t.Errorf("%s and %s", first, id)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, accessKeysFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openAccessKeys(dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v", err)
	}
}

func FuzzAccessKeyID(f *testing.F) {
	f.Add("client.0.cm9ib3Q")
	f.Add("client.00.cm9ib3Q")
	f.Add("client.-1.")
	f.Add("client.0.cm9ib3Q=")
	k := &accessKeys{kept: keptKeys{ID: "all", Secret: "s"}}
	f.Fuzz(func(t *testing.T, id string) {
		client, ok := k.clientOf(id)
		if !ok || id == "all" {
			return
		}
		// There is one id for a client, and no other is taken for it.
		if want, _ := k.ofClient(client); want != id {
			t.Errorf("%q is taken for %q, the key of %q", id, want, client)
		}
	})
}

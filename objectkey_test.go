package crosscomm

import (
	"strings"
	"testing"
)

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

// Each client has a prefix of its own, which is none of another's, and the
// original's for ids that are usual.
func FuzzKeyPrefix(f *testing.F) {
	for _, id := range []string{"a/b", "a%2Fb", "a%252Fb", ".", "%2E", "..", `a\b`, "客户 端", "a b+c", "100%", "a"} {
		f.Add(id, "a/b")
		f.Add("a%2Fb", id)
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		if checkID(one) != nil || checkID(two) != nil {
			return
		}
		a, b := keyPrefix(one), keyPrefix(two)
		if one != two && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a)) {
			t.Errorf("%q has %q, and %q has %q", one, a, two, b)
		}
		if segments, err := splitKey(a + "x"); err != nil || len(segments) != 3 {
			t.Errorf("%q has %q: %v", one, a, err)
		}
		if !strings.ContainsAny(one, `/\%`) && one != "." && one != ".." && a != "cross_comm/"+one+"/" {
			t.Errorf("%q has %q", one, a)
		}
	})
}

package crosscomm

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go/internal/inprocess"
	"github.com/crosscomm/crosscomm-go/ossserver"
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

// Ids stay as they are, as in the original, where that can mean only one.
func TestKeyPrefix(t *testing.T) {
	for id, want := range map[string]string{
		"a": "a", "客户 端+&?#": "客户 端+&?#", "...": "...", "a.b": "a.b", "100%": "100%", "50% of%20": "50% of%20",
		"a/b": "a%2Fb", "a%2Fb": "a%252Fb", "a%2fb": "a%252fb", "%2E": "%252E", ".": "%2E", "..": "%2E%2E", `a\..`: "a%5C%2E%2E",
	} {
		if got := keyPrefix(id); got != "cross_comm/"+want+"/" {
			t.Errorf("%q: got %q", id, got)
		}
	}
}

// Each client has a prefix of its own, which is none of another's, and the
// original's for ids that are usual. The endpoint takes keys below it.
func FuzzKeyPrefix(f *testing.F) {
	for _, id := range []string{"a/b", "a%2Fb", "a%252Fb", ".", "%2E", "..", `a\b`, `\..`, "/", "客户 端", "a b+c", "100%", "a%2Fb%", "a%zz/", "a", strings.Repeat("/", maxIDLen)} {
		f.Add(id, "a/b")
		f.Add("a%2Fb", id)
	}
	server, err := ossserver.New(ossserver.Config{
		Dir: f.TempDir(), Bucket: bucketName, Secret: func(string) (string, bool) { return "secret", true },
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { server.Close() })
	store, err := newOSSStore(OSSConfig{Endpoint: "http://127.0.0.1", BucketName: bucketName, AccessKeyID: "id", AccessKeySecret: "secret"}, inprocess.Transport{Handler: server})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(store.close)
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
		if _, err := store.Stat(t.Context(), a+"1795508069140_0123abcd_folder/x.txt"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q has %q: the endpoint says %v", one, a, err)
		}
		if !strings.ContainsAny(one, `/\%`) && one != "." && one != ".." && a != "cross_comm/"+one+"/" {
			t.Errorf("%q has %q, and not the original's", one, a)
		}
	})
}

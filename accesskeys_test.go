package crosscomm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

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

// Programs on one directory heed each other's revocations, and lose none.
func TestRevocationsOfTwoPrograms(t *testing.T) {
	dir := t.TempDir()
	open := func() *accessKeys {
		t.Helper()
		k, err := openAccessKeys(dir)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	valid := func(k *accessKeys, id string) bool {
		k.looked = time.Time{} // as if a second had passed
		_, ok := k.secret(id)
		return ok
	}
	one, two := open(), open()
	a, _ := one.ofClient("a")
	b, _ := one.ofClient("b")
	for k, id := range map[*accessKeys]string{one: "a", two: "b"} {
		if err := k.revoke(id); err != nil {
			t.Fatal(err)
		}
	}
	for name, k := range map[string]*accessKeys{"one": one, "two": two, "another": open()} {
		if valid(k, a) || valid(k, b) {
			t.Errorf("for %s, a's key is valid: %v, b's: %v", name, valid(k, a), valid(k, b))
		}
	}
	// What cannot be written is void as long as the program runs.
	if err := os.Remove(one.file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(one.file, 0o755); err != nil {
		t.Fatal(err)
	}
	c, _ := one.ofClient("c")
	if err := one.revoke("c"); err == nil || valid(one, c) {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(one.file); err != nil {
		t.Fatal(err)
	}
	if err := one.revoke("d"); err != nil {
		t.Fatal(err)
	}
	if again := open(); valid(again, a) || valid(again, b) || valid(again, c) {
		t.Error("a file that was deleted has taken revocations with it")
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

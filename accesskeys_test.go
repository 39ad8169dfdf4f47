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

func openKeys(t *testing.T, dir string) *accessKeys {
	t.Helper()
	k, err := openAccessKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Programs on one directory heed each other's revocations, and lose none.
func TestRevocationsOfTwoPrograms(t *testing.T) {
	dir := t.TempDir()
	open := func() *accessKeys { return openKeys(t, dir) }
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

// A revocation is seen whatever the clock says, and told once.
func TestRevocationOfAnotherProgramIsTold(t *testing.T) {
	dir := t.TempDir()
	one, err := openAccessKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	two, err := openAccessKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	one.onVoided(func(client, id string) {
		now, _ := one.ofClient(client) // it may ask
		if _, twice := told[id]; twice || now == id {
			t.Errorf("%s of %s is told, now it is %s", id, client, now)
		}
		told[id] = client
	})
	then := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for range 3 {
		id, _ := one.ofClient("a")
		if err := two.revoke("a"); err != nil {
			t.Fatal(err)
		}
		// As on a file system that knows no fractions of seconds.
		if err := os.Chtimes(two.file, then, then); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			one.looked = time.Time{} // as if a second had passed
			one.refresh()
		}
		if told[id] != "a" {
			t.Errorf("%s was not told", id)
		}
	}
	b, _ := one.ofClient("b")
	if err := two.revoke("b"); err != nil {
		t.Fatal(err)
	}
	if err := one.revoke("c"); err != nil { // which reads the file at once
		t.Fatal(err)
	}
	if told[b] != "b" || len(told) != 4 {
		t.Errorf("told were %v", told)
	}
}

// When the file was deleted, and another program has made new keys, one that
// runs goes on with those that it has given out, and leaves the new ones alone.
func TestKeysMadeAnew(t *testing.T) {
	dir := t.TempDir()
	open := func() *accessKeys { return openKeys(t, dir) }
	running := open()
	id, secret := running.all()
	a, _ := running.ofClient("a")
	if err := os.Remove(running.file); err != nil {
		t.Fatal(err)
	}
	other := open()
	newID, newSecret := other.all()
	if newID == id || newSecret == secret {
		t.Fatal("the keys are the old ones")
	}
	if err := other.revoke("a"); err != nil {
		t.Fatal(err)
	}
	running.looked = time.Time{} // as if a second had passed
	if _, ok := running.secret(a); ok {
		t.Error("the key that was revoked is valid")
	}
	if got, ok := running.secret(id); !ok || got != secret {
		t.Error("the program has lost its own keys")
	}
	if err := running.revoke("b"); err != nil {
		t.Fatal(err)
	}
	after := open()
	if got, gotSecret := after.all(); got != newID || gotSecret != newSecret {
		t.Errorf("got %s, want %s", got, newID)
	}
	if after.kept.Revoked["a"] != 1 || after.kept.Revoked["b"] != 1 {
		t.Errorf("got %v", after.kept.Revoked)
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

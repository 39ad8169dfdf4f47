package crosscomm

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/filelock"
)

const (
	accessKeysFile = "access-keys.json"
	// bucketName is that of a server's endpoint.
	bucketName = "crosscomm"
	// clientKeyMark begins the ids of clients' keys: mark, generation, and the
	// client's id in base64url, with dots between them.
	clientKeyMark = "client."
	// keysLockTimeout bounds the wait for another program that writes the file.
	keysLockTimeout = 5 * time.Second
	// keysFresh is how long may pass until it is seen that another program has
	// written the file.
	keysFresh = time.Second
)

// accessKeys are the keys to a server's endpoint: one pair that may do all, for
// Python and Java peers, and one for each client of ours. The clients' are not
// kept but calculated, so that they outlast a restart of the server, and a
// million of them take no room. It may be used concurrently.
type accessKeys struct {
	file string

	mu      sync.Mutex
	kept    keptKeys
	written time.Time // when the file was that was read
	looked  time.Time // when that was last compared
}

// keptKeys is what the file has.
type keptKeys struct {
	ID     string `json:"access_key_id"`
	Secret string `json:"access_key_secret"`
	// Revoked counts, for each client that had its keys revoked, how often.
	Revoked map[string]int `json:"revoked,omitempty"`
}

// openAccessKeys reads the file, and makes it, for the owner's eyes only, if it
// is not there.
func openAccessKeys(dir string) (*accessKeys, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	k := &accessKeys{file: filepath.Join(dir, accessKeysFile)}
	unlock, err := filelock.Lock(k.file+".lock", keysLockTimeout)
	if err != nil {
		return nil, err
	}
	defer unlock()
	err = k.read()
	if errors.Is(err, fs.ErrNotExist) {
		k.kept = keptKeys{ID: "CC" + strings.ToUpper(randomHex(10)), Secret: randomHex(20)}
		err = k.save()
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// read takes over what the file has. What is revoked stays so, whatever it says.
// Call it with mu held, or before anybody else has k.
func (k *accessKeys) read() error {
	info, err := os.Stat(k.file)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(k.file)
	if err != nil {
		return err
	}
	var kept keptKeys
	err = json.Unmarshal(data, &kept)
	if err == nil && (kept.ID == "" || kept.Secret == "") {
		err = errors.New("it has no key")
	}
	if err != nil {
		return fmt.Errorf("%s is damaged: %w (delete it to have new keys made; peers then need these)", k.file, err)
	}
	for id, n := range k.kept.Revoked {
		if n > kept.Revoked[id] {
			kept.revoke(id, n)
		}
	}
	k.kept, k.written = kept, info.ModTime()
	return nil
}

func (k *keptKeys) revoke(clientID string, times int) {
	if k.Revoked == nil {
		k.Revoked = map[string]int{}
	}
	k.Revoked[clientID] = times
}

// refresh sees whether another program has written the file, with mu held. While
// it cannot be read the keys stay as they are.
func (k *accessKeys) refresh() {
	if k.file == "" || time.Since(k.looked) < keysFresh {
		return
	}
	k.looked = time.Now()
	if info, err := os.Stat(k.file); err == nil && !info.ModTime().Equal(k.written) {
		_ = k.read()
	}
}

// save writes the file anew, whole or not at all. Call it with mu held, or
// before anybody else has k.
func (k *accessKeys) save() error {
	data, err := json.MarshalIndent(k.kept, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(k.file), accessKeysFile+".*") // which makes it 0600
	if err != nil {
		return err
	}
	_, err = file.Write(append(data, '\n'))
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(file.Name(), k.file)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return err
	}
	syncDir(filepath.Dir(k.file))
	return nil
}

// all returns the pair that may do all.
func (k *accessKeys) all() (id, secret string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh()
	return k.kept.ID, k.kept.Secret
}

// ofClient returns the pair that the client is given now.
func (k *accessKeys) ofClient(clientID string) (id, secret string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh()
	id = clientKeyMark + strconv.Itoa(k.kept.Revoked[clientID]) + "." + base64.RawURLEncoding.EncodeToString([]byte(clientID))
	return id, k.calculate(id)
}

func (k *accessKeys) calculate(id string) string {
	mac := hmac.New(sha256.New, []byte(k.kept.Secret))
	mac.Write([]byte("crosscomm access key of " + id))
	return hex.EncodeToString(mac.Sum(nil)[:20])
}

// revoke makes the keys void that the client has been given so far, also by
// other programs on the directory.
func (k *accessKeys) revoke(clientID string) error {
	unlock, err := filelock.Lock(k.file+".lock", keysLockTimeout)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		defer unlock()
		if err = k.read(); errors.Is(err, fs.ErrNotExist) {
			err = nil // it is written anew
		}
	}
	k.kept.revoke(clientID, k.kept.Revoked[clientID]+1)
	if err == nil {
		err = k.save()
	}
	if err != nil {
		return fmt.Errorf("the keys of %q stay valid after a restart: %w", clientID, err)
	}
	return nil
}

// clientOf returns whose key it is: "" for that which may do all.
func (k *accessKeys) clientOf(id string) (clientID string, ok bool) {
	if all, _ := k.all(); id == all {
		return "", true
	}
	raw, err := base64.RawURLEncoding.DecodeString(id[strings.LastIndexByte(id, '.')+1:])
	if err != nil || checkID(string(raw)) != nil {
		return "", false
	}
	now, _ := k.ofClient(string(raw)) // neither one revoked, nor the same in another spelling
	return string(raw), id == now
}

// secret is ossserver.Config.Secret.
func (k *accessKeys) secret(id string) (string, bool) {
	client, ok := k.clientOf(id)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case !ok:
		return "", false
	case client == "":
		return k.kept.Secret, true
	}
	return k.calculate(id), true
}

// allow is ossserver.Config.Allow: a client's key may read, and write what is
// its own.
func (k *accessKeys) allow(id, key string, write bool) bool {
	client, ok := k.clientOf(id)
	return ok && (client == "" || !write || strings.HasPrefix(key, keyPrefix(client)))
}

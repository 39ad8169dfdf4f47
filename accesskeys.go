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
	"github.com/crosscomm/crosscomm-go/internal/syncfs"
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

	mu     sync.Mutex
	kept   keptKeys
	seen   fs.FileInfo // of the file that was read; nil if there was none yet
	looked time.Time   // when that was last compared
	voided func(clientID, id string)
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
	k.kept, k.seen, err = readKeys(k.file)
	if errors.Is(err, fs.ErrNotExist) {
		k.kept = keptKeys{ID: "CC" + strings.ToUpper(randomHex(10)), Secret: randomHex(20)}
		err = k.save(k.kept)
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// readKeys returns what the file has, and which file that was.
func readKeys(name string) (kept keptKeys, seen fs.FileInfo, err error) {
	data, seen, err := readSeen(name)
	if err != nil {
		return kept, nil, err
	}
	err = json.Unmarshal(data, &kept)
	if err == nil && (kept.ID == "" || kept.Secret == "") {
		err = errors.New("it has no key")
	}
	if err != nil {
		return kept, nil, fmt.Errorf("%s is damaged: %w (delete it to have new keys made; peers then need these)", name, err)
	}
	return kept, seen, nil
}

// merge takes over the revocations that the file has, with mu held. It returns
// all that is in the file, and the ids of the clients' keys that have become
// void. The pair stays, even if somebody has deleted the file and another program
// has made new keys: the server's own way to its endpoint, and the clients that
// are online, use this one until the program ends.
func (k *accessKeys) merge() (inFile keptKeys, void map[string]string, err error) {
	inFile, seen, err := readKeys(k.file)
	if err != nil {
		return inFile, nil, err
	}
	k.seen = seen
	void = map[string]string{}
	for client, n := range inFile.Revoked {
		if was := k.kept.Revoked[client]; n > was {
			void[client] = clientKeyID(client, was)
			k.kept.revoke(client, n)
		}
	}
	return inFile, void, nil
}

func (k *keptKeys) revoke(clientID string, times int) {
	if k.Revoked == nil {
		k.Revoked = map[string]int{}
	}
	k.Revoked[clientID] = times
}

// onVoided sets what is called, with no lock held, when it is seen that another
// program has revoked a client's keys: with the id of the one that was valid.
func (k *accessKeys) onVoided(f func(clientID, id string)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.voided = f
}

func (k *accessKeys) tellVoided(void map[string]string) {
	k.mu.Lock()
	f := k.voided
	k.mu.Unlock()
	if f == nil {
		return
	}
	for client, id := range void {
		f(client, id)
	}
}

// refresh sees whether another program has written the file. While it cannot be
// read the keys stay as they are.
func (k *accessKeys) refresh() { k.tellVoided(k.look()) }

func (k *accessKeys) look() (void map[string]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file == "" || time.Since(k.looked) < keysFresh {
		return nil
	}
	k.looked = time.Now()
	// Two programs may write within one tick of the file system's clock.
	info, err := os.Stat(k.file)
	if err != nil || sameVersion(info, k.seen) {
		return nil
	}
	_, void, _ = k.merge()
	return void
}

// save writes the file anew, whole or not at all, with its lock held.
func (k *accessKeys) save(kept keptKeys) error {
	data, err := json.MarshalIndent(kept, "", "  ")
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
	syncfs.Dir(filepath.Dir(k.file))
	return nil
}

// all returns the pair that may do all.
func (k *accessKeys) all() (id, secret string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept.ID, k.kept.Secret
}

// ofClient returns the pair that the client is given now.
func (k *accessKeys) ofClient(clientID string) (id, secret string) {
	k.refresh()
	k.mu.Lock()
	defer k.mu.Unlock()
	id = clientKeyID(clientID, k.kept.Revoked[clientID])
	return id, k.calculate(id)
}

func clientKeyID(clientID string, revoked int) string {
	return clientKeyMark + strconv.Itoa(revoked) + "." + base64.RawURLEncoding.EncodeToString([]byte(clientID))
}

func (k *accessKeys) calculate(id string) string {
	mac := hmac.New(sha256.New, []byte(k.kept.Secret))
	mac.Write([]byte("crosscomm access key of " + id))
	return hex.EncodeToString(mac.Sum(nil)[:20])
}

// revoke makes the keys void that the client has been given so far, also by
// other programs on the directory.
func (k *accessKeys) revoke(clientID string) error {
	void, err := k.addRevocation(clientID)
	k.tellVoided(void)
	if err != nil {
		return fmt.Errorf("the keys of %q stay valid after a restart: %w", clientID, err)
	}
	return nil
}

// addRevocation also returns what other programs have made void.
func (k *accessKeys) addRevocation(clientID string) (void map[string]string, err error) {
	unlock, err := filelock.Lock(k.file+".lock", keysLockTimeout)
	k.mu.Lock()
	defer k.mu.Unlock()
	var inFile keptKeys
	if err == nil {
		defer unlock()
		if inFile, void, err = k.merge(); errors.Is(err, fs.ErrNotExist) {
			inFile, err = k.kept, nil // it is written anew
		}
	}
	k.kept.revoke(clientID, k.kept.Revoked[clientID]+1)
	if err == nil {
		inFile.Revoked = k.kept.Revoked
		err = k.save(inFile)
	}
	return void, err
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

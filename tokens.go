package crosscomm

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Token is a secret by which a client shows that it may log in. It is kept out of
// logs and of fmt's output; encoding/json writes it.
type Token string

// String does not return the token.
func (t Token) String() string {
	if t == "" {
		return ""
	}
	return "(hidden)"
}

// GoString is String: %#v shall not print the token either.
func (t Token) GoString() string { return t.String() }

// LogValue is String for slog.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

const (
	// anyID stands in a file of tokens for all ids.
	anyID = "*"
	// tokensSettled is how old a file must be until what is not in it counts no more.
	tokensSettled = time.Second
	// shortToken is up to which length tokens can perhaps be guessed.
	shortToken = 15
)

// tokenDigest stands for a token in memory. It depends on a key that is random, so
// that the time in which one is found tells nothing of the tokens: to look one up
// is as good as to compare it with all of them in constant time.
type tokenDigest [sha256.Size]byte

// tokens are those with which clients may log in. It may be used concurrently.
type tokens struct {
	key  [sha256.Size]byte
	one  Token  // for any id; "" for none
	file string // "" for none
	log  *slog.Logger

	reading sync.Mutex  // held while the file is looked at, which may take a disk long
	seen    fs.FileInfo // of the file that was read
	failed  fs.FileInfo // of the file that could not be read; nil also if it was not there
	broken  bool        // whether the file as it is now cannot be read

	mu     sync.RWMutex
	owners map[tokenDigest]tokenOwners
	ids    tokenOwners // of all tokens
}

// tokenOwners are the ids that a token is for.
type tokenOwners map[string]bool

// has reports whether the id is one of them.
func (o tokenOwners) has(id string) bool { return o[anyID] || o[id] }

// openTokens reads the file, if there is one. It returns nil if no tokens are
// needed.
func openTokens(one Token, file string, log *slog.Logger) (*tokens, error) {
	if one == "" && file == "" {
		return nil, nil
	}
	t := &tokens{one: one, file: file, log: log}
	_, _ = rand.Read(t.key[:]) // never fails
	if len(one) > 0 && len(one) <= shortToken {
		log.Warn("the token is so short that it may be guessed; take a random one of 20 characters or more")
	}
	if file == "" {
		t.set(t.withOne(nil))
		return t, nil
	}
	owners, seen, err := t.read()
	if err != nil {
		return nil, fmt.Errorf("crosscomm: the tokens: %w", err)
	}
	if seen.Mode().Perm()&0o004 != 0 && os.PathSeparator == '/' {
		log.Warn("everybody on this machine can read the file of tokens; chmod 600 would prevent that", "file", file)
	}
	t.seen = seen
	t.set(owners)
	return t, nil
}

// set has these tokens count from now on.
func (t *tokens) set(owners map[tokenDigest]tokenOwners) {
	ids := tokenOwners{}
	for _, of := range owners {
		maps.Copy(ids, of)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owners, t.ids = owners, ids
}

// owner returns whom the token is for. It reports false for one that is not known.
func (t *tokens) owner(digest tokenDigest) (tokenOwners, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	owners, ok := t.owners[digest]
	return owners, ok
}

// allow reports whether the token is one for the id.
func (t *tokens) allow(digest tokenDigest, id string) bool {
	owners, _ := t.owner(digest)
	return owners.has(id)
}

// mayLogIn reports whether there is a token with which the client may.
func (t *tokens) mayLogIn(id string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.ids.has(id)
}

func (t *tokens) digest(token Token) (d tokenDigest) {
	mac := hmac.New(sha256.New, t.key[:])
	mac.Write([]byte(token))
	mac.Sum(d[:0])
	return d
}

// refresh reads the file again if it has changed, and reports whether tokens may be
// there no more. While it cannot be read those that were in it count on, and so they do
// while it has only just been written: whoever writes it may be in the middle of that,
// and many programs begin with an empty file.
func (t *tokens) refresh() (changed bool) {
	if t.file == "" {
		return false
	}
	t.reading.Lock()
	defer t.reading.Unlock()
	info, err := os.Stat(t.file)
	switch {
	case err == nil && sameVersion(info, t.seen):
		t.broken = false
		return false
	case t.broken && (err != nil || sameVersion(info, t.failed)):
		return false // that was said
	}
	owners, seen, err := t.read()
	if info != nil && isFresh(info.ModTime()) {
		if err == nil {
			t.set(bothOwners(t.owners, owners))
		}
		return false
	}
	if err != nil {
		t.broken, t.failed = true, info
		t.log.Error("the file of tokens cannot be read; those that it had before still count", "file", t.file, "error", err)
		return false
	}
	t.seen, t.broken = seen, false
	t.set(owners)
	t.log.Info("the file of tokens has been read again", "file", t.file, "tokens", len(owners))
	return true
}

func (t *tokens) read() (owners map[tokenDigest]tokenOwners, seen fs.FileInfo, err error) {
	data, seen, err := readSeen(t.file)
	if err != nil {
		return nil, nil, err
	}
	list, err := parseTokens(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s, %w", t.file, err)
	}
	return t.withOne(list), seen, nil
}

// withOne returns whom the tokens of a file are for, and the one for all.
func (t *tokens) withOne(list []ownedToken) map[tokenDigest]tokenOwners {
	owners := map[tokenDigest]tokenOwners{}
	if t.one != "" {
		list = append(list, ownedToken{anyID, t.one})
	}
	for _, entry := range list {
		digest := t.digest(entry.token)
		if owners[digest] == nil {
			owners[digest] = tokenOwners{}
		}
		owners[digest][entry.id] = true
	}
	return owners
}

// isFresh reports whether a file that was written then may still be being written. A
// time to come is that of another clock, and says nothing.
func isFresh(written time.Time) bool {
	age := time.Since(written)
	return age >= 0 && age < tokensSettled
}

// bothOwners returns whom the tokens are for by either.
func bothOwners(a, b map[tokenDigest]tokenOwners) map[tokenDigest]tokenOwners {
	both := maps.Clone(a)
	for digest, owners := range b {
		ids := maps.Clone(owners)
		maps.Copy(ids, both[digest])
		both[digest] = ids
	}
	return both
}

// ownedToken is a line of a file of tokens.
type ownedToken struct {
	id    string // or anyID
	token Token
}

// parseTokens parses a file of tokens: an id and a token in each line, with white
// space between them. The id may have spaces, the token has none. Lines that begin
// with # are comments. An error tells the line, and nothing of the token.
func parseTokens(data []byte) (list []ownedToken, err error) {
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(data, byteOrderMark)))
	lines.Buffer(nil, 64<<10)
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		cut := strings.LastIndexFunc(line, unicode.IsSpace)
		if cut < 0 {
			return nil, fmt.Errorf(`line %d: there must be a client's id (or * for any) and its token, with a space between them`, n)
		}
		id, token := strings.TrimSpace(line[:cut]), strings.TrimSpace(line[cut:])
		if id != anyID {
			if err := checkID(id); err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
		}
		if err := checkToken(Token(token)); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		list = append(list, ownedToken{id, Token(token)})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	return list, nil
}

// checkToken says what is wrong with a token. It must fit into a header.
func checkToken(token Token) error {
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' {
			return errors.New("a token must be of ASCII characters without spaces")
		}
	}
	return nil
}

// tokenOf returns the token that comes with a request: programs can set a header,
// others only the address.
func tokenOf(r *http.Request) Token {
	const scheme = "Bearer "
	if h := r.Header.Get("Authorization"); len(h) > len(scheme) && strings.EqualFold(h[:len(scheme)], scheme) {
		return Token(strings.TrimSpace(h[len(scheme):]))
	}
	return Token(r.URL.Query().Get("token"))
}

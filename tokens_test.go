package crosscomm

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A file of tokens that is just being written takes nothing away: what is new in it
// counts at once, and what is missing, or malformed, a second later.
func TestTokenFileIsBeingWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	synctest.Test(t, func(t *testing.T) {
		write := func(text string) {
			t.Helper()
			now := time.Now() // synctest's
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, now, now); err != nil {
				t.Fatal(err)
			}
		}
		var log bytes.Buffer
		write("robot old-token\n")
		<-time.After(time.Hour)
		tokens, err := openTokens("", path, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		expect := func(changed, old, next bool) {
			t.Helper()
			if got := tokens.refresh(); got != changed {
				t.Errorf("refresh reports %v", got)
			}
			if got := tokens.allow(tokens.digest("old-token"), "robot"); got != old {
				t.Errorf("the old token counts: %v", got)
			}
			if got := tokens.allow(tokens.digest("next-token"), "robot"); got != next {
				t.Errorf("the next token counts: %v", got)
			}
		}
		write("")
		expect(false, true, false)
		write("robot\n")
		expect(false, true, false)
		if log.Len() > 0 {
			t.Errorf("the log has %s", log.String())
		}
		write("robot next-token\n")
		expect(false, true, true)
		<-time.After(tokensSettled - 1)
		expect(false, true, true)
		<-time.After(1)
		expect(true, false, true)
		expect(false, false, true)
		write("robot\n")
		<-time.After(tokensSettled)
		for range 3 {
			expect(false, false, true)
		}
		if n := strings.Count(log.String(), "line 1: there must be"); n != 1 {
			t.Errorf("it was told %d times that the file is malformed: %s", n, log.String())
		}
	})
}

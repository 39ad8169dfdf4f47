package crosscomm

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A client that comes for the first time is in the state file at once, also if that was
// written just now.
func TestNewClientsAreWrittenSoon(t *testing.T) {
	path := filepath.Join(t.TempDir(), DefaultStateFile)
	synctest.Test(t, func(t *testing.T) {
		h := newHub(&Service{cfg: Config{HeartbeatTimeout: time.Hour}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go newStateFile(path, slog.New(slog.DiscardHandler)).keep(ctx, h)
		comes := func(id string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.memberFor(id)
			h.markChanged()
		}
		comes("first")
		<-time.After(10 * stateInterval)
		h.markChanged()
		synctest.Wait() // it has been written again, and nobody was new
		comes("second")
		<-time.After(stateInterval / 10)
		data, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(data), "second") {
			t.Errorf("%q, %v", data, err)
		}
	})
}

// One that has come is written once, whether it is new or has changed.
func TestNewClientsAreWrittenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), DefaultStateFile)
	synctest.Test(t, func(t *testing.T) {
		h := newHub(&Service{cfg: Config{HeartbeatTimeout: time.Hour}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go newStateFile(path, slog.New(slog.DiscardHandler)).keep(ctx, h)
		for i := range 10 { // which of the two is noticed first is by chance
			h.mu.Lock()
			h.memberFor(strconv.Itoa(i))
			h.markChanged()
			h.mu.Unlock()
			<-time.After(stateInterval / 10)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			<-time.After(10 * stateInterval)
			if _, err := os.Stat(path); err == nil {
				t.Fatal("it was written again, and nothing had changed")
			}
		}
	})
}

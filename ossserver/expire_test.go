package ossserver_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/ossserver"
)

// The log tells what was removed from what could not be.
func TestExpireLog(t *testing.T) {
	var log bytes.Buffer
	cfg := ossserver.Config{
		Dir: t.TempDir(), Bucket: "lan", Secret: secret,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}
	s, err := ossserver.New(cfg)
	noError(t, err)
	ask(s, "PUT", "/lan/k", "hello", nil)
	noError(t, s.Close()) // with it ends what else writes to the log
	log.Reset()
	s.RemoveOld() // of a store that is closed
	if got := log.String(); !strings.Contains(got, "level=ERROR") || strings.Contains(got, "level=INFO") {
		t.Errorf("a failure: %s", got)
	}
	log.Reset()
	cfg.ObjectTTL = time.Nanosecond
	if s, err = ossserver.New(cfg); err != nil {
		t.Fatal(err)
	}
	noError(t, s.Close())
	if got := log.String(); !strings.Contains(got, "level=INFO") || !strings.Contains(got, "objects=1") || strings.Contains(got, "level=ERROR") {
		t.Errorf("a removal: %s", got)
	}
}

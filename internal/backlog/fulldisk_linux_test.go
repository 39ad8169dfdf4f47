package backlog_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/backlog"
	"github.com/crosscomm/crosscomm-go/internal/testkit/smalldisk"
)

// The test binary does what onFullDisk says if this is set.
const fullDisk = "CROSSCOMM_TEST_BACKLOG_FULL_DISK"

func init() {
	if dir := os.Getenv(fullDisk); dir != "" {
		os.Exit(onFullDisk(dir))
	}
}

// TestFullDisk runs onFullDisk where there is a small disk. Where that is forbidden,
// what is left is TestFailedCommit.
func TestFullDisk(t *testing.T) { smalldisk.Run(t, fullDisk) }

// onFullDisk fills a small disk, makes room and fills it again, and checks that
// nothing is lost but what was refused. It returns the exit code.
func onFullDisk(dir string) (exit int) {
	smalldisk.Mount(dir, "3m")
	complain := func(format string, args ...any) {
		fmt.Printf(format+"\n", args...)
		exit = 1
	}
	path := filepath.Join(dir, "backlog.db")
	now := time.Now()
	s, err := backlog.Open(path, backlog.Options{Now: func() time.Time { return now }})
	if err != nil {
		complain("%v", err)
		return exit
	}
	outcome := make(chan error, 1)
	text := func(seq uint64) string { return strings.Repeat(fmt.Sprintf("%08d", seq), 1000) }
	put := func(seq uint64) error {
		s.Put("a", backlog.Message{Seq: seq, Data: []byte(text(seq))}, func(err error) { outcome <- err })
		return <-outcome
	}
	check := func(when string, first, next uint64) {
		messages, err := s.Load("a", 0, math.MaxInt, math.MaxInt)
		if err != nil || len(messages) != int(next-first) {
			complain("%s: %d messages, want those from %d to before %d: %v", when, len(messages), first, next, err)
		}
		for i, m := range messages {
			if m.Seq != first+uint64(i) || string(m.Data) != text(m.Seq) {
				complain("%s: message %d has become %d, of %d bytes", when, first+uint64(i), m.Seq, len(m.Data))
			}
		}
		if n, _ := s.Size("a"); n != len(messages) {
			complain("%s: %d messages are counted", when, n)
		}
	}
	fill := func(seq uint64) (next uint64) {
		for {
			err := put(seq)
			if err == nil {
				seq++
				continue
			}
			if !errors.Is(err, backlog.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
				complain("message %d: %v", seq, err)
			}
			return seq
		}
	}
	const first = 1
	next := fill(first)
	check("full", first, next)
	if next < 100 {
		complain("it was full with %d messages", next)
	}
	var gone []uint64
	for seq := uint64(first); seq < next/2; seq++ {
		gone = append(gone, seq)
	}
	s.Delete("a", gone, func(err error) { outcome <- err })
	if err := <-outcome; err != nil {
		complain("deleting: %v", err)
	}
	now = now.Add(time.Second) // there is a pause after a full disk
	again := fill(next)
	if again < next+20 {
		complain("after half was deleted, there was room for %d messages", again-next)
	}
	check("full again", next/2, again)
	if err := s.Close(); err != nil {
		complain("closing: %v", err)
	}
	if s, err = backlog.Open(path, backlog.Options{}); err != nil {
		complain("%v", err)
		return exit
	}
	check("opened again", next/2, again)
	if err := s.Close(); err != nil {
		complain("closing: %v", err)
	}
	return exit
}

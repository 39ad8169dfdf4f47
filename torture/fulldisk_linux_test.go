package torture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/testkit/smalldisk"
)

// fullDisk is the directory where the test binary, if it is set, does what onFullDisk
// says.
const fullDisk = "CROSSCOMM_TORTURE_FULL_DISK"

func init() {
	if dir, ok := os.LookupEnv(fullDisk); ok {
		if err := onFullDisk(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// The disk with the server's data is full, and then has room again: messages pass all
// the time, the state file is whole, what cannot be written is said once, and all is
// written in the end.
func TestFullDisk(t *testing.T) {
	sideBySide(t)
	smalldisk.Run(t, fullDisk)
}

// onFullDisk is TestFullDisk on a small disk of its own.
func onFullDisk(dir string) error {
	smalldisk.Mount(dir, "8m")
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	logs := new(logBuffer)
	state := filepath.Join(dir, "cross_comm_clients.yaml")
	server, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, DataDir: dir, EnvFile: filepath.Join(dir, "none"), Logger: logs.logger()})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	onServer := make(chan *crosscomm.Message, 100)
	server.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		onServer <- m
		return nil
	}, crosscomm.ListenerOptions{})
	var sender *crosscomm.Service
	client := func(id string) error {
		sender, err = crosscomm.New(crosscomm.Config{Role: crosscomm.Client, ClientID: id, URL: "ws://" + l.Addr().String() + "/", EnvFile: filepath.Join(dir, "none"), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		return sender.Login(ctx)
	}
	passes := func(text string) error {
		if err := sender.SendMessage(ctx, text, crosscomm.TypeText, crosscomm.ServerID); err != nil {
			return err
		}
		if m := <-onServer; m.Text() != text {
			return fmt.Errorf("got %q, want %q", m.Text(), text)
		}
		return nil
	}
	// until waits for what the state file or the log has.
	until := func(what string, condition func() bool) error {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for !condition() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("it never came true: %s; the log: %s", what, logs)
			}
		}
		return nil
	}
	inState := func(id string) func() bool {
		return func() bool { ids, err := readState(state); return err == nil && ids[id].LastSeen > 0 }
	}
	file := filepath.Join(dir, "..", "large")
	defer os.Remove(file)
	if err := os.WriteFile(file, make([]byte, 2<<20), 0o600); err != nil {
		return err
	}
	sendFile := func() error { return sender.SendMessage(ctx, file, crosscomm.TypeFile, crosscomm.ServerID) }

	if err := client("before"); err != nil {
		return err
	}
	if err := errors.Join(until("the first client is in the file", inState("before")), sendFile()); err != nil {
		return err
	}
	<-onServer
	old, err := os.ReadFile(state)
	if err != nil {
		return err
	}

	junk := filepath.Join(dir, "junk")
	if err := fill(junk); err != nil {
		return err
	}
	if err := client("during"); err != nil {
		return fmt.Errorf("a login with a full disk: %w", err)
	}
	const cannot = "cannot write the state file"
	if err := until("the log tells of it", func() bool { return strings.Contains(logs.String(), cannot) }); err != nil {
		return err
	}
	var transfer *crosscomm.TransferError
	if err := sendFile(); !errors.As(err, &transfer) {
		return fmt.Errorf("a file with a full disk: %w", err)
	}
	began := time.Now()
	messages := 0
	for ; time.Since(began) < 3*time.Second; messages++ { // it is tried again every second
		if err := passes(fmt.Sprint("message ", messages)); err != nil {
			return fmt.Errorf("with a full disk: %w", err)
		}
	}
	if now, err := os.ReadFile(state); err != nil || string(now) != string(old) {
		return fmt.Errorf("the old state file was %q, and is %q, %w", old, now, err)
	}
	lines := strings.Count(logs.String(), cannot)
	if lines != 1 {
		return fmt.Errorf("%d lines tell of it", lines)
	}

	if err := os.Remove(junk); err != nil {
		return err
	}
	if err := errors.Join(until("the other client is in the file", inState("during")), sendFile()); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	<-onServer
	if !strings.Contains(logs.String(), "the state file is written again") {
		return fmt.Errorf("the log does not tell that there is room: %s", logs)
	}
	fmt.Printf("with the disk full %d messages passed in 3s, a file was refused (%v), and %d line was logged; with room again the state was written, and the file sent", messages, transfer, lines)
	cancel()
	return <-served
}

// fill writes until there is no room.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 64 << 10; size > 0; {
		if _, err = f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the disk is not full: %w", err)
	}
	return nil
}

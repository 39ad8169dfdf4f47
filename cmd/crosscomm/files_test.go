package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// progressUntilDone reads progress events up to the last, which it returns, and
// the first.
func (c *command) progressUntilDone() (first, last map[string]any) {
	c.t.Helper()
	for {
		last = c.event("progress")
		if first == nil {
			first = last
		}
		if last["done"] == true {
			return first, last
		}
	}
}

// downloaded reads events until the message is there and the last of the
// progress, which may come in any order, and returns both.
func (c *command) downloaded() (message, last map[string]any) {
	c.t.Helper()
	for message == nil || last == nil {
		switch e := c.next(); {
		case e["event"] == "message":
			message = e
		case e["event"] == "progress" && e["done"] == true:
			last = e
		case e["event"] != "progress":
			c.t.Fatalf("got %v", e)
		}
	}
	return message, last
}

func TestSendFiles(t *testing.T) {
	_, addr := startServer(t)
	inbox := filepath.Join(t.TempDir(), "new", "inbox")
	listen := start(t, nil, "listen", "--server", addr, "--id", "desk", "--json", "--download-dir", inbox, "--count", "3")
	listen.event("up")
	want := map[string]string{"a b.txt": "text", "deep/er/文.bin": strings.Repeat("x", 100_000), "empty": ""}
	source := testkit.WriteTree(t, t.TempDir(), want)
	for _, send := range []struct {
		typ, path   string
		bytes, file float64
	}{
		{"file", filepath.Join(source, "a b.txt"), 4, 1},
		{"image", filepath.Join(source, "deep", "er", "文.bin"), 100_000, 1},
		{"folder", source, 100_004, 3},
	} {
		c := start(t, nil, "send", "--server", addr, "--id", "me", "--to", "desk", "--type", send.typ, "--json", send.path)
		_, last := c.progressUntilDone()
		c.ends(exitOK, "")
		key := last["key"].(string)
		if len(last) != 9 || last["op"] != "upload" || last["path"] != send.path || last["bytes"] != send.bytes || last["total"] != send.bytes ||
			last["file"] != send.file || last["files"] != send.file || !strings.HasPrefix(key, "cross_comm/me/") {
			t.Errorf("%s: the last of the upload is %v", send.typ, last)
		}
		e, last := listen.downloaded()
		if last["op"] != "download" || last["key"] != key || last["bytes"] != send.bytes || last["files"] != send.file || last["path"] != e["path"] {
			t.Errorf("%s: the last of the download is %v", send.typ, last)
		}
		if len(e) != 9 || e["msg_type"] != send.typ || e["content"] != send.path || e["oss_key"] != key {
			t.Errorf("got %v", e)
		}
		got := e["path"].(string)
		if send.typ == "folder" {
			if files := testkit.ReadTree(t, filepath.Join(got, filepath.FromSlash(key))); fmt.Sprint(files) != fmt.Sprint(want) {
				t.Errorf("the folder has %v", files)
			}
			continue
		}
		sent, _ := os.ReadFile(send.path)
		if data, err := os.ReadFile(got); err != nil || !bytes.Equal(data, sent) || got != filepath.Join(inbox, key) {
			t.Errorf("%s: got %d bytes at %s, %v", send.typ, len(data), got, err)
		}
	}
	listen.ends(exitOK, "")
	if text := listen.stderr.String(); text != "" {
		t.Errorf("standard error has %s", text)
	}
}

// For people a message says where the file is, or by which key it can be had.
func TestFilesForPeople(t *testing.T) {
	_, addr := startServer(t)
	inbox := t.TempDir()
	with := start(t, nil, "listen", "--server", addr, "--id", "with", "--download-dir", inbox, "--count", "1")
	without := start(t, nil, "listen", "--server", addr, "--id", "without", "--count", "1")
	with.untilStderr("listening as")
	without.untilStderr("listening as")
	path := filepath.Join(testkit.WriteTree(t, t.TempDir(), map[string]string{"f.txt": "text"}), "f.txt")
	send := start(t, nil, "send", "--server", addr, "--id", "me", "--type", "file", path)
	send.ends(exitOK, "")
	if text := send.stderr.String(); text != "" {
		t.Errorf("in a pipe there is %q on standard error", text)
	}
	line, _ := with.stdout.ReadString('\n')
	if !strings.Contains(line, "me → all  file: "+path+", saved as "+filepath.Join(inbox, "cross_comm", "me")) {
		t.Errorf("got %s", line)
	}
	line, _ = without.stdout.ReadString('\n')
	if !strings.Contains(line, "me → all  file: "+path+", key cross_comm/me/") {
		t.Errorf("got %s", line)
	}
	with.ends(exitOK, "")
	without.ends(exitOK, "")
}

// A message with a key that nothing is stored under.
func TestListenToMissingObject(t *testing.T) {
	_, addr := startServer(t)
	const key = "cross_comm/me/1_gone.txt"
	for _, how := range []string{"json", "people"} {
		args := []string{"listen", "--server", addr, "--id", "desk", "--count", "1", "--download-dir", t.TempDir()}
		if how == "json" {
			args = append(args, "--json")
		}
		listen := start(t, nil, args...)
		if how == "json" {
			listen.event("up")
		} else {
			listen.untilStderr("listening as")
		}
		conn, _, err := websocket.DefaultDialer.Dial("ws://"+addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []crosscomm.Message{
			{MsgID: "1", FromClientID: "me", ToClientID: crosscomm.ServerID, MsgType: crosscomm.TypeLogin, Content: json.RawMessage("{}")},
			{MsgID: "2", FromClientID: "me", ToClientID: "desk", MsgType: crosscomm.TypeFile, Content: json.RawMessage(`"gone.txt"`), OSSKey: key},
		} {
			if err := conn.WriteMessage(websocket.TextMessage, m.AppendFrame(nil)); err != nil {
				t.Fatal(err)
			}
		}
		if how == "json" {
			e, last := listen.downloaded()
			if text, _ := e["error"].(string); len(e) != 9 || e["oss_key"] != key || !strings.Contains(text, "NoSuchKey") || last["error"] == nil {
				t.Errorf("got %v after %v", e, last)
			}
		} else if line, _ := listen.stdout.ReadString('\n'); !strings.Contains(line, "file: gone.txt, not saved: ") || !strings.Contains(line, key) {
			t.Errorf("got %s", line)
		}
		listen.ends(exitOK, "")
		conn.Close()
	}
}

func TestFilesNotSent(t *testing.T) {
	server, addr := startServer(t)
	dir := testkit.WriteTree(t, t.TempDir(), map[string]string{"file": "x"})
	for _, tc := range []struct {
		code              int
		typ, path, stderr string
	}{
		{exitFail, "file", filepath.Join(dir, "none"), "no such file"},
		{exitFail, "file", dir, "send it as folder"},
		{exitFail, "image", dir, "send it as folder"},
		{exitFail, "folder", filepath.Join(dir, "file"), "send it as file"},
		{exitFail, "file", "", "the path is empty"},
		{exitUsage, "file", "-", "--type file takes the path"},
		{exitUsage, "folder", "--lines", "--type folder takes the path"},
	} {
		start(t, nil, "send", "--server", addr, "--id", "me", "--type", tc.typ, tc.path).ends(tc.code, tc.stderr)
	}
	start(t, nil, "send", "--server", addr, "--type", "image").ends(exitUsage, "give the path of the image")
	for range 5 {
		server.event("login")
		server.event("logout")
	}
}

func TestDownload(t *testing.T) {
	_, addr := startServer(t)
	path := filepath.Join(testkit.WriteTree(t, t.TempDir(), map[string]string{"f.txt": "text"}), "f.txt")
	send := start(t, nil, "send", "--server", addr, "--id", "me", "--json", "--type", "file", path)
	_, last := send.progressUntilDone()
	send.ends(exitOK, "")
	key := last["key"].(string)

	dir := filepath.Join(t.TempDir(), "new")
	want := filepath.Join(dir, filepath.FromSlash(key))
	download := start(t, nil, "download", "--server", addr, "--json", key, dir)
	_, last = download.progressUntilDone()
	if e := download.event("downloaded"); e["path"] != want || last["path"] != want || last["bytes"] != 4.0 || last["op"] != "download" {
		t.Errorf("got %v after %v", e, last)
	}
	download.ends(exitOK, "")
	if data, err := os.ReadFile(want); err != nil || string(data) != "text" {
		t.Errorf("got %s, %v", data, err)
	}

	download = start(t, nil, "download", "--server", addr, key, dir)
	if line, _ := download.stdout.ReadString('\n'); line != want+"\n" {
		t.Errorf("got %q, want %q", line, want)
	}
	download.ends(exitOK, "")

	download = start(t, nil, "download", "--server", addr, "--json", key+"no", dir)
	if _, last = download.progressUntilDone(); !strings.Contains(fmt.Sprint(last["error"]), "NoSuchKey") {
		t.Errorf("got %v", last)
	}
	download.ends(exitFail, "NoSuchKey")
	start(t, nil, "download", "--server", addr, key, filepath.Join(path, "below")).ends(exitFail, "not a directory")
	start(t, nil, "download", "--server", addr, key, "").ends(exitUsage, "must not be empty")
	start(t, nil, "download", "--server", addr, key).ends(exitUsage, "<dir>")
}

// Ctrl-C in the midst of a large upload: nothing is sent, and the next send goes
// on from there.
func TestInterruptedUpload(t *testing.T) {
	_, addr := startServer(t)
	listen := start(t, nil, "listen", "--server", addr, "--id", "desk", "--json")
	listen.event("up")
	const mib = 1 << 20
	path := filepath.Join(t.TempDir(), "large.bin")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 64*mib); err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, addr)
	args := []string{"send", "--server", p.addr, "--id", "me", "--type", "file", "--timeout", "60", path}
	// With 4 parts of 4 MiB under way at once, others are stored by then.
	full := p.hold(48 * mib)
	send := start(t, nil, append(args, "--json")...)
	first := send.event("progress")
	testkit.Receive(t, full)
	send.stop()
	_, last := send.progressUntilDone()
	send.ends(exitFail, "context canceled")
	if last["error"] == nil || last["key"] != first["key"] {
		t.Errorf("got %v", last)
	}

	// Once more, for people.
	full = p.hold(5 * mib)
	tty := &terminal{width: 100}
	send = launch(t, tty.console, args...)
	testkit.Receive(t, full)
	send.stop()
	send.ends(exitFail, "")
	lines := tty.lines()
	if n := len(lines); n != 3 || !strings.HasPrefix(lines[0], "large.bin ") || !strings.Contains(lines[0], "failed") || !strings.Contains(lines[1], "context canceled") || lines[2] != "" {
		t.Errorf("the terminal has %q", lines)
	}

	p.hold(1 << 60)
	send = start(t, nil, append(args, "--json")...)
	again, last := send.progressUntilDone()
	send.ends(exitOK, "")
	if again["key"] != first["key"] || last["bytes"] != 64.0*mib {
		t.Errorf("it begins with %v and ends with %v; before it was %v", again, last, first)
	}
	if n := p.passed(); n > 56*mib {
		t.Errorf("%d bytes were sent once more", n)
	}
	if e := listen.event("message"); e["oss_key"] != first["key"] {
		t.Errorf("got %v", e)
	}
	listen.stop()
	listen.ends(exitOK, "")
}

// An upload that stands still ends.
func TestStalledUpload(t *testing.T) {
	_, addr := startServer(t)
	path := filepath.Join(testkit.WriteTree(t, t.TempDir(), map[string]string{"f": strings.Repeat("x", 4<<20)}), "f")
	p := startProxy(t, addr)
	p.hold(2 << 20)
	start(t, nil, "send", "--server", p.addr, "--type", "file", "--timeout", "3", path).ends(exitFail, "no progress within 3s")
}

func TestTimeWithoutProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, _ := newReporter(console{}, false)
		ctx, cancel := r.limit(context.Background(), 10*time.Second)
		defer cancel()
		for n := range int64(5) { // 40 s in all
			<-time.After(8 * time.Second)
			r.report(crosscomm.Progress{Op: "upload", Key: "k", Bytes: n, Total: 100})
			if ctx.Err() != nil {
				t.Fatalf("it ended after %d reports", n)
			}
		}
		began := time.Now()
		for ctx.Err() == nil { // what is sent once more, and fails again
			<-time.After(4 * time.Second)
			r.report(crosscomm.Progress{Op: "upload", Key: "k", Bytes: 2, Total: 100})
		}
		if d := time.Since(began); d > 12*time.Second || errors.Is(context.Cause(ctx), context.Canceled) {
			t.Errorf("it ended after %v: %v", d, context.Cause(ctx))
		}
	})
}

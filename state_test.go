package crosscomm_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/filelock"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

func stateFile(dir string) string { return filepath.Join(dir, "cross_comm_clients.yaml") }

func writeState(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(stateFile(dir), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readState(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(stateFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func ids(clients []crosscomm.ClientInfo) []string {
	var ids []string
	for _, c := range clients {
		ids = append(ids, c.ClientID)
	}
	return ids
}

// Clients of earlier runs are remembered, and are still in the file after a
// restart and a login: the original loses them there.
func TestStateSurvivesRestarts(t *testing.T) {
	dir := t.TempDir()
	writeState(t, dir, "old-python:\n  last_seen: 1795508069.25\n  status: online\n'123':\n  last_seen: 5\n  status: offline\n")
	for _, id := range []string{"first", "second"} {
		server := startServer(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile)})
		login(t, server.addr, id)
		list := server.Clients()
		if i := slices.Index(ids(list), "old-python"); i < 0 || list[i].Online || list[i].LastHeartbeat.UnixMilli() != 1795508069250 || !list[i].LoginTime.IsZero() {
			t.Errorf("known: %+v", list)
		}
		server.stop()
	}
	text := readState(t, dir)
	for _, want := range []string{"first:", "second:", "old-python:", "\"123\":", "last_seen: 1795508069.25"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "online") {
		t.Errorf("someone is still online in\n%s", text)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{"cross_comm_clients.yaml", "cross_comm_clients.yaml.lock"}) {
		t.Errorf("the directory has %v", names)
	}
}

func TestDamagedStateFileIsSetAside(t *testing.T) {
	for name, text := range map[string]string{
		"no YAML":    "a: [unclosed",
		"a list":     "- a\n- b\n",
		"a text":     "hello",
		"bad entry":  "a: 5\n",
		"bad value":  "a:\n  status: online\n  last_seen: yesterday\n",
		"binary":     "\x00\x01\x02",
		"merge bomb": "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeState(t, dir, text)
			logs := new(logBuffer)
			server := startServer(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile), Logger: logs.logger()})
			login(t, server.addr, "a")
			server.stop()
			aside, err := filepath.Glob(stateFile(dir) + ".damaged-*")
			if err != nil || len(aside) != 1 {
				t.Fatalf("set aside: %v, %v", aside, err)
			}
			if data, err := os.ReadFile(aside[0]); err != nil || string(data) != text {
				t.Errorf("what was set aside is %q, %v", data, err)
			}
			if !strings.Contains(readState(t, dir), "a:") {
				t.Error("no new file was begun")
			}
			if !strings.Contains(logs.String(), "damaged") || !strings.Contains(logs.String(), filepath.Base(aside[0])) {
				t.Errorf("the log says\n%s", logs)
			}
		})
	}
}

// A file that is no file, a directory that cannot be made: the server runs all
// the same.
func TestUnusableStateFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(stateFile(dir), "occupied"), 0o755); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{stateFile(dir), filepath.Join(plain, "sub", "state.yaml")} {
		logs := new(logBuffer)
		server := startServer(t, crosscomm.Config{StateFile: file, Logger: logs.logger()})
		login(t, server.addr, "a")
		server.stop()
		if n := strings.Count(logs.String(), "states will not be kept"); n != 1 || strings.Contains(logs.String(), "cannot write") {
			t.Errorf("the log says\n%s", logs)
		}
	}
}

func TestEmptyStateFile(t *testing.T) {
	dir := t.TempDir()
	writeState(t, dir, "")
	server := startServer(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile)})
	login(t, server.addr, "a")
	server.stop()
	if aside, _ := filepath.Glob(stateFile(dir) + ".damaged-*"); len(aside) != 0 {
		t.Errorf("an empty file was set aside: %v", aside)
	}
}

// What another process adds to the file stays in it, over several writes, and is
// known.
func TestStateFileIsMerged(t *testing.T) {
	dir := t.TempDir()
	server := startServer(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile)})
	login(t, server.addr, "ours")
	testkit.Eventually(t, "the file is there", func() bool { _, err := os.Stat(stateFile(dir)); return err == nil })
	unlock, err := filelock.Lock(stateFile(dir)+".lock", testkit.Patience)
	if err != nil {
		t.Fatal(err)
	}
	writeState(t, dir, "theirs:\n  status: online\n  last_seen: 1\n")
	unlock()
	for _, id := range []string{"second", "third"} {
		login(t, server.addr, id)
		testkit.Eventually(t, "it is written", func() bool { return strings.Contains(readState(t, dir), id) })
	}
	if !slices.Contains(ids(server.Clients()), "theirs") {
		t.Errorf("known: %v", ids(server.Clients()))
	}
	server.stop()
	for _, id := range []string{"ours", "theirs", "second", "third"} {
		if text := readState(t, dir); !strings.Contains(text, id+":") {
			t.Errorf("%s is not in the file:\n%s", id, text)
		}
	}
}

// A write that failed is tried again, although nothing has changed since.
func TestStateIsWrittenAfterAFailure(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		network := testkit.NewPipes()
		logs := new(logBuffer)
		_, stop := serveOn(t, network, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile), Logger: logs.logger()})
		rawOn(t, network, "first").Close()
		<-time.After(2 * time.Second)
		unlock, err := filelock.Lock(stateFile(dir)+".lock", 0)
		if err != nil {
			t.Fatal(err)
		}
		rawOn(t, network, "second").Close()
		<-time.After(time.Minute)
		if n := strings.Count(logs.String(), "cannot write the state file"); n != 1 {
			t.Errorf("%d lines in a minute tell that it cannot be written", n)
		}
		if strings.Contains(readState(t, dir), "second") {
			t.Error("it was written although the lock is held")
		}
		unlock()
		<-time.After(3 * time.Second)
		if !strings.Contains(readState(t, dir), "second") {
			t.Error("it was not tried again")
		}
		stop()
	})
}

// Ids that mean something in YAML come back as they were.
func TestOddIDsInStateFile(t *testing.T) {
	dir := t.TempDir()
	odd := []string{"<<", "=", "~", "null", "yes", "0x10", "1e3", "- a", "a: b", "# c", "'", `"`, `\`, "&a", "*a", "!t", "%d", "@", "`", "{", "[", "|", ">", "?", " padded ", "2001-01-01", "2001-99-99", ".3_", "1_000", "190:20:30", ".inf", "NaN", "y", "On", "数", "😀", strings.Repeat("x", 256)}
	server := startServer(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile)})
	for _, id := range odd {
		login(t, server.addr, id)
	}
	server.stop()
	logs := new(logBuffer)
	server = startServer(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile), Logger: logs.logger()})
	testkit.Eventually(t, "it is ready", server.IsConnected)
	login(t, server.addr, "last")
	if got := ids(server.Clients()); len(got) != len(odd)+1 {
		t.Errorf("read %q\n%s", got, logs)
	}
}

// A state file that is a link stays one, and keeps its permissions.
func TestStateFileIsALink(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target.yaml")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, stateFile(dir)); err != nil {
		t.Fatal(err)
	}
	server := startServer(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile)})
	login(t, server.addr, "a")
	server.stop()
	info, err := os.Stat(target)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the target is %v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(stateFile(dir)); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
	if !strings.Contains(readState(t, dir), "a:") {
		t.Error("it was not written")
	}
	// The lock is the one that Python takes: beside the name that was given.
	for path, want := range map[string]bool{stateFile(dir) + ".lock": true, target + ".lock": false} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestNoStateFile(t *testing.T) {
	dir := t.TempDir()
	server := startServer(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile), NoStateFile: true})
	login(t, server.addr, "a")
	server.stop()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}

// While another process holds the lock, logins go on; the state is written when
// it is free.
func TestStateFileLockIsHeld(t *testing.T) {
	dir := t.TempDir()
	server := startServer(t, crosscomm.Config{StateFile: filepath.Join(dir, crosscomm.DefaultStateFile)})
	login(t, server.addr, "first")
	testkit.Eventually(t, "the file is there", func() bool { _, err := os.Stat(stateFile(dir)); return err == nil })
	unlock, err := filelock.Lock(stateFile(dir)+".lock", testkit.Patience)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 20 {
		login(t, server.addr, "second")
	}
	if d := time.Since(began); d > testkit.Patience/2 {
		t.Errorf("20 logins took %v", d)
	}
	if strings.Contains(readState(t, dir), "second") {
		t.Error("it was written although the lock is held")
	}
	unlock()
	server.stop()
	if !strings.Contains(readState(t, dir), "second") {
		t.Error("it was not written after that")
	}
}

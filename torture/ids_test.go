package torture

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/testkit/pywayne"
)

// hostileIDs would do harm if they were taken for a path, YAML, a line, a command of a
// terminal or a part of JSON.
var hostileIDs = []string{
	"../../etc/passwd", "..", "/", `C:\con`, "a/../../b", "%2e%2e%2f",
	"a: b", "- a", "!!python/object/apply:os.system [id]", "!!binary aGk=", "&a [*a,*a]", "*a", "<<", "? a", "{a: b}", "[a", "# a", "a #b", "---", "...", "%YAML 1.1", "|", ">", "@", "`", "~", "null", "yes", "1e3", "0o17", "1:30", "2001-01-01", ".nan", "'", `"`, `\`, `a\`, `"a": {`,
	" a", "a ", "\u00a0", "\u200b", "\u202eevil", "\ufeffa", "\u2028", "\u2029", "\ue000", "\U0001f600", "e\u0301", "\u00e9", "\ufffe",
	"\n", "a\nb", "a\r\nb", "\t", "\x00", "\x1b[2J", "\x1b]0;title\x07", "\x07", "\x7f", "\u009b2J", "\u0085", "\u0090x",
	"all", "server", "", strings.Repeat("x", 256), strings.Repeat("x", 257), strings.Repeat("\u6570", 85), strings.Repeat("\u6570", 86),
	"${HOME}", "$(id)", "`id`", "<script>", "' OR 1=1 --", "msg=forged level=ERROR", "a=b", `a" client_id="b`,
}

// hasControl reports whether a line has what a terminal obeys.
func hasControl(line string) bool {
	return strings.ContainsFunc(line, func(r rune) bool { return unicode.IsControl(r) })
}

// Ids that would be something else to a file system, YAML, a terminal or a log are
// refused, or are but names: the state file is read by Go and Python with the same
// names in it, and neither the log nor the events have a byte that a terminal obeys.
func TestHostileIDs(t *testing.T) {
	sideBySide(t)
	dir := t.TempDir()
	state := filepath.Join(dir, "data", "cross_comm_clients.yaml")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	port := testkit.FreePort(t)
	addr := "127.0.0.1:" + strconv.Itoa(port)
	cmd := exec.Command(program(t), "server", "--ip", "127.0.0.1", "--port", strconv.Itoa(port), "--data-dir", filepath.Join(dir, "data"), "--json", "--log-level", "debug")
	cmd.Stdout, cmd.Stderr = out, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	contentsOf := func(f *os.File) string {
		data, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	testkit.Eventually(t, "it listens", func() bool { return strings.Contains(contentsOf(out), "listening") })
	pair := newPair(t, addr)

	want := []string{"pair-a", "pair-b"}
	refused := 0
	for _, id := range hostileIDs {
		quoted, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		inner := string(quoted[1 : len(quoted)-1])
		for _, ending := range []string{"logout", "close"} {
			p, err := dialRaw(addr)
			if err != nil {
				t.Fatal(err)
			}
			p.id = inner
			if err := p.write("server", "login", "{}"); err != nil {
				t.Fatal(err)
			}
			if _, answer, err := p.ReadMessage(); err != nil {
				if code := crosscomm.CloseLoginRejected; !strings.Contains(err.Error(), strconv.Itoa(code)) {
					t.Errorf("%q: %v", id, err)
				}
				if ending == "close" {
					refused++
				}
			} else if !strings.Contains(string(answer), "login_response") {
				t.Errorf("%q: got %s", id, answer)
			} else if ending == "close" {
				want = append(want, id)
			}
			_ = p.write("pair-b", inner, `"a type of that name"`)
			_ = p.write("pair-b", "login_response", `"what only a server sends"`)
			if ending == "logout" {
				_ = p.write("server", "logout", "{}")
			}
			p.Close()
		}
	}
	pair.check(t)
	slices.Sort(want)
	testkit.Eventually(t, "the state file has them", func() bool {
		ids, err := readState(state)
		return err == nil && slices.Equal(slices.Sorted(maps.Keys(ids)), want)
	})
	for _, text := range []string{contentsOf(log), contentsOf(out)} {
		for line := range strings.Lines(text) {
			if line = strings.TrimSuffix(line, "\n"); hasControl(line) || !strings.HasPrefix(line, "time=") && !strings.HasPrefix(line, `{"`) {
				t.Errorf("there is a line %q", line)
			}
		}
	}
	entries := testkit.ReadTree(t, dir)
	for name := range entries {
		if strings.Contains(name, "passwd") || strings.Contains(name, "evil") {
			t.Errorf("there is a file %q", name)
		}
	}
	t.Logf("of %d ids %d were refused and %d are in the state file; %d lines of log and %d events without a control byte", len(hostileIDs), refused, len(want)-2,
		strings.Count(contentsOf(log), "\n"), strings.Count(contentsOf(out), "\n"))

	ctx, cancel := context.WithTimeout(context.Background(), 5*testkit.Patience)
	defer cancel()
	python, err := pywayne.Interpreter(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if python == "" {
		t.Log("WARNING: there is no python3: the state file was read by Go alone")
		return
	}
	text, err := exec.CommandContext(ctx, python, "-c", "import json, sys, yaml; print(json.dumps([k for k in yaml.safe_load(open(sys.argv[1], encoding='utf-8'))]))", state).Output()
	if err != nil {
		t.Fatalf("Python does not read the state file: %v", err)
	}
	var got []string
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("Python has not read names: %v: %s", err, text)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("Python reads %q\nwant %q", got, want)
	}
}

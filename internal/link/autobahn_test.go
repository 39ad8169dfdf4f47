package link_test

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/testkit/cached"
	"github.com/crosscomm/crosscomm-go/internal/testkit/subprocess"
)

// autobahn is the Python 2.7 with which TestAutobahn runs Autobahn's suite.
var autobahn = flag.String("autobahn", "", "Python 2.7, to run all cases of the Autobahn test suite: see make autobahn")

var (
	//go:embed testdata/autobahn-requirements.txt
	autobahnRequirements []byte
	//go:embed testdata/runsuite.py
	autobahnScript []byte
)

// agent is what the suite calls us.
const agent = "crosscomm"

// TestAutobahn runs all cases of the Autobahn test suite, against both roles, with
// compression and without. It prints how many cases of each group ended how.
func TestAutobahn(t *testing.T) {
	if *autobahn == "" || way != direct && way != deflating {
		return // it takes minutes, and needs Python 2
	}
	suite := newSuite(t)
	groups := []string{"1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"}
	compression := "without compression"
	if way == deflating {
		groups, compression = []string{"*"}, "with permessage-deflate"
	}
	t.Run("server", func(t *testing.T) {
		url, _ := echoServer(t, autobahnOptions)
		suite.run(t, "the server "+compression, map[string]any{"servers": []any{map[string]string{"agent": agent, "url": url}}, "cases": groups}, "fuzzingclient", func(done <-chan struct{}) { <-done })
	})
	t.Run("client", func(t *testing.T) {
		url := fmt.Sprintf("ws://127.0.0.1:%d", testkit.FreePort(t))
		suite.run(t, "the client "+compression, map[string]any{"url": url, "cases": groups}, "fuzzingserver", func(done <-chan struct{}) { runCases(t, url, done) })
	})
}

// autobahnOptions let the largest messages pass, which have 16 MiB.
var autobahnOptions = link.Options{MaxMessage: 16 << 20, MaxQueued: 1 << 30}

// runCases connects to the suite's server once for each case.
func runCases(t *testing.T, url string, done <-chan struct{}) {
	ended := false
	testkit.Eventually(t, "the suite listens", func() bool {
		select {
		case <-done:
			ended = true
			return true
		default:
		}
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "ws://"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if ended {
		return // what it says is told
	}
	connect := func(path string, handle func(*link.Link, []byte, bool) bool) {
		_, ended := dialLink(t, url+path, autobahnOptions, handle)
		<-ended // it takes as long as the suite likes
	}
	count := 0
	connect("/getCaseCount", func(_ *link.Link, data []byte, _ bool) bool {
		count, _ = strconv.Atoi(string(data))
		return true
	})
	if count == 0 {
		t.Fatal("the suite does not say how many cases there are")
	}
	for i := 1; i <= count; i++ {
		connect(fmt.Sprintf("/runCase?case=%d&agent=%s", i, agent), echo)
	}
	connect("/updateReports?agent="+agent, echo)
}

// suite is Autobahn's, installed.
type suite struct{ python, lib string }

func newSuite(t *testing.T) *suite {
	if out, err := exec.Command(*autobahn, "-m", "pip", "--version").CombinedOutput(); err != nil || !strings.Contains(string(out), "python 2.7") {
		t.Fatalf("the Autobahn test suite runs with Python 2.7 only, and %q is none that has pip: install that (pyenv install 2.7.18) and say make autobahn PYTHON2=PATH; %v\n%s", *autobahn, err, out)
	}
	lib := func(dir string) string { return filepath.Join(dir, "lib") }
	dir, err := cached.Dir("autobahn-", autobahnRequirements, func(dir string) error {
		list := filepath.Join(dir, "requirements.txt")
		if err := os.WriteFile(list, autobahnRequirements, 0o644); err != nil {
			return err
		}
		if err := os.RemoveAll(lib(dir)); err != nil { // of a failure
			return err
		}
		out, err := exec.Command(*autobahn, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target", lib(dir), "-r", list).CombinedOutput()
		if err != nil {
			return fmt.Errorf("pip: %w\n%s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return &suite{*autobahn, lib(dir)}
}

// run runs the suite in a mode until wait returns, which is told when it has ended by
// itself, and judges its report.
func (s *suite) run(t *testing.T, what string, spec map[string]any, mode string, wait func(done <-chan struct{})) {
	dir := t.TempDir()
	spec["outdir"] = filepath.Join(dir, "reports")
	spec["exclude-cases"], spec["exclude-agent-cases"] = []string{}, map[string]string{}
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"spec.json": data, "runsuite.py": autobahnScript} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(s.python, "-u", "runsuite.py", s.lib, "-m", mode, "-s", "spec.json", "-u", "0")
	cmd.Dir = dir
	p, err := subprocess.Start(cmd, func(line []byte) {
		if bytes, ok := strings.CutPrefix(string(line), "Running test case ID "); ok && testing.Verbose() {
			fmt.Printf("%s: %s", what, bytes)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop() }) // also if a case cannot be begun
	wait(p.Ended())
	said := p.Stop()
	report, err := os.ReadFile(filepath.Join(dir, "reports", "index.json"))
	if err != nil {
		t.Fatalf("the suite has ended without a report%s: %v", said, err)
	}
	var outcomes map[string]map[string]outcome
	if err := json.Unmarshal(report, &outcomes); err != nil {
		t.Fatal(err)
	}
	judge(t, what, outcomes[agent])
}

// outcome is that of a case. The second is how the connection was closed.
type outcome struct{ Behavior, BehaviorClose string }

// kinds are the outcomes in the order of the table; those that fail are last.
var kinds = []string{"OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "WRONG CODE", "UNCLEAN", "FAILED"}

// UNIMPLEMENTED are offers of permessage-deflate that are declined, as RFC 7692 allows:
// those that limit the server's window.
//
// failing is the first of them that fails.
const failing = 4

func judge(t *testing.T, what string, cases map[string]outcome) {
	if len(cases) == 0 {
		t.Fatalf("%s: no case has run", what)
	}
	groups := map[int][]int{}
	for _, id := range slices.SortedFunc(maps.Keys(cases), compareIDs) {
		o := cases[id]
		kind := max(slices.Index(kinds, o.Behavior), slices.Index(kinds, o.BehaviorClose))
		if slices.Index(kinds, o.Behavior) < 0 || slices.Index(kinds, o.BehaviorClose) < 0 || kind >= failing {
			t.Errorf("%s: case %s is %s, and its close %s", what, id, o.Behavior, o.BehaviorClose)
			kind = len(kinds) - 1
		} else if kind > 0 && o.Behavior != "UNIMPLEMENTED" {
			t.Logf("%s: case %s is %s, and its close %s", what, id, o.Behavior, o.BehaviorClose)
		}
		group := idOf(id)[0]
		if groups[group] == nil {
			groups[group] = make([]int, len(kinds))
		}
		groups[group][kind]++
	}
	fmt.Printf("\nAutobahn and %s: %d cases\n\n", what, len(cases))
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintf(table, "| group\t| %s\t|\n|---%s\t|\n", strings.Join(kinds, "\t| "), strings.Repeat("\t|--:", len(kinds)))
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		fmt.Fprintf(table, "| %d", group)
		for _, n := range groups[group] {
			fmt.Fprintf(table, "\t| %d", n)
		}
		fmt.Fprintln(table, "\t|")
	}
	_ = table.Flush()
}

// idOf returns the numbers of a case.
func idOf(id string) (numbers []int) {
	for part := range strings.SplitSeq(id, ".") {
		n, _ := strconv.Atoi(part)
		numbers = append(numbers, n)
	}
	return numbers
}

func compareIDs(a, b string) int {
	return cmp.Or(slices.Compare(idOf(a), idOf(b)), cmp.Compare(a, b))
}

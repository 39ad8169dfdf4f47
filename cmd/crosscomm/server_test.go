package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// Where the state and the files are, in the three cases of --data-dir.
func TestDataDir(t *testing.T) {
	const state, keys = "cross_comm_clients.yaml", "access-keys.json"
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"not given":           {nil, []string{state, "crosscomm-data/" + keys}},
		"not given, own name": {[]string{"--state-file", "own.yaml"}, []string{"own.yaml", "crosscomm-data/" + keys}},
		"given":               {[]string{"--data-dir", "d/e"}, []string{"d/e/" + state, "d/e/" + keys}},
		"given, own name":     {[]string{"--data-dir", "d", "--state-file", "own.yaml"}, []string{"d/own.yaml", "d/" + keys}},
		"empty":               {[]string{"--data-dir="}, []string{state}},
		"empty, own name":     {[]string{"--data-dir=", "--state-file", "own.yaml"}, []string{"own.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			server := start(t, nil, append([]string{"server", "--ip", "127.0.0.1", "--port", "0", "--json"}, tc.args...)...)
			addr := server.event("listening")["addr"].(string)
			path := filepath.Join(testkit.WriteTree(t, t.TempDir(), map[string]string{"f": "x"}), "f")
			code, stderr := exitOK, ""
			if strings.HasPrefix(name, "empty") {
				code, stderr = exitFail, "no object store"
			}
			start(t, nil, "send", "--server", addr, "--type", "file", path).ends(code, stderr)
			server.stop()
			server.ends(exitOK, "stopped")
			var got []string
			for name := range testkit.ReadTree(t, ".") {
				if base := filepath.Base(name); base == keys || strings.HasSuffix(base, ".yaml") {
					got = append(got, name)
				}
			}
			slices.Sort(got)
			slices.Sort(tc.want)
			if !slices.Equal(got, tc.want) {
				t.Errorf("there are %v, want %v", got, tc.want)
			}
			if _, err := os.Stat(defaultDataDir); err == nil != strings.HasPrefix(name, "not given") {
				t.Errorf("%s: %v", defaultDataDir, err)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	server := start(t, nil, "server", "--ip", "127.0.0.1", "--port", "0", "--data-dir", t.TempDir(), "--json", "--max-file-size", "1kB", "--quota", "1.5kB", "--keep-files", "7d")
	addr := server.event("listening")["addr"].(string)
	dir := testkit.WriteTree(t, t.TempDir(), map[string]string{"large": strings.Repeat("x", 1001), "fits": strings.Repeat("x", 1000)})
	send := func(name string) *command {
		return start(t, nil, "send", "--server", addr, "--type", "file", filepath.Join(dir, name))
	}
	send("large").ends(exitFail, "EntityTooLarge")
	send("fits").ends(exitOK, "")
	send("fits").ends(exitFail, "object store (")
	server.stop()
	server.ends(exitOK, "stopped")
	for _, args := range [][]string{{"--quota", "much"}, {"--max-file-size", "-1"}, {"--max-file-size", "10G B"}, {"--keep-files", "7"}, {"--keep-files", "soon"}} {
		start(t, nil, append([]string{"server"}, args...)...).ends(exitUsage, args[0])
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]size{
		"1": 1, "500MB": 500e6, "10GB": 10e9, "1GiB": 1 << 30, "1.5 kb": 1500, "2TiB": 2 << 40, "9007199254740993": 9007199254740993, "12B": 12,
		"": 0, "0": 0, "-1": 0, "GB": 0, "1G": 0, "1 2": 0, "inf": 0, "NaN": 0, "1e3": 0, "0x10": 0, "99999999TB": 0, "0.1": 0, "1MBB": 0, "9223372036854775808": 0,
	} {
		var got size
		if err := got.UnmarshalText([]byte(text)); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 1 << 30: "1.1 GB", 5e15: "5000.0 TB"} {
		if got := describeSize(n); got != want {
			t.Errorf("%d: got %s", n, got)
		}
	}
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"168h": 7 * day, "7d": 7 * day, "1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, "90s": 90 * time.Second, "36500d": 36500 * day,
		"": 0, "7": 0, "d": 0, "0d": 0, "-1d": 0, "-1h": 0, "1d-1h": 0, "99999999999d": 0, "1dd": 0, "NaNd": 0,
	} {
		var got days
		if err := got.UnmarshalText([]byte(text)); time.Duration(got) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: got %v, %v", text, time.Duration(got), err)
		}
	}
}

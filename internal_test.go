package crosscomm

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gopkg.in/yaml.v3"
)

func TestLogLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		log := slog.New(slog.NewTextHandler(&buf, nil))
		l := logLimiter{perSecond: 3}
		for range 1000 {
			l.warn(log, "x")
			<-time.After(10 * time.Millisecond) // 10 s in all
		}
		if n := strings.Count(buf.String(), "\n"); n < 3*10 || n > 3*11 {
			t.Errorf("%d lines", n)
		}
		if !strings.Contains(buf.String(), "not_logged=97") {
			t.Errorf("it does not tell what is left out:\n%.1000s", buf.String())
		}
	})
}

// The state file is written without the YAML library, but for the ids; what that
// reads is what was written, also of ids that need quotes or are long.
func TestMarshalStates(t *testing.T) {
	want := map[string]clientState{}
	var states []memberState
	for i, id := range []string{"plain", "yes", "null", "a: b", "# x", "- y", "'", `"\`, "1", "1e3", "2026-11-25", "<<", "~", " a ", "长", "😀", "falsey", "plain-2_", strings.Repeat("y", 127), strings.Repeat("x", 256), strings.Repeat("长 ", 64)} {
		state := clientState{Status: []string{statusOnline, statusOffline}[i%2], LastSeen: []float64{1764063195.123456, 1764063195, 0, 1e-7}[i%4]}
		want[id] = state
		states = append(states, memberState{&member{id: id}, state})
	}
	for range 2 { // the keys are kept
		data, err := marshalStates(states)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]clientState{}
		if err := yaml.Unmarshal(data, &got); err != nil || !maps.Equal(got, want) {
			t.Errorf("%v: %v from\n%s", err, got, data)
		}
	}
}

// What cannot be a state file is told; one of very many clients is read in no time
// that grows with their square.
func TestParseStates(t *testing.T) {
	for text, want := range map[string]string{
		"- a\n":                              "line 1: it is no mapping",
		"a: {status: x}\n'a': {status: y}\n": `line 2: "a" is there twice`,
		"a: [1]\n":                           "cannot unmarshal",
		"a: {last_seen: soon}\n":             "cannot unmarshal",
		"a: {":                               "did not find",
	} {
		if states, err := parseStates([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v", text, states, err)
		}
	}
	for _, text := range []string{"", "# nobody\n", "null\n", "{}\n"} {
		if states, err := parseStates([]byte(text)); err != nil || len(states) != 0 {
			t.Errorf("%q: got %v, %v", text, states, err)
		}
	}
	var many strings.Builder
	const count = 50_000
	for i := range count {
		fmt.Fprintf(&many, "client_%d:\n  status: offline\n  last_seen: %d.5\n", i, i)
	}
	states, err := parseStates([]byte(many.String()))
	if err != nil || len(states) != count || states["client_7"] != (clientState{Status: statusOffline, LastSeen: 7.5}) {
		t.Errorf("%d clients, %v", len(states), err)
	}
}

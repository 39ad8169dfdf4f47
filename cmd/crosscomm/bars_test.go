package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// terminal shows what is written to it.
type terminal struct {
	testkit.Buffer
	width int
}

func (t *terminal) size() (width, height int) { return t.width, 24 }

// console has the terminal for both outputs.
func (t *terminal) console(con console) console {
	con.stdout, con.stderr = t, t
	return con
}

var escape = regexp.MustCompile(`^\x1b\[(\d*)([A-Z])`)

// lines returns what is to be seen, by the two sequences that bars are drawn
// with; any other shows.
func (t *terminal) lines() []string {
	lines, row := []string{""}, 0
	for text := t.String(); text != ""; {
		if m := escape.FindStringSubmatch(text); m != nil {
			text = text[len(m[0]):]
			switch n, _ := strconv.Atoi(m[1]); m[2] {
			case "A":
				row -= n
			case "J":
				lines = append(lines[:row], "")
			}
			continue
		}
		if text[0] == '\n' {
			if row++; row == len(lines) {
				lines = append(lines, "")
			}
		} else {
			lines[row] += text[:1]
		}
		text = text[1:]
	}
	return lines
}

// What is printed meanwhile goes above the bars, and bars that are done stay.
func TestScreen(t *testing.T) {
	tty := new(terminal)
	s := newScreen(tty)
	out := s.over(tty)
	frame := func(bars int, text string) {
		t.Helper()
		fmt.Fprint(s, text)
		if err := s.Flush(bars); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want string) {
		t.Helper()
		if got := strings.Join(tty.lines(), "\n"); got != want {
			t.Errorf("the terminal has %q, want %q", got, want)
		}
	}
	fmt.Fprintln(out, "before")
	frame(2, "a 1\nb 1\n")
	fmt.Fprintln(out, "one")
	fmt.Fprint(out, "two")
	is("before\none\ntwo\na 1\nb 1\n")
	frame(1, "a done\nb 2\n") // a is to stay
	fmt.Fprintln(out, "three")
	frame(1, "b 3\n")
	is("before\none\ntwo\na done\nthree\nb 3\n")
	s.leave()
	fmt.Fprintln(out, "after")
	frame(1, "c 1\n")
	frame(0, "")
	is("before\none\ntwo\na done\nthree\nb 3\nafter\n")
}

func TestBars(t *testing.T) {
	_, addr := startServer(t)
	tty := &terminal{width: 100}
	listen := launch(t, tty.console, "listen", "--server", addr, "--id", "desk", "--count", "6", "--download-dir", t.TempDir())
	testkit.Eventually(t, "it listens", func() bool { return strings.Contains(tty.String(), "listening as") })
	dir := testkit.WriteTree(t, t.TempDir(), map[string]string{"照片\x1b[31m.jpg": strings.Repeat("x", 3<<20), "folder/one": "1", "folder/two": "2", "empty": ""})
	sends := map[string]*terminal{}
	var running []*command
	for name, typ := range map[string]string{"照片\x1b[31m.jpg": "image", "folder": "folder", "empty": "file"} {
		sends[name] = &terminal{width: 80}
		running = append(running, launch(t, sends[name].console, "send", "--server", addr, "--id", typ, "--type", typ, filepath.Join(dir, name)),
			start(t, nil, "send", "--server", addr, "--id", "text "+typ, "hello "+typ))
	}
	for _, c := range running {
		c.ends(exitOK, "")
	}
	for name, want := range map[string]string{
		"照片\x1b[31m.jpg": `^照片\\x1b\[31m\.jpg +\[=+\] 100 %  3\.1 MB$`,
		"folder":         `^folder +\[=+\] 100 %  file 2 of 2, 2 B$`,
		"empty":          `^empty +\[.+\] 100 %  0 B$`,
	} {
		lines := sends[name].lines()
		if len(lines) != 2 || !regexp.MustCompile(want).MatchString(lines[0]) || lines[1] != "" {
			t.Errorf("sending %q shows %q", name, lines)
		}
	}
	listen.ends(exitOK, "")
	kinds := map[string]int{}
	lines := tty.lines()
	for _, line := range lines[:len(lines)-1] {
		kind := "garbled"
		for k, pattern := range map[string]string{
			"head":  `^listening as desk at ws://[^ ]+$`,
			"text":  `^\d\d:\d\d:\d\d  text \w+ → all  text: hello \w+$`,
			"saved": `^\d\d:\d\d:\d\d  \w+ → all  (image|file|folder): .*, saved as /[^ ]+$`,
			"bar":   `^(empty|folder|照片\\x1b\[31m\.jpg) +\[.+\] 100 %  (file 2 of 2, )?[\d.]+ M?B$`,
		} {
			if regexp.MustCompile(pattern).MatchString(line) {
				kind = k
			}
		}
		kinds[kind]++
	}
	if want := map[string]int{"head": 1, "text": 3, "saved": 3, "bar": 3}; fmt.Sprint(kinds) != fmt.Sprint(want) || lines[len(lines)-1] != "" {
		t.Errorf("the terminal has %v:\n%s", kinds, strings.Join(lines, "\n"))
	}
}

// With --json nothing is drawn.
func TestNoBars(t *testing.T) {
	_, addr := startServer(t)
	path := filepath.Join(testkit.WriteTree(t, t.TempDir(), map[string]string{"f": "x"}), "f")
	tty := &terminal{width: 80}
	send := launch(t, func(con console) console {
		con.stderr = tty
		return con
	}, "send", "--server", addr, "--json", "--type", "file", path)
	send.progressUntilDone()
	send.ends(exitOK, "")
	if text := tty.String(); text != "" {
		t.Errorf("the terminal has %q", text)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if isTerminal(null) {
		t.Error("the null device is taken for a terminal")
	}
}

func TestBarDetails(t *testing.T) {
	for want, p := range map[string]crosscomm.Progress{
		"1.0 kB of 2.0 MB":        {Bytes: 1000, Total: 2_000_000, Files: 1},
		"file 3 of 9, 5 B of 9 B": {Bytes: 5, Total: 9, FilesDone: 2, Files: 9},
		"file 9 of 9, 9 B":        {Bytes: 9, Total: 9, FilesDone: 9, Files: 9},
	} {
		var b bar
		b.now.Store(&p)
		if got := b.details(); !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for want, p := range map[string]crosscomm.Progress{
		`a\n b`:        {Name: "a\n\tb"},
		"folder":       {Name: "folder"},
		"一二三四五六七八九十一…": {Name: "一二三四五六七八九十一二三四"},
	} {
		if got := barName(p); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

package subprocess

import (
	"strings"
	"sync"
)

// tailSize is enough for a traceback of Python's.
const tailSize = 8000

// A Tail keeps the end of what is written to it, some 8,000 bytes. Its methods may
// be called concurrently.
type Tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write implements io.Writer.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = t.buf[over:]
	}
	return len(p), nil
}

// String implements fmt.Stringer, without the white space around it.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}

// mostQuoted is how much of what a process has said is worth repeating.
const mostQuoted = 300

// quoted is the last line in parentheses, or nothing.
func (t *Tail) quoted() string {
	s := t.String()
	if s == "" {
		return ""
	}
	s = s[strings.LastIndexByte(s, '\n')+1:]
	return " (" + strings.ToValidUTF8(s[:min(len(s), mostQuoted)], "") + ")"
}

package loadgen

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of the times in /proc, which is the same on all systems
// that Go runs on.
const clockTick = 10 * time.Millisecond

// process reads what a process uses. A nil one uses nothing.
type process struct{ pid int }

type usage struct {
	cpu    time.Duration
	memory int64 // resident, in bytes
	// anonymous is the part of memory that is no file's; 0 if that is not known.
	anonymous int64
}

func openProcess(pid int) (*process, error) {
	p := &process{pid}
	if _, err := p.read(); err != nil {
		return nil, fmt.Errorf("what the process %d uses cannot be read (that takes Linux): %w", pid, err)
	}
	return p, nil
}

// usage is zero if the process has gone, of which the connections tell.
func (p *process) usage() usage {
	if p == nil {
		return usage{}
	}
	u, err := p.read()
	if err != nil {
		return usage{}
	}
	return u
}

func (p *process) read() (u usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return u, err
	}
	// The name of the program, in parentheses, may have spaces. After it come
	// the state, which is field 3, and so on.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	field := func(number int) int64 {
		n, parseErr := strconv.ParseInt(string(fields[number-3]), 10, 64)
		if parseErr != nil {
			err = parseErr
		}
		return n
	}
	const utime, stime, rss = 14, 15, 24
	u.cpu = time.Duration(field(utime)+field(stime)) * clockTick
	u.memory = field(rss) * int64(os.Getpagesize())
	status, statusErr := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	for line := range strings.Lines(string(status)) {
		var kB int64
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kB); n == 1 {
			u.anonymous = kB << 10
		}
	}
	return u, cmp.Or(err, statusErr)
}

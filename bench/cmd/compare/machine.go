package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/testkit/pywayne"
)

// machine is on what, when and of what the figures are.
type machine struct {
	CPU      string   `json:"cpu"`
	Count    int      `json:"cpus"`
	Kernel   string   `json:"kernel"`
	Go       string   `json:"go"`
	Date     string   `json:"date"`
	Commit   string   `json:"commit"`
	Versions []string `json:"versions"`
}

// readMachine leaves out what it cannot find: no figure depends on it.
func readMachine(ctx context.Context, dirs directories) machine {
	m := machine{CPU: "unknown processor", Count: runtime.NumCPU(), Kernel: runtime.GOOS, Go: runtime.Version(), Date: time.Now().Format("2006-01-02 15:04 MST"), Commit: "unknown"}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel += " " + strings.TrimSpace(string(release))
	}
	if commit, err := output(ctx, dirs.root, "git", "rev-parse", "--short", "HEAD"); err == nil {
		m.Commit = commit
		if changes, err := output(ctx, dirs.root, "git", "status", "--porcelain"); err == nil && changes != "" {
			m.Commit += " with changes"
		}
	}
	if list, err := output(ctx, dirs.bench, "go", "list", "-m", "-f", "{{.Path}} {{.Version}}", "github.com/olahol/melody", "github.com/lxzan/gws", "github.com/gorilla/websocket"); err == nil {
		m.Versions = strings.Split(list, "\n")
	}
	for line := range strings.Lines(pywayne.Requirements) {
		if name, version, ok := strings.Cut(strings.TrimSpace(line), "=="); ok && (name == original || name == "websockets") {
			m.Versions = append(m.Versions, name+" "+version)
		}
	}
	return m
}

// String implements fmt.Stringer.
func (m machine) String() string {
	return fmt.Sprintf("%d × %s, %s, %s, %s, commit %s; %s", m.Count, m.CPU, m.Kernel, m.Go, m.Date, m.Commit, strings.Join(m.Versions, ", "))
}

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/crosscomm/crosscomm-go/internal/testkit/pywayne"
	"github.com/crosscomm/crosscomm-go/internal/testkit/subprocess"
)

const benchModule = "github.com/crosscomm/crosscomm-go/bench"

// directories are where the modules are.
type directories struct{ root, bench string }

func findDirectories(ctx context.Context) (directories, error) {
	out, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Path}} {{.Dir}}")
	if err != nil {
		return directories{}, err
	}
	path, dir, _ := strings.Cut(out, " ")
	if path != benchModule {
		return directories{}, fmt.Errorf("run it in the directory bench: this is the module %s", path)
	}
	return directories{root: filepath.Dir(dir), bench: dir}, nil
}

// output runs a command and returns what it prints.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr subprocess.Tail
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// programs are the command lines of what is run, without arguments that differ.
type programs struct {
	generator string
	servers   map[string][]string
}

// build makes them.
func build(ctx context.Context, dirs directories, bin string, o options, stderr io.Writer) (programs, error) {
	if err := os.Mkdir(bin, 0o755); err != nil {
		return programs{}, err
	}
	executable := func(name string) string {
		if runtime.GOOS == "windows" {
			name += ".exe"
		}
		return filepath.Join(bin, name)
	}
	p := programs{generator: executable(ours), servers: map[string][]string{}}
	if _, err := output(ctx, dirs.root, "go", "build", "-o", p.generator, "./cmd/crosscomm"); err != nil {
		return p, err
	}
	for _, c := range o.servers {
		if c.tls && slices.Contains([]string{"darwin", "windows"}, runtime.GOOS) {
			fmt.Fprintf(stderr, "WARNING: %s is left out: here the generator cannot be told to trust its certificate\n", c.name)
			continue
		}
		switch c.dir {
		case "":
			p.servers[c.name] = append([]string{p.generator}, c.args...)
		case original:
			interpreter, err := pywayne.Interpreter(ctx)
			if err != nil {
				return p, fmt.Errorf("%w (--servers leaves %s out)", err, original)
			}
			if interpreter == "" {
				fmt.Fprintln(stderr, "WARNING: no python3: nothing is compared with the original")
				continue
			}
			p.servers[c.name] = []string{interpreter, filepath.Join(dirs.bench, "servers", c.dir, "server.py")}
		default:
			program := executable(c.dir)
			if _, err := output(ctx, dirs.bench, "go", "build", "-o", program, "./servers/"+c.dir); err != nil {
				return p, err
			}
			p.servers[c.name] = append([]string{program}, c.args...)
		}
	}
	return p, nil
}

// has reports whether there is such a server.
func (p programs) has(c contender) bool { return p.servers[c.name] != nil }

// available are the servers that there are.
func (p programs) available(all []contender) []contender {
	return slices.DeleteFunc(slices.Clone(all), func(c contender) bool { return !p.has(c) })
}

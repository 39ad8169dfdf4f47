package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

const (
	// asProcess makes the test binary one of the benchmark's processes: each of
	// the two sides has one of its own, so that its memory can be measured.
	asProcess = "CROSSCOMM_BENCH_AS"
	// profileDir, if set, is where these leave CPU profiles of themselves.
	profileDir = "CROSSCOMM_BENCH_PROFILES"
)

// order is what a process is to do: "up" or "down".
type order struct {
	Do     string
	Folder bool
	Path   string // the file or folder; of "down", the directory for it
	Key    string // of "down"
}

// result is its answer, and the first thing that it says.
type result struct {
	Seconds float64
	Key     string
	Error   string
	Access  crosscomm.OSSConfig // what the server says first
}

// runAs is the main function of a process.
func runAs(role string) error {
	if dir := os.Getenv(profileDir); dir != "" {
		file, err := os.Create(filepath.Join(dir, role+".pprof"))
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if role == "server" {
		return runServer(os.Args[1])
	}
	return runClient(os.Args[1])
}

// runServer serves until standard input ends.
func runServer(dataDir string) error {
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, DataDir: dataDir})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	access, err := svc.FileAccess(l.Addr().String())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- svc.Serve(ctx, l) }()
	err = json.NewEncoder(os.Stdout).Encode(result{Access: access})
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	return errors.Join(err, <-ended)
}

// runClient carries files, on orders, until standard input ends.
func runClient(url string) error {
	keys := make(chan string, 1)
	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, URL: url, ClientID: "bench", OnProgress: func(p crosscomm.Progress) {
		if p.Done && p.Op == crosscomm.OpUpload {
			keys <- p.Key
		}
	}})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := svc.Login(ctx); err != nil {
		return err
	}
	say := json.NewEncoder(os.Stdout)
	if err := say.Encode(result{}); err != nil {
		return err
	}
	for orders := json.NewDecoder(os.Stdin); ; {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return svc.Logout(ctx)
		} else if err != nil {
			return err
		}
		began := time.Now()
		if o.Do == "up" {
			typ := crosscomm.TypeFile
			if o.Folder {
				typ = crosscomm.TypeFolder
			}
			err = svc.SendMessage(ctx, o.Path, typ, crosscomm.ServerID)
		} else {
			_, err = svc.DownloadFileManually(ctx, o.Key, o.Path)
		}
		r := result{Seconds: time.Since(began).Seconds(), Key: o.Key}
		if err != nil {
			r.Error = err.Error()
		} else if o.Do == "up" {
			r.Key = <-keys
		}
		if err := say.Encode(r); err != nil {
			return err
		}
	}
}

// process is one of the benchmark's, as the benchmark sees it.
type process struct {
	b     *testing.B
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
}

func startProcess(b *testing.B, name string, cmd *exec.Cmd) (p *process, first result) {
	b.Helper()
	p = &process{b: b, name: name, cmd: cmd}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	p.lines = bufio.NewReader(stdout)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.end)
	return p, p.answer()
}

// startSelf starts the test binary as one of its roles.
func startSelf(b *testing.B, role, arg string) (*process, result) {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self, arg)
	cmd.Env = append(os.Environ(), asProcess+"="+role)
	return startProcess(b, role, cmd)
}

func (p *process) answer() (r result) {
	p.b.Helper()
	line, err := p.lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		p.b.Fatalf("%s: %v (it said %q)", p.name, err, line)
	}
	return r
}

func (p *process) do(o order) result {
	p.b.Helper()
	if err := json.NewEncoder(p.stdin).Encode(o); err != nil {
		p.b.Fatal(err)
	}
	return p.answer()
}

// end has the process end by itself, so that it writes its profile.
func (p *process) end() {
	p.stdin.Close()
	if err := p.cmd.Wait(); err != nil {
		p.b.Errorf("%s: %v", p.name, err)
	}
}

// peakMemory is the most that the process has ever had resident, in MiB; not ok
// where there is no /proc.
func (p *process) peakMemory() (mib float64, ok bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kib / 1024, err == nil
		}
	}
	return 0, false
}

package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/testkit/subprocess"
)

// figures are what a server in a process of its own holds.
type figures struct {
	Goroutines, Files int
	Heap              int64 // bytes that are reachable
	Memory, Peak      int64 // resident bytes, now and at most so far; 0 where there is no /proc
}

// String is for a person.
func (f figures) String() string {
	return fmt.Sprintf("%d goroutines, %d files, heap %s, resident %s, at most %s", f.Goroutines, f.Files, mb(f.Heap), mb(f.Memory), mb(f.Peak))
}

func mb(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// childConfig is what a server in a process of its own is told.
type childConfig struct {
	Compression bool
	StateFile   string
}

// The environment variable with that.
const childSettings = "CROSSCOMM_TORTURE_CONFIG"

// runServer is a server with the defaults of crosscomm server, that answers each line
// of its standard input with its figures, and ends with that.
func runServer() int {
	debug.SetGCPercent(40) // as the program does
	var c childConfig
	err := json.Unmarshal([]byte(os.Getenv(childSettings)), &c)
	cfg := crosscomm.Config{Role: crosscomm.Server, Compression: c.Compression, StateFile: c.StateFile, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if err == nil {
		err = serveAndTell(cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serveAndTell(cfg crosscomm.Config) error {
	svc, err := crosscomm.New(cfg)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- svc.Serve(ctx, l) }()
	fmt.Println(l.Addr())
	for asks := bufio.NewScanner(os.Stdin); asks.Scan(); {
		runtime.GC() // what is kept for later counts for nothing: a pool is empty after two collections
		debug.FreeOSMemory()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		f := figures{Goroutines: runtime.NumGoroutine(), Files: openFiles(), Heap: int64(mem.HeapAlloc)}
		f.Memory, f.Peak = memoryOf(os.Getpid())
		if err := json.NewEncoder(os.Stdout).Encode(f); err != nil {
			return err
		}
	}
	cancel()
	return <-served
}

var memoryLine = regexp.MustCompile(`(?m)^Vm(RSS|HWM):\s+([0-9]+) kB$`)

// memoryOf returns how many bytes of a process are resident, and were at most.
func memoryOf(pid int) (memory, peak int64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	for _, m := range memoryLine.FindAllSubmatch(status, -1) {
		n, _ := strconv.ParseInt(string(m[2]), 10, 64)
		if string(m[1]) == "RSS" {
			memory = n << 10
		} else {
			peak = n << 10
		}
	}
	return memory, peak
}

// childServer is a server in a process of its own.
type childServer struct {
	t       *testing.T
	addr    string
	process *subprocess.Process
	asks    io.WriteCloser
	answers chan []byte
}

// startChild starts one, which is stopped at the end of the test.
func startChild(t *testing.T, c childConfig) *childServer {
	t.Helper()
	if c.StateFile == "" {
		c.StateFile = filepath.Join(t.TempDir(), "state.yaml")
	}
	settings, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asChild+"=server", childSettings+"="+string(settings))
	s := &childServer{t: t, answers: make(chan []byte, 10)}
	if s.asks, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if s.process, err = subprocess.Start(cmd, func(line []byte) { s.answers <- line }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.asks.Close()
		testkit.Receive(t, s.process.Ended())
		s.process.Stop()
	})
	s.addr = string(testkit.Receive(t, s.answers))
	s.addr = s.addr[:len(s.addr)-1]
	return s
}

// figures asks the server what it holds.
func (s *childServer) figures() (f figures) {
	s.t.Helper()
	if _, err := io.WriteString(s.asks, "\n"); err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(testkit.Receive(s.t, s.answers), &f); err != nil {
		s.t.Fatal(err)
	}
	return f
}

// returnsTo waits until the server holds no more goroutines and files than before, and
// returns what it holds then.
func (s *childServer) returnsTo(before figures) (f figures) {
	s.t.Helper()
	testkit.Eventually(s.t, fmt.Sprintf("the server is back to %v", before), func() bool {
		f = s.figures()
		return f.Goroutines <= before.Goroutines && f.Files <= before.Files
	})
	return f
}

// program returns the path of crosscomm, which is built for all tests once.
func program(t *testing.T) string {
	t.Helper()
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// programDir is where it lies, until TestMain removes it.
var programDir string

var buildProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "torture-")
	if err != nil {
		return "", err
	}
	programDir = dir
	path := filepath.Join(dir, "crosscomm")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", path, "../cmd/crosscomm").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

package interop

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/crosscomm/crosscomm-go/internal/testkit/ossbucket"
)

//go:embed testdata/bench.py
var benchScript string

const (
	benchFile      = 1 << 30
	benchFiles     = 2_000
	benchSmallFile = 10_000
	benchRounds    = 3

	goalFile   = 2   // our speed with the large file, as a multiple of OssManager's
	goalFolder = 5   // and with the folder
	goalCopy   = 1.5 // our time, as a multiple of that of a copy that is synced
	goalMemory = 100 // MiB that server and client may have at their peak
)

// times are those of the rounds of one thing, in seconds.
type times []float64

func (t times) median() float64 {
	sorted := slices.Sorted(slices.Values(t))
	return sorted[len(sorted)/2]
}

func (t times) String() string {
	return fmt.Sprintf("%6.2f s (%.2f–%.2f)", t.median(), slices.Min(t), slices.Max(t))
}

// fileBench is a run of the benchmark.
type fileBench struct {
	*testing.B
	dir          string
	server, ours *process
	python       *process
	bucket       *oss.Bucket
	file, folder string
	round        int
	took         map[string]times
}

// BenchmarkFiles measures a large file and a folder of many small ones against
// the original's OssManager, on the same server in the same run, and against a
// copy on the disk. It fails if it does not find what was promised.
func BenchmarkFiles(b *testing.B) {
	interpreter := pythonInterpreter(b)
	for b.Loop() {
		f := newFileBench(b, interpreter)
		for f.round = range benchRounds {
			f.measureCopy()
			for _, folder := range []bool{false, true} {
				f.measure(folder)
			}
		}
		f.report()
	}
}

func newFileBench(b *testing.B, interpreter string) *fileBench {
	f := &fileBench{B: b, dir: b.TempDir(), took: map[string]times{}}
	f.file, f.folder = filepath.Join(f.dir, "noise.bin"), filepath.Join(f.dir, "folder")
	source := rand.NewChaCha8([32]byte{1}) // no compression and no hole helps anybody
	f.check(writeNoise(f.file, source, benchFile))
	f.check(os.Mkdir(f.folder, 0o755))
	for i := range benchFiles {
		f.check(writeNoise(filepath.Join(f.folder, fmt.Sprintf("%04d.bin", i)), source, benchSmallFile))
	}
	var first result
	f.server, first = startSelf(b, "server", filepath.Join(f.dir, "data"))
	f.ours, _ = startSelf(b, "client", "ws"+strings.TrimPrefix(first.Access.Endpoint, "http")+"/")
	a := first.Access
	cmd := exec.Command(interpreter, "-c", benchScript, a.Endpoint, a.BucketName, a.AccessKeyID, a.AccessKeySecret)
	cmd.Env = append(os.Environ(), "no_proxy=*")
	f.python, _ = startProcess(b, "OssManager", cmd)
	f.bucket = ossbucket.Open(b, a)
	return f
}

func writeNoise(path string, source io.Reader, n int64) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(file, source, n)
	return errors.Join(err, file.Close())
}

func (f *fileBench) check(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// settle gives each measurement the same start: nothing waits to be written,
// and what is read is in memory.
func (f *fileBench) settle() {
	_ = exec.Command("sync").Run() // where there is none the figures are only noisier
	for _, path := range []string{f.file, f.folder} {
		f.check(filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			file, err := os.Open(path)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, file)
			return errors.Join(err, file.Close())
		}))
	}
}

func (f *fileBench) record(name string, seconds float64) {
	f.took[name] = append(f.took[name], seconds)
}

// measureCopy copies the file, and syncs the copy; and the folder, without, to
// show what the file system alone takes for so many files.
func (f *fileBench) measureCopy() {
	f.settle()
	path := filepath.Join(f.dir, "copy")
	began := time.Now()
	f.check(copyFile(path, f.file, true))
	f.record("file copy", time.Since(began).Seconds())
	f.check(os.Remove(path))

	f.settle()
	dir := filepath.Join(f.dir, fmt.Sprint("copy", f.round))
	f.check(os.Mkdir(dir, 0o755))
	began = time.Now()
	for i := range benchFiles {
		name := fmt.Sprintf("%04d.bin", i)
		f.check(copyFile(filepath.Join(dir, name), filepath.Join(f.folder, name), false))
	}
	f.record("folder copy", time.Since(began).Seconds())
}

func copyFile(to, from string, sync bool) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, source)
	if err == nil && sync {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// measure has both sides send and get the file, or the folder, in turns; who is
// first changes with the rounds.
func (f *fileBench) measure(folder bool) {
	sides := []*process{f.ours, f.python}
	if f.round%2 == 1 {
		slices.Reverse(sides)
	}
	source, what := f.file, "file"
	if folder {
		source, what = f.folder, "folder"
	}
	keys := map[*process]string{}
	for _, side := range sides {
		f.settle()
		r := side.do(order{Do: "up", Folder: folder, Path: source})
		f.record(what+" up "+side.name, r.Seconds)
		keys[side] = r.Key
	}
	for _, side := range sides {
		f.settle()
		dir := filepath.Join(f.dir, fmt.Sprint("down ", side.name, f.round))
		r := side.do(order{Do: "down", Folder: folder, Path: dir, Key: keys[side]})
		f.record(what+" down "+side.name, r.Seconds)
		f.compare(filepath.Join(dir, filepath.FromSlash(r.Key)), source)
		if !folder {
			f.check(os.RemoveAll(dir))
		}
	}
	// Only what would fill the disk is deleted: after it has deleted many files,
	// ext4 takes a hundred times as long to make one, for minutes.
	if !folder {
		for _, key := range keys {
			f.check(f.bucket.DeleteObject(key))
		}
	}
}

// compare verifies what was got: a benchmark of what does not work is none.
func (f *fileBench) compare(got, want string) {
	f.Helper()
	// diff is as fast as the disk, and tells what differs.
	if out, err := exec.Command("diff", "-r", "-q", got, want).CombinedOutput(); err != nil {
		f.Fatalf("%v\n%s", err, out[:min(len(out), 1000)])
	}
}

// report prints the figures, and fails where a goal is missed.
func (f *fileBench) report() {
	var table strings.Builder
	row := func(format string, args ...any) { fmt.Fprintf(&table, format+"\n", args...) }
	verdict := func(ok bool, what string, got float64, goal string) string {
		if ok {
			return "reached"
		}
		f.Errorf("%s: %.2f; the goal is %s", what, got, goal)
		return "MISSED"
	}
	row("\n%d rounds: median (least–most)\n%-18s %-24s %-24s %6s", benchRounds, "", "crosscomm", "OssManager", "faster")
	for _, what := range []string{"file", "folder"} {
		name, goal := "1 GiB", float64(goalFile)
		if what == "folder" {
			name, goal = "2,000 files", goalFolder
		}
		for _, way := range []string{"up", "down"} {
			ours, theirs := f.took[what+" "+way+" client"], f.took[what+" "+way+" OssManager"]
			ratio := theirs.median() / ours.median()
			text := fmt.Sprintf("≥ %.0f", goal)
			row("%-18s %-24s %-24s %6.2f  goal %s: %s", name+" "+way, ours, theirs, ratio, text, verdict(ratio >= goal, name+" "+way, ratio, text))
			f.ReportMetric(ratio, what+"-"+way+"-x-OssManager")
		}
	}
	row("%-18s %s", "1 GiB copy + sync", f.took["file copy"])
	row("%-18s %s", "2,000 files copy", f.took["folder copy"])
	if f.took["folder copy"].median() > 0.3 {
		row("%-18s making files is slow in %s just now, for both sides alike: where files were deleted ext4\n%-18s takes minutes to recover. Set TMPDIR to another directory below / to see the difference", "", os.TempDir(), "")
	}
	for _, way := range []string{"up", "down"} {
		ratio := f.took["file "+way+" client"].median() / f.took["file copy"].median()
		goal := fmt.Sprintf("≤ %.1f", float64(goalCopy))
		row("%-18s %.2f times the copy  goal %s: %s", "1 GiB "+way, ratio, goal, verdict(ratio <= goalCopy, "1 GiB "+way+" against the copy", ratio, goal))
		f.ReportMetric(ratio, "file-"+way+"-x-copy")
	}
	for _, p := range []*process{f.server, f.ours} {
		mib, ok := p.peakMemory()
		if !ok {
			row("%-18s not measured: there is no /proc on this system", "memory, "+p.name)
			continue
		}
		goal := fmt.Sprintf("< %d MiB", goalMemory)
		row("%-18s %.0f MiB at its peak  goal %s: %s", "memory, "+p.name, mib, goal, verdict(mib < goalMemory, "memory of the "+p.name, mib, goal))
		f.ReportMetric(mib, p.name+"-peak-MiB")
	}
	f.ReportMetric(0, "ns/op") // means nothing here
	fmt.Fprintln(os.Stdout, table.String())
}

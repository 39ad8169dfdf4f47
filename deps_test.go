package crosscomm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A user of the library builds these modules, and none of those that only the
// program or the tests need.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	want := []string{
		"github.com/aliyun/aliyun-oss-go-sdk", "github.com/crosscomm/crosscomm-go", "github.com/google/uuid", "github.com/gorilla/websocket",
		"github.com/joho/godotenv", "go.etcd.io/bbolt", "gopkg.in/yaml.v3",
		"golang.org/x/sys", "golang.org/x/time", // ours and of bbolt; of the OSS SDK
	}
	slices.Sort(want)
	if got := slices.Compact(modules); !slices.Equal(got, want) {
		t.Errorf("the library depends on %v", got)
	}
}

// What the tests share is in no program.
func TestNoTestkitInPrograms(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".", "./ossserver", "./cmd/...", "./examples/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(out)) {
		if strings.Contains(name, "/internal/testkit") {
			t.Errorf("a program depends on %s", name)
		}
	}
}

// The programs in the README are whole, short, and compile; the Chinese one has
// the same.
func TestREADME(t *testing.T) {
	block := regexp.MustCompile("(?s)```go\n(.*?)```")
	var programs []string
	for _, name := range []string{"README.md", "README.zh-CN.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var blocks []string
		for _, m := range block.FindAllStringSubmatch(string(text), -1) {
			blocks = append(blocks, m[1])
		}
		if programs == nil {
			programs = blocks
		}
		if !slices.Equal(blocks, programs) || len(blocks) != 4 {
			t.Errorf("%s has %d programs, or others than README.md", name, len(blocks))
		}
	}
	for _, program := range programs {
		file := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(file, []byte(program), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("go", "vet", file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s\n%s", err, out, program)
		}
		if out, err := exec.Command("gofmt", "-l", file).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("not formatted: %v\n%s", err, program)
		}
	}
}

package subprocess_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/testkit"
	"github.com/crosscomm/crosscomm-go/internal/testkit/subprocess"
)

// asChild makes the test binary a child: what it prints, and what it says of
// errors.
const asChild = "CROSSCOMM_TEST_CHILD"

func TestMain(m *testing.M) {
	text, child := os.LookupEnv(asChild)
	if !child {
		os.Exit(m.Run())
	}
	stdout, stderr, _ := strings.Cut(text, "|")
	fmt.Fprint(os.Stderr, stderr)
	fmt.Fprint(os.Stdout, stdout)
	if !strings.Contains(stdout, "end") {
		<-time.After(testkit.Patience) // it is killed before
	}
}

func TestLines(t *testing.T) {
	t.Setenv(asChild, "one\n\ntwo, the end|a\nb\n")
	var lines []string
	p, err := subprocess.Start(exec.Command(os.Args[0]), func(line []byte) { lines = append(lines, string(line)) })
	if err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, p.Ended())
	if said := p.Stop(); said != " (b)" || p.Stderr.String() != "a\nb" || fmt.Sprintf("%q", lines) != `["one\n" "\n" "two, the end"]` {
		t.Errorf("got %q, %q, %q", lines, said, &p.Stderr)
	}
}

func TestServer(t *testing.T) {
	t.Setenv(asChild, "starting\nlistening on 127.0.0.1:1, not 127.0.0.1:2\n|ready")
	p, address, err := subprocess.StartServer(t.Context(), t.TempDir(), os.Args[0])
	if err != nil || address != "127.0.0.1:1" {
		t.Fatalf("got %q, %v", address, err)
	}
	if said := p.Stop(); said != " (ready)" {
		t.Errorf("it said %q", said)
	}
}

func TestServerThatDoesNotListen(t *testing.T) {
	t.Setenv(asChild, "end|no port")
	if _, _, err := subprocess.StartServer(t.Context(), "", os.Args[0]); err == nil || err.Error() != "it has ended before it listened (no port)" {
		t.Errorf("got %v", err)
	}
	if _, _, err := subprocess.StartServer(t.Context(), "", os.Args[0]+"-is-not-there"); err == nil {
		t.Error("a program that is not there was started")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := subprocess.StartServer(ctx, "", os.Args[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context: %v", err)
	}
}

func TestTail(t *testing.T) {
	var tail subprocess.Tail
	for i := range 10_000 {
		fmt.Fprintln(&tail, i)
	}
	if got := tail.String(); len(got) > 8000 || !strings.HasSuffix(got, "\n9998\n9999") {
		t.Errorf("it keeps %d bytes, to %q", len(got), got[max(0, len(got)-20):])
	}
}

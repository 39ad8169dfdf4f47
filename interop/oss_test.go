package interop

import (
	_ "embed"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/crosscomm/crosscomm-go/ossserver"
)

//go:embed testdata/oss.py
var ossScript string

// The real oss2, with V1 and V4 signatures, and the real OssManager on our
// endpoint.
func TestPythonOnTheEndpoint(t *testing.T) {
	interpreter := pythonInterpreter(t)
	const id, key = "LTAItestkeyid", "testsecretTESTSECRET0123456789"
	server, err := ossserver.New(ossserver.Config{Dir: t.TempDir(), Bucket: "lan", Secret: func(got string) (string, bool) { return key, got == id }})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(server)
	defer func() {
		web.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	cmd := exec.Command(interpreter, "-c", ossScript, web.URL, "lan", id, key)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "no_proxy=*")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "ALL WELL") {
		t.Errorf("%v\n%s", err, out[max(0, len(out)-3000):])
	}
}

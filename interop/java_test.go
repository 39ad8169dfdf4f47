package interop

import (
	"context"
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit/cached"
	"github.com/crosscomm/crosscomm-go/ossserver"
)

//go:embed testdata/java/pom.xml
var pom []byte

//go:embed testdata/java/Oss.java
var javaProgram []byte

// errUnreachable is the error of jars whose registry cannot be reached.
var errUnreachable = errors.New("the registry cannot be reached")

// noNetwork is what Java and Maven say if there was not even an answer. A
// registry that answers with "not found" or "forbidden" says none of it.
var noNetwork = regexp.MustCompile(`(?i)unknown host|UnknownHostException|name resolution|Name or service not known|nodename nor servname|No such host|Connection refused|Network is unreachable|No route to host|Connection timed out|connect timed out|is offline|in offline mode`)

// jars returns the class path of the real Java SDK, which Maven fetches once for
// all runs to come.
var jars = sync.OnceValues(func() (string, error) {
	lib := func(dir string) string { return filepath.Join(dir, "jars") }
	dir, err := cached.Dir("java-", pom, func(dir string) error {
		file := filepath.Join(dir, "pom.xml")
		if err := os.WriteFile(file, pom, 0o644); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		// Without -U, Maven repeats a failure of an earlier run without asking
		// again.
		out, err := exec.CommandContext(ctx, "mvn", "--quiet", "--batch-mode", "-U", "-f", file, "org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies", "-DoutputDirectory="+lib(dir)).CombinedOutput()
		if err != nil && noNetwork.Match(out) {
			return fmt.Errorf("%w: %w\n%s", errUnreachable, err, out)
		}
		if err != nil {
			return fmt.Errorf("mvn: %w\n%s", err, out)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(lib(dir), "*"), nil
})

// javaClassPath skips the test, loudly, without Java, in CI too: no contributor
// needs it for anything else. A failure to fetch the jars is one of the test,
// in CI and elsewhere, since a pom.xml that cannot be resolved is ours to
// mend. That there is no network is not, and shall not keep anybody from
// running the other tests.
func javaClassPath(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"java", "javac", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: there is no %s on this machine, so nothing was tested with the Java SDK", program)
		}
	}
	classPath, err := jars()
	if errors.Is(err, errUnreachable) {
		t.Skipf("SKIPPED: nothing was tested with the Java SDK, which could not be fetched: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return classPath
}

// The real Java SDK, with V1 and V4 signatures, on our endpoint; also over TLS, if
// its trust store has the server's certificate.
func TestJavaOnTheEndpoint(t *testing.T) {
	classPath := javaClassPath(t)
	const id, key = "LTAItestkeyid", "testsecretTESTSECRET0123456789"
	server, err := ossserver.New(ossserver.Config{Dir: t.TempDir(), Bucket: "lan", Secret: func(got string) (string, bool) { return key, got == id }})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	own, err := crosscomm.SelfSigned(dir)
	if err != nil {
		t.Fatal(err)
	}
	web, secure := httptest.NewServer(server), httptest.NewUnstartedServer(server)
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{own}}
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer func() {
		web.Close()
		secure.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	program := filepath.Join(dir, "Oss.java")
	if err := os.WriteFile(program, javaProgram, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	store := filepath.Join(dir, "trust.p12")
	keytool := exec.CommandContext(ctx, "keytool", "-importcert", "-noprompt", "-alias", "crosscomm", "-file", filepath.Join(dir, crosscomm.SelfSignedCertFile), "-keystore", store, "-storepass", "changeit")
	if out, err := keytool.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, url := range []string{web.URL, secure.URL} {
		cmd := exec.CommandContext(ctx, "java", "-Djavax.net.ssl.trustStore="+store, "-Djavax.net.ssl.trustStorePassword=changeit",
			"-Dfile.encoding=UTF-8", "-Dhttp.nonProxyHosts=*", "-cp", classPath, program, url, "lan", id, key)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "ALL WELL") {
			t.Errorf("%s: %v\n%s", url, err, out[max(0, len(out)-3000):])
		}
	}
}

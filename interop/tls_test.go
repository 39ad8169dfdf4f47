package interop

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// The original knows no TLS, but its libraries do: sent to it by the server it comes
// over TLS, with messages and with files, if its environment says whom it may trust.
func TestPythonOverTLS(t *testing.T) {
	dir := t.TempDir()
	own, err := crosscomm.SelfSigned(dir)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := crosscomm.TrustPin(crosscomm.Pin(own.Leaf))
	if err != nil {
		t.Fatal(err)
	}
	svc, port, _ := startGoServer(t, crosscomm.Config{
		IP: "127.0.0.1", DataDir: dir, TLS: &tls.Config{Certificates: []tls.Certificate{own}}, TLSPort: crosscomm.AnyPort, TLSRedirect: true,
	}, "127.0.0.1:0")
	testkit.Eventually(t, "it serves", func() bool { return svc.TLSAddr() != nil })
	tlsPort := svc.TLSAddr().(*net.TCPAddr).Port
	access, err := svc.FileAccess(fmt.Sprintf("https://127.0.0.1:%d", tlsPort))
	if err != nil {
		t.Fatal(err)
	}

	stranger := startPython(t)
	args := files(access, "")
	args["name"], args["role"], args["port"], args["client_id"] = "stranger", "client", port, "stranger"
	stranger.call("new", args)
	if got := string(stranger.call("login", map[string]any{"name": "stranger"})); got != "false" {
		t.Errorf("a login without the certificate: %s", got)
	}

	p, inbox := startPython(t), t.TempDir()
	args = files(access, inbox)
	certFile := filepath.Join(dir, crosscomm.SelfSignedCertFile)
	env := args["env"].(map[string]string)
	env["SSL_CERT_FILE"], env["REQUESTS_CA_BUNDLE"] = certFile, certFile
	p.client("py", port, args)

	gopher, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, ClientID: "go", Port: tlsPort, TLS: trust})
	if err != nil {
		t.Fatal(err)
	}
	if err := gopher.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gopher.Logout(context.Background()) })
	goSide := goParty(t, gopher)
	pySide := party{id: "py", keyID: "py", python: true, dir: inbox}
	path := filepath.Join(testkit.WriteTree(t, t.TempDir(), map[string]string{"photo.jpg": noise(1, 300_000)}), "photo.jpg")
	p.send("py", "image", pyString(path), "go")
	checkFile(t, goSide.receive(), crosscomm.TypeImage, pySide, goSide, ".jpg", noise(1, 300_000))
	goSide.send(path, crosscomm.TypeFile, "py")
	e := p.message("py")
	checkFile(t, delivery{e.Type, e.Sender, value(e.OSSKey), text(t, e)}, crosscomm.TypeFile, goSide, pySide, ".jpg", noise(1, 300_000))
}

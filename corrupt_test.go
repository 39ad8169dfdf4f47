package crosscomm_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// corruptConn changes a byte in the middle of what passes, as long as there are
// any to be changed; only large pieces, which are those of files.
type corruptConn struct {
	net.Conn
	written, read *atomic.Int64
}

func (c *corruptConn) Write(p []byte) (int, error) {
	if len(p) > 16<<10 && c.written.Add(-1) >= 0 {
		changed := bytes.Clone(p)
		changed[len(p)-100] ^= 1
		return c.Conn.Write(changed)
	}
	return c.Conn.Write(p)
}

func (c *corruptConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 16<<10 && c.read.Add(-1) >= 0 {
		p[n-100] ^= 1
	}
	return n, err
}

// Bytes that a link changes are found, and sent or asked for once more; a link
// that always changes them is an error.
func TestCorruptedBytes(t *testing.T) {
	cacheDir(t)
	server := startFileServer(t, crosscomm.Config{})
	onServer := collect(server.Service, crosscomm.ListenerOptions{DownloadDirectory: t.TempDir()})
	var written, read atomic.Int64
	a := newClient(t, server.addr, "a", crosscomm.Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &corruptConn{conn, &written, &read}, err
	}})
	if err := a.Login(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{100_000, 3 << 20, 20 << 20} {
		data := noise(uint64(size), size)
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		written.Store(1)
		if err := a.SendMessage(testContext(t), path, crosscomm.TypeFile, "server"); err != nil {
			t.Fatalf("up, %d bytes: %v", size, err)
		}
		m := testkit.Receive(t, onServer)
		if got, err := os.ReadFile(m.Path()); err != nil || !bytes.Equal(got, data) {
			t.Errorf("up, %d bytes: got %d, %v, %v", size, len(got), err, m.Err())
		}
		dir := t.TempDir()
		read.Store(1)
		down, err := a.DownloadFileManually(testContext(t), m.OSSKey, dir)
		if err != nil {
			t.Errorf("down, %d bytes: %v", size, err)
		} else if got, err := os.ReadFile(down); err != nil || !bytes.Equal(got, data) {
			t.Errorf("down, %d bytes: got %d, %v", size, len(got), err)
		}
		if written.Load() > 0 || read.Load() > 0 {
			t.Errorf("%d bytes: nothing was changed: %d, %d", size, written.Load(), read.Load())
		}
		read.Store(1 << 30)
		if _, err := a.DownloadFileManually(testContext(t), m.OSSKey, t.TempDir()); err == nil {
			t.Errorf("down, %d bytes, always changed: no error", size)
		}
		read.Store(0)
	}
}

package crosscomm_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// filesBench is a server that carries files and a client of it, in one process;
// make bench-files has them apart, beside the original.
func filesBench(b *testing.B) (client *crosscomm.Service, keys <-chan string) {
	b.Helper()
	server, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, IP: "127.0.0.1", Port: testkit.FreePort(b), DataDir: b.TempDir(), NoStateFile: true})
	if err != nil {
		b.Fatal(err)
	}
	got := make(chan string, 10)
	server.MessageListener(func(_ context.Context, m *crosscomm.Message) error {
		got <- m.OSSKey
		return nil
	}, crosscomm.ListenerOptions{})
	ended := make(chan error, 1)
	go func() { ended <- server.StartServer(context.Background()) }()
	client, err = crosscomm.New(crosscomm.Config{Role: crosscomm.Client, Port: server.Config().Port, ClientID: "bench", RetryLogin: true})
	if err == nil {
		err = client.Login(context.Background())
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = client.Logout(context.Background())
		_ = server.Stop(context.Background())
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	return client, got
}

// One operation is a folder of 2,000 files of 10 KB.
func BenchmarkFolder(b *testing.B) {
	dir := b.TempDir()
	for i := range 2000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), noise(uint64(i), 10_000), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	benchTransfer(b, dir, crosscomm.TypeFolder, 2000*10_000)
}

// One operation is a file of 512 MiB.
func BenchmarkLargeFile(b *testing.B) {
	path := filepath.Join(b.TempDir(), "f")
	data := noise(1, 1<<20)
	file, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	for range 512 {
		if _, err := file.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		b.Fatal(err)
	}
	benchTransfer(b, path, crosscomm.TypeFile, 512<<20)
}

func benchTransfer(b *testing.B, path string, typ crosscomm.MsgType, size int64) {
	client, keys := filesBench(b)
	key := ""
	b.Run("up", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			if err := client.SendMessage(context.Background(), path, typ, crosscomm.ServerID); err != nil {
				b.Fatal(err)
			}
			key = <-keys
		}
	})
	b.Run("down", func(b *testing.B) {
		b.SetBytes(size)
		top := b.TempDir()
		n := 0
		for b.Loop() {
			n++
			dir := filepath.Join(top, fmt.Sprint(n))
			if _, err := client.DownloadFileManually(context.Background(), key, dir); err != nil {
				b.Fatal(err)
			}
		}
	})
}

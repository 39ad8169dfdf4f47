package backlog_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/backlog"
)

// unbounded leaves it to the benchmark how much is kept.
var unbounded = backlog.Options{MaxMessages: 1 << 30, MaxBytes: 1 << 40, MaxTotal: 1 << 40}

// fillClients puts n messages for so many clients, by turns, from eight goroutines that
// keep to Room, and returns when all are committed.
func fillClients(b *testing.B, s *backlog.Store, n, clients, size int) {
	b.Helper()
	const putters = 8
	var next atomic.Int64
	var all, committed sync.WaitGroup
	committed.Add(n)
	done := func(err error) {
		if err != nil {
			b.Error(err)
		}
		committed.Done()
	}
	for range putters {
		all.Go(func() {
			m := backlog.Message{Time: time.Now(), Meta: []byte("from whom, and its id: 0123456789"), Data: bytes.Repeat([]byte("x"), size)}
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := s.Room(b.Context()); err != nil {
					b.Error(err)
				}
				m.Seq = uint64(i/clients + 1)
				s.Put(fmt.Sprint("client-", i%clients), m, done)
			}
		})
	}
	all.Wait()
	committed.Wait()
}

// Messages of 256 bytes as fast as they can be committed.
func BenchmarkPut(b *testing.B) {
	for _, clients := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "backlog.db"), unbounded)
			b.ResetTimer()
			fillClients(b, s, b.N, clients, 256)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// Each message waits until the one before is on the disk.
func BenchmarkPutAlone(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "backlog.db"), unbounded)
	done := make(chan error, 1)
	for i := range b.N {
		s.Put("client", backlog.Message{Seq: uint64(i), Data: make([]byte, 256)}, func(err error) { done <- err })
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// A message that is deleted when it is stored, which is what a queue is for.
func BenchmarkPutDelete(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "backlog.db"), unbounded)
	var deleted sync.WaitGroup
	deleted.Add(b.N)
	data := make([]byte, 256)
	b.ResetTimer()
	for i := range b.N {
		client := fmt.Sprint("client-", i%100)
		if err := s.Room(b.Context()); err != nil {
			b.Fatal(err)
		}
		s.Put(client, backlog.Message{Seq: uint64(i), Data: data}, func(error) {
			s.Delete(client, []uint64{uint64(i)}, func(error) { deleted.Done() })
		})
	}
	deleted.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

func BenchmarkLoad(b *testing.B) {
	const clients, each, atOnce = 100, 1000, 100
	s := open(b, filepath.Join(b.TempDir(), "backlog.db"), unbounded)
	fillClients(b, s, clients*each, clients, 256)
	b.ResetTimer()
	loaded := 0
	for i := 0; loaded < b.N; i++ {
		messages, err := s.Load(fmt.Sprint("client-", i/(each/atOnce)%clients), uint64(i%(each/atOnce)*atOnce), atOnce, 1<<20)
		if err != nil || len(messages) != atOnce {
			b.Fatalf("%d messages, %v", len(messages), err)
		}
		loaded += len(messages)
	}
	b.ReportMetric(float64(loaded)/b.Elapsed().Seconds(), "messages/s")
}

// What a million messages that wait take in memory, and how long it takes to open
// their file, after Close and after a crash. Each is opened and filled once, so run
// it with -benchtime 1x.
func BenchmarkMillionWaiting(b *testing.B) {
	const messages, clients = 1_000_000, 1000
	for b.Loop() {
		path := filepath.Join(b.TempDir(), "backlog.db")
		before := memory()
		s, err := backlog.Open(path, unbounded)
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		fillClients(b, s, messages, clients, 256)
		b.ReportMetric(messages/time.Since(start).Seconds(), "messages/s")
		after := memory()
		b.ReportMetric((after.heap-before.heap)/1e6, "heap-MB")
		b.ReportMetric(after.anonymous/1e6, "rss-anonymous-MB")
		b.ReportMetric(after.file/1e6, "rss-file-MB")
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.Size())/messages, "disk-B/message")

		crashed := filepath.Join(b.TempDir(), "crashed.db")
		copyFile(b, crashed, path)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		for name, path := range map[string]string{"open-ms": path, "open-crashed-ms": crashed} {
			start := time.Now()
			s, err := backlog.Open(path, unbounded)
			b.ReportMetric(float64(time.Since(start).Milliseconds()), name)
			if err != nil || s.Totals().Messages != messages {
				b.Fatalf("%v, %v", s.Totals(), err)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func copyFile(b *testing.B, to, from string) {
	b.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// usage is memory in bytes. What is resident of files the system takes back when it
// needs it.
type usage struct{ heap, anonymous, file float64 }

func memory() usage {
	runtime.GC()
	runtime.GC() // what is in pools outlives the first one
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	u := usage{heap: float64(stats.HeapAlloc)}
	status, _ := os.ReadFile("/proc/self/status") // elsewhere than on Linux these are 0
	for line := range strings.Lines(string(status)) {
		var kB float64
		if n, _ := fmt.Sscanf(line, "RssAnon: %g kB", &kB); n == 1 {
			u.anonymous = 1024 * kB
		}
		if n, _ := fmt.Sscanf(line, "RssFile: %g kB", &kB); n == 1 {
			u.file = 1024 * kB
		}
	}
	return u
}

func open(t testing.TB, path string, o backlog.Options) *backlog.Store {
	t.Helper()
	s, err := backlog.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

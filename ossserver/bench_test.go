package ossserver_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/ossserver"
)

// benchSize is how many bytes the large object of the benchmarks has: 64 MiB,
// or as many MiB as the environment says.
func benchSize(b *testing.B) int64 {
	text := os.Getenv("CROSSCOMM_BENCH_MIB")
	if text == "" {
		return 64 << 20
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n << 20
}

// pattern is a source of n bytes that costs little to read.
type pattern struct{ n int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.n == 0 {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.n)]
	p.n -= int64(len(b))
	return len(b), nil
}

// do sends a signed request and reads the answer, which must be 200.
func do(tb testing.TB, client *http.Client, url, method, key string, body io.Reader, size int64) {
	r, err := http.NewRequestWithContext(tb.Context(), method, url+"/lan/"+key, body)
	if err != nil {
		tb.Error(err)
		return
	}
	r.ContentLength = size
	date := time.Now().UTC().Format(http.TimeFormat)
	r.Header.Set("Date", date)
	r.Header.Set("Authorization", signV1(method, "", date, "/lan/"+key))
	resp, err := client.Do(r)
	if err != nil {
		tb.Error(err)
		return
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		tb.Errorf("%s %s: %s, %v", method, key, resp.Status, err)
	}
}

func BenchmarkPutLarge(b *testing.B) {
	url, size := start(b, ossserver.Config{}), benchSize(b)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		do(b, http.DefaultClient, url, "PUT", "large", &pattern{size}, size)
	}
}

// Objects of 10 KB by so many clients at a time, each over a connection of its
// own.
func BenchmarkPutSmall(b *testing.B) {
	for _, clients := range []int{1, 8} {
		b.Run(fmt.Sprint("clients=", clients), func(b *testing.B) {
			url := start(b, ossserver.Config{})
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
			defer client.CloseIdleConnections()
			var count atomic.Int64
			b.ReportAllocs()
			done := make(chan struct{})
			b.ResetTimer()
			for range clients {
				go func() {
					defer func() { done <- struct{}{} }()
					for {
						i := count.Add(1)
						if i > int64(b.N) {
							return
						}
						do(b, client, url, "PUT", fmt.Sprint("small/", i), &pattern{10_000}, 10_000)
					}
				}()
			}
			for range clients {
				<-done
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	url, size := start(b, ossserver.Config{}), benchSize(b)
	do(b, http.DefaultClient, url, "PUT", "large", &pattern{size}, size)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		do(b, http.DefaultClient, url, "GET", "large", nil, 0)
	}
}

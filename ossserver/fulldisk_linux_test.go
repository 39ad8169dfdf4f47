package ossserver_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/crosscomm/crosscomm-go/internal/testkit/smalldisk"
	"github.com/crosscomm/crosscomm-go/ossserver"
)

// The test binary does what onFullDisk says if this is set.
const fullDisk = "CROSSCOMM_TEST_FULL_DISK"

// TestFullDisk runs onFullDisk where there is a small disk. Where that is forbidden,
// what is left are the tests of internal/objects with errors made up.
func TestFullDisk(t *testing.T) { smalldisk.Run(t, fullDisk) }

// onFullDisk fills a small disk and checks that nothing is lost but what was
// refused. It returns the exit code.
func onFullDisk(dir string) int {
	smalldisk.Mount(dir, "3m")
	s, err := ossserver.New(ossserver.Config{Dir: dir, Bucket: "lan", Secret: secret})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	web := httptest.NewServer(s)
	client, err := oss.New(web.URL, keyID, keySecret)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	b, _ := client.Bucket("lan")
	exit := 0
	complain := func(format string, args ...any) {
		fmt.Printf(format+"\n", args...)
		exit = 1
	}
	// Large ones, then small ones, then such as need room in the index alone.
	var stored []string
	text := func(key string, size int) string { return strings.Repeat(key, size/len(key)+1)[:size] }
	for _, size := range []int{300_000, 10_000, 1} {
		for i := 0; ; i++ {
			key := fmt.Sprintf("%d/%d/%s", size, i, strings.Repeat("k", 900))
			err := b.PutObject(key, strings.NewReader(text(key, size)))
			if err == nil {
				stored = append(stored, key)
				continue
			}
			if s, c := status(err); s != http.StatusInsufficientStorage || c != "InsufficientStorage" {
				complain("object %d of %d bytes: %v", i, size, err)
			}
			break
		}
	}
	check := func(when string) {
		for _, key := range stored {
			var size int
			_, _ = fmt.Sscanf(key, "%d/", &size)
			r, err := b.GetObject(key)
			if err != nil {
				complain("%s: %.20s: %v", when, key, err)
				continue
			}
			data := make([]byte, size+1)
			n := 0
			for err == nil {
				var m int
				m, err = r.Read(data[n:])
				n += m
			}
			r.Close()
			if string(data[:n]) != text(key, size) {
				complain("%s: %.20s has %d other bytes", when, key, n)
			}
		}
	}
	check("full")
	// What is deleted makes room again, also in the index.
	if err := b.DeleteObject(stored[0]); err != nil {
		complain("deleting: %v", err)
	}
	stored = stored[1:]
	if err := b.PutObject("10000/again", strings.NewReader(text("10000/again", 10_000))); err != nil {
		complain("after deleting: %v", err)
	}
	stored = append(stored, "10000/again")
	check("with room")
	web.Close()
	if err := s.Close(); err != nil {
		complain("closing: %v", err)
	}
	if s, err = ossserver.New(ossserver.Config{Dir: dir, Bucket: "lan", Secret: secret}); err != nil {
		complain("opening again: %v", err)
		return exit
	}
	web = httptest.NewServer(s)
	if client, err = oss.New(web.URL, keyID, keySecret); err != nil {
		complain("%v", err)
		return exit
	}
	b, _ = client.Bucket("lan")
	check("opened again")
	web.Close()
	if err := s.Close(); err != nil {
		complain("closing: %v", err)
	}
	return exit
}

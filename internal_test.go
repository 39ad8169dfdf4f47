package crosscomm

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A full queue holds up the source that fills it, until there is room or the
// context ends, and no other one.
func TestSerialQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const half = maxWaitingOfSource/2 - taskOverhead
		var q serialQueue
		release := make(chan struct{})
		var ran []int
		task := func(n int) func() {
			return func() {
				ran = append(ran, n)
				<-release
			}
		}
		forever := context.Background()
		q.add(forever, "flood", half, task(1)) // runs, so it does not wait any more
		synctest.Wait()
		q.add(forever, "flood", half, task(2))
		q.add(forever, "flood", half, task(3))
		added := make(chan int, 1)
		go func() {
			q.add(forever, "flood", 1, task(5))
			added <- 5
		}()
		synctest.Wait()
		q.add(forever, "other", half, task(4))
		impatient, end := context.WithTimeout(forever, time.Minute)
		defer end()
		began := time.Now()
		q.add(impatient, "flood", 1, task(6))
		if time.Since(began) != time.Minute || len(added) != 0 {
			t.Errorf("after %v: %d added", time.Since(began), len(added))
		}
		if q.idle(impatient) {
			t.Error("it says that it is idle")
		}
		close(release)
		<-added
		if !q.idle(forever) || q.waiting != 0 || len(q.ofSource) != 0 {
			t.Errorf("it is never empty: %d, %v", q.waiting, q.ofSource)
		}
		if want := []int{1, 2, 3, 4, 5}; !slices.Equal(ran, want) {
			t.Errorf("ran %v, want %v", ran, want)
		}
	})
}

// A function that ends its goroutine takes the others not with it.
func TestSerialQueueSurvivesGoexit(t *testing.T) {
	var q serialQueue
	ran := make(chan int, 2)
	q.add(context.Background(), "", 1, func() {
		ran <- 1
		runtime.Goexit()
	})
	q.add(context.Background(), "", 1, func() { ran <- 2 })
	if <-ran != 1 || <-ran != 2 || !q.idle(context.Background()) {
		t.Error("the second did not run")
	}
}

func TestLogLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		log := slog.New(slog.NewTextHandler(&buf, nil))
		var l logLimiter
		for range 1000 {
			l.log(log, "x")
			<-time.After(10 * time.Millisecond) // 10 s in all
		}
		if n := strings.Count(buf.String(), "\n"); n < 3*10 || n > 3*11 {
			t.Errorf("%d lines", n)
		}
		if !strings.Contains(buf.String(), "not_logged=97") {
			t.Errorf("it does not tell what is left out:\n%.1000s", buf.String())
		}
	})
}

package crosscomm

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A full queue holds up the source that fills it, until there is room, the
// context ends or there is a hurry, and no other one.
func TestSerialQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const half = maxWaitingOfSource/2 - taskOverhead
		var q serialQueue
		release := make(chan struct{})
		var ran []int
		flood := func(n int) task {
			return task{size: half, job: jobFunc(func() {
				ran = append(ran, n)
				<-release
			})}
		}
		forever := context.Background()
		q.add("flood", flood(1)) // runs, so it does not wait any more
		synctest.Wait()
		q.add("flood", flood(2))
		q.waitForRoom(forever, nil, "flood")
		q.add("flood", flood(3))
		room := make(chan bool, 1)
		go func() {
			q.waitForRoom(forever, nil, "flood")
			room <- true
		}()
		synctest.Wait()
		q.waitForRoom(forever, nil, "other")
		impatient, end := context.WithTimeout(forever, time.Minute)
		defer end()
		began := time.Now()
		q.waitForRoom(impatient, nil, "flood")
		if time.Since(began) != time.Minute || len(room) != 0 {
			t.Errorf("after %v: %d had room", time.Since(began), len(room))
		}
		hurry := make(chan struct{})
		close(hurry)
		q.waitForRoom(forever, hurry, "flood")
		if q.idle(impatient) {
			t.Error("it says that it is idle")
		}
		close(release)
		<-room
		if !q.idle(forever) || q.waiting != 0 || len(q.sources) != 0 {
			t.Errorf("it is never empty: %d, %v", q.waiting, q.sources)
		}
		if want := []int{1, 2, 3}; !slices.Equal(ran, want) {
			t.Errorf("ran %v, want %v", ran, want)
		}
	})
}

// What waits when the queue is closed, held up or not, is counted as dropped, and
// what comes then.
func TestSerialQueueCountsWhatItCloses(t *testing.T) {
	q := serialQueue{stats: new(ListenerStats)}
	began, release, ready := make(chan bool), make(chan struct{}), make(chan struct{})
	nothing := jobFunc(func() { t.Error("it ran") })
	q.add("a", task{job: jobFunc(func() {
		began <- true
		<-release
	})})
	<-began
	q.add("a", task{job: nothing})
	q.add("b", task{job: nothing, ready: ready})
	q.add("b", task{job: nothing})
	if waiting, dropped := q.stats.Waiting.Load(), q.stats.Dropped.Load(); waiting != 3 || dropped != 0 {
		t.Errorf("%d wait, %d were dropped", waiting, dropped)
	}
	q.close()
	q.add("b", task{job: nothing})
	if waiting, dropped := q.stats.Waiting.Load(), q.stats.Dropped.Load(); waiting != 0 || dropped != 4 {
		t.Errorf("closed: %d wait, %d were dropped", waiting, dropped)
	}
	close(ready)
	close(release)
	if !q.idle(t.Context()) {
		t.Error("it still runs")
	}
}

// A function that ends its goroutine takes the others not with it.
func TestSerialQueueSurvivesGoexit(t *testing.T) {
	var q serialQueue
	ran := make(chan int, 2)
	q.add("", task{job: jobFunc(func() {
		ran <- 1
		runtime.Goexit()
	})})
	q.add("", task{job: jobFunc(func() { ran <- 2 })})
	if <-ran != 1 || <-ran != 2 || !q.idle(context.Background()) {
		t.Error("the second did not run")
	}
}

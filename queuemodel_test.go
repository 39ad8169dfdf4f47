package crosscomm

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"testing/synctest"
)

// queueModel is a serialQueue as its documentation tells it, with plain slices.
type queueModel struct {
	overflow  Overflow
	perSource int
	queue     []*modelTask
	held      []*modelTask // in the order of arrival, of all sources
	running   bool
	ran       []int
	dropped   int
}

type modelTask struct {
	number int
	from   string
	size   int
	ready  bool
	done   chan struct{} // for the real one
}

func sizes(tasks []*modelTask) (sum int) {
	for _, t := range tasks {
		sum += t.size
	}
	return sum
}

// of returns those of the source.
func of(from string, tasks []*modelTask) (its []*modelTask) {
	for _, t := range tasks {
		if t.from == from {
			its = append(its, t)
		}
	}
	return its
}

// forget removes one.
func (m *queueModel) forget(tasks *[]*modelTask, t *modelTask) {
	i := slices.Index(*tasks, t)
	*tasks = slices.Delete(*tasks, i, i+1)
}

func (m *queueModel) full(from string) bool {
	return sizes(m.queue)+sizes(m.held) >= maxWaiting ||
		sizes(of(from, m.queue))+sizes(of(from, m.held)) >= maxWaitingOfSource ||
		m.perSource > 0 && len(of(from, m.queue)) >= m.perSource
}

// add reports whether the task was taken.
func (m *queueModel) add(t *modelTask) bool {
	if m.overflow == OverflowBlock && m.full(t.from) {
		return false
	}
	before := of(t.from, m.held)
	room := sizes(before) < maxHeldUp && (m.overflow == OverflowBlock || sizes(m.held) < maxHeldUpOfAll)
	switch {
	case t.ready && len(before) == 0:
		m.enqueue(t)
	case m.overflow == OverflowLatest && t.ready && before[len(before)-1].ready:
		m.forget(&m.held, before[len(before)-1])
		m.held = append(m.held, t)
		m.dropped++
	case room || m.overflow == OverflowBlock && !t.ready:
		m.held = append(m.held, t)
	case t.ready && m.overflow != OverflowLatest:
		m.enqueue(t)
	default:
		m.dropped++
	}
	m.keepBounds(t.from)
	return true
}

func (m *queueModel) enqueue(t *modelTask) {
	its := of(t.from, m.queue)
	if m.overflow == OverflowLatest && len(its) > 0 {
		m.queue[slices.Index(m.queue, its[0])] = t
		m.dropped++
	} else {
		m.queue = append(m.queue, t)
	}
}

func (m *queueModel) keepBounds(from string) {
	if m.overflow == OverflowBlock {
		return
	}
	for its := of(from, m.queue); len(its) > 1 && (m.perSource > 0 && len(its) > m.perSource || sizes(its)+sizes(of(from, m.held)) > maxWaitingOfSource); its = its[1:] {
		m.forget(&m.queue, its[0])
		m.dropped++
	}
	for len(m.queue) > 1 && sizes(m.queue)+sizes(m.held) > maxWaiting {
		m.queue = m.queue[1:]
		m.dropped++
	}
}

// finish has a held task get ready.
func (m *queueModel) finish(t *modelTask) {
	t.ready = true
	for its := of(t.from, m.held); len(its) > 0 && its[0].ready; its = its[1:] {
		m.forget(&m.held, its[0])
		m.enqueue(its[0])
	}
	m.keepBounds(t.from)
}

// settle begins the next task, if none runs.
func (m *queueModel) settle() {
	if !m.running && len(m.queue) > 0 {
		m.running = true
		m.ran = append(m.ran, m.queue[0].number)
		m.queue = m.queue[1:]
	}
}

// A queue runs and drops, under each policy, what the model does, at every step
// of random ones: of one source that floods and of many, with tasks that wait to
// be ready, near all bounds.
func TestSerialQueueIsItsModel(t *testing.T) {
	for _, overflow := range []Overflow{OverflowBlock, OverflowDropOldest, OverflowLatest} {
		for _, sources := range []int{3, 100} {
			for _, perSource := range []int{0, 1, 7, 300} {
				for _, notReady := range []int{0, 30} { // of 100
					name := fmt.Sprintf("overflow=%d/sources=%d/perSource=%d/notReady=%d", overflow, sources, perSource, notReady)
					t.Run(name, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							seed := int64(1000*sources + 10*perSource + notReady)
							followModel(t, &queueModel{overflow: overflow, perSource: perSource}, rand.New(rand.NewSource(seed)), sources, notReady)
						})
					})
				}
			}
		}
	}
}

func followModel(t *testing.T, m *queueModel, r *rand.Rand, sources, notReady int) {
	stats := new(ListenerStats)
	q := serialQueue{overflow: m.overflow, perSource: m.perSource, stats: stats}
	var ran []int
	step := make(chan struct{})
	var made []*modelTask
	defer func() { // what a failed step leaves must end, too
		q.close()
		close(step)
		for _, task := range made {
			if !task.ready {
				close(task.done)
			}
		}
	}()
	sizesOf := []int{100, 100, 100, 1 << 20, 3 << 20}
	if sources < 10 {
		sizesOf = []int{100, 100, 100, 100, 100, 100, 100, 1 << 20} // or else no count is ever reached
	}
	const steps = 2000
	number := 0
	for i := range steps {
		var what string
		switch op := r.Intn(100); {
		case op < 70:
			for range 1 + r.Intn(3) {
				task := &modelTask{number: number, from: fmt.Sprint(r.Intn(sources)), size: sizesOf[r.Intn(len(sizesOf))], ready: r.Intn(100) >= notReady, done: make(chan struct{})}
				if r.Intn(2) == 0 {
					task.from = "0" // the flood
				}
				made = append(made, task)
				number++
				what += fmt.Sprintf("add %d of %s ", task.number, task.from)
				if got, want := q.offer(task.from, realTask(task, &ran, step)), m.addSized(task); got != want {
					t.Fatalf("step %d: %s: offer returned %t, want %t", i, what, got, want)
				}
				synctest.Wait()
				m.settle()
			}
		case op < 85:
			waits := slices.DeleteFunc(slices.Clone(m.held), func(t *modelTask) bool { return t.ready })
			if len(waits) == 0 {
				continue
			}
			task := waits[r.Intn(len(waits))]
			what = fmt.Sprintf("finish %d", task.number)
			close(task.done)
			m.finish(task)
		case m.running:
			what = "step"
			step <- struct{}{}
			m.running = false
		}
		synctest.Wait()
		m.settle()
		follows(t, fmt.Sprintf("step %d: %s", i, what), m, &q, ran)
	}
	// What waits runs to its end.
	for _, task := range slices.Clone(m.held) {
		if !task.ready {
			close(task.done)
			m.finish(task)
			synctest.Wait()
			m.settle()
		}
	}
	for m.running {
		step <- struct{}{}
		m.running = false
		synctest.Wait()
		m.settle()
	}
	follows(t, "the end", m, &q, ran)
	if !q.idle(t.Context()) || q.waiting != 0 || len(q.sources) != 0 || q.heldSize != 0 || stats.Waiting.Load() != 0 {
		t.Errorf("it is never empty: %d bytes, %d sources, %d held up, %d waiting", q.waiting, len(q.sources), q.heldSize, stats.Waiting.Load())
	}
	t.Logf("%d tasks, %d ran, %d dropped", number, len(ran), m.dropped)
}

// addSized is add with the queue's allowance for each task.
func (m *queueModel) addSized(t *modelTask) bool {
	t.size += taskOverhead
	return m.add(t)
}

func realTask(m *modelTask, ran *[]int, step <-chan struct{}) task {
	number := m.number
	t := task{size: m.size, job: jobFunc(func() {
		*ran = append(*ran, number)
		<-step
	})}
	if !m.ready {
		t.ready = m.done
	}
	return t
}

// follows compares the queue with the model, and checks that gaps take no room.
func follows(t *testing.T, after string, m *queueModel, q *serialQueue, ran []int) {
	t.Helper()
	if !slices.Equal(ran, m.ran) {
		t.Fatalf("%s: ran %v, want %v", after, ran[max(0, len(ran)-5):], m.ran[max(0, len(m.ran)-5):])
	}
	if got, want := q.waiting, sizes(m.queue)+sizes(m.held); got != want {
		t.Fatalf("%s: %d bytes wait, want %d", after, got, want)
	}
	if got, want := q.stats.Waiting.Load(), int64(len(m.queue)+len(m.held)); got != want {
		t.Fatalf("%s: %d wait, want %d", after, got, want)
	}
	if got, want := q.stats.Dropped.Load(), uint64(m.dropped); got != want {
		t.Fatalf("%s: %d dropped, want %d", after, got, want)
	}
	if got := q.tasks.Len(); got > 2*len(m.queue)+gapsKept+1 {
		t.Fatalf("%s: there is room for %d tasks, but there are %d", after, got, len(m.queue))
	}
	if q.drops() && q.waiting > maxWaiting+4<<20 {
		t.Fatalf("%s: %d bytes wait", after, q.waiting)
	}
}

// BenchmarkSerialQueueDrops adds to a queue that is full for the source, while
// others' tasks wait among its own.
func BenchmarkSerialQueueDrops(b *testing.B) {
	for _, overflow := range []Overflow{OverflowDropOldest, OverflowLatest} {
		for _, waiting := range []int{100, 100_000} {
			b.Run(fmt.Sprintf("overflow=%d/waiting=%d", overflow, waiting), func(b *testing.B) {
				q := serialQueue{overflow: overflow, perSource: waiting / 2}
				release := make(chan struct{})
				q.add("", task{job: jobFunc(func() { <-release })})
				nothing := task{job: jobFunc(func() {})}
				for i := range waiting / 2 {
					q.add("flood", nothing)
					q.add(fmt.Sprint("other", i), nothing)
				}
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					q.add("flood", nothing)
				}
				b.StopTimer()
				close(release)
				q.idle(b.Context())
			})
		}
	}
}

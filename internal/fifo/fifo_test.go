package fifo_test

import (
	"slices"
	"testing"

	"github.com/crosscomm/crosscomm-go/internal/fifo"
)

// A queue gives back what it was given, in its order, at any length.
func TestOrder(t *testing.T) {
	var q fifo.Queue[int]
	pushed, popped := 0, 0
	for _, step := range []struct{ push, pop int }{{1, 1}, {3, 2}, {5000, 4000}, {10, 1011}, {700, 699}, {1, 2}} {
		for range step.push {
			q.Push(pushed)
			pushed++
		}
		want := make([]int, 0, pushed-popped)
		for i := popped; i < pushed; i++ {
			want = append(want, i)
		}
		if !slices.Equal(q.All(), want) || q.Len() != len(want) {
			t.Fatalf("got %v, want %v", q.All(), want)
		}
		for range step.pop {
			if got := q.Pop(); got != popped {
				t.Fatalf("got %d, want %d", got, popped)
			}
			popped++
		}
	}
	if q.Len() != 0 || (*fifo.Queue[int])(nil).Len() != 0 {
		t.Error("an empty queue has values")
	}
}

// What was popped can be collected, and a long queue that has become short takes
// little room.
func TestRoom(t *testing.T) {
	var q fifo.Queue[*int]
	for range 100_000 {
		q.Push(new(int))
	}
	all := q.All()
	for range 99_999 {
		q.Pop()
	}
	if all[0] != nil || cap(q.All()) > 4000 {
		t.Errorf("room for %d values", cap(q.All()))
	}
}

// What is deleted from the middle is gone, can be collected, and leaves the others
// in their order.
func TestDeleteFunc(t *testing.T) {
	var q fifo.Queue[*int]
	for i := range 10 {
		q.Push(&i)
	}
	q.Pop()
	all := q.All()
	q.DeleteFunc(func(v *int) bool { return *v%3 != 0 })
	q.Push(new(int))
	var got []int
	for _, v := range q.All() {
		got = append(got, *v)
	}
	if want := []int{3, 6, 9, 0}; !slices.Equal(got, want) || all[4] != nil {
		t.Errorf("got %v, want %v; behind them is %v", got, want, all[4])
	}
}

func BenchmarkPushPop(b *testing.B) {
	var q fifo.Queue[[10]int]
	q.Push([10]int{})
	b.ReportAllocs()
	for range b.N {
		q.Push([10]int{})
		q.Pop()
	}
}

// Package fifo is a queue of values, first in, first out.
package fifo

import "slices"

// kept is for how many values an empty queue keeps room.
const kept = 512

// Queue is such a queue. The zero value, and a nil one to look at, is empty. It
// must not be used concurrently.
type Queue[T any] struct {
	values []T
	head   int // where it begins in values
}

// Len returns how many values are in the queue.
func (q *Queue[T]) Len() int { return len(q.All()) }

// All returns the values, in their order, which may be changed until the next one
// is pushed or popped.
func (q *Queue[T]) All() []T {
	if q == nil {
		return nil
	}
	return q.values[q.head:]
}

// Push appends a value.
func (q *Queue[T]) Push(v T) { q.values = append(q.values, v) }

// Pop removes the first value, and returns it. It panics if there is none. The time
// that it takes does not grow with the queue, but now and then.
func (q *Queue[T]) Pop() T {
	v := q.values[q.head]
	var zero T
	q.values[q.head] = zero // or else it would be kept from the collector
	q.head++
	switch left := len(q.values) - q.head; {
	case left == 0 && cap(q.values) > kept:
		q.values, q.head = nil, 0
	case left == 0:
		q.values, q.head = q.values[:0], 0
	case q.head > left && q.head > kept:
		q.closeGap()
	}
	return v
}

// DeleteFunc removes the values for which del is true, and keeps the order of the
// others. It calls del once for each value, in their order.
func (q *Queue[T]) DeleteFunc(del func(T) bool) {
	q.values = q.values[:q.head+len(slices.DeleteFunc(q.values[q.head:], del))]
}

// closeGap moves the values to the beginning, and gives up room of which little is used.
func (q *Queue[T]) closeGap() {
	rest := q.values[q.head:]
	if cap(q.values) > 4*kept && len(rest) < cap(q.values)/4 {
		q.values = slices.Clone(rest)
	} else {
		n := copy(q.values, rest)
		clear(q.values[n:])
		q.values = q.values[:n]
	}
	q.head = 0
}

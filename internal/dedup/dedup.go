// Package dedup remembers what was had already, for a while: a Window of keys, each
// with a little that is known of it.
package dedup

import (
	"encoding/binary"
	"hash/maphash"
	"time"
)

// smallest is for how many keys a Window that has any keeps room at least.
const smallest = 8

// Key stands for what is remembered. It is a hash, and means something in this
// process only.
//
// Two things have the same Key with a chance of 1 in 2^64, and who does not know the
// random seed of the hash cannot make such two on purpose. So a new message is taken
// for one of the 4,096 in a Window once in 4.5e15 messages: at 10,000 a second that is
// once in 14,000 years.
type Key uint64

var seed = maphash.MakeSeed()

// Of makes the key of a thing that consists of several parts. It matters where one
// part ends and the next one begins: ("ab", "c") is not ("a", "bc"). Strings and bytes
// that are equal have the same key. It may be called concurrently.
func Of[T string | []byte](parts ...T) Key {
	var h maphash.Hash
	h.SetSeed(seed)
	for i := range parts {
		var size [8]byte
		binary.LittleEndian.PutUint64(size[:], uint64(len(parts[i])))
		_, _ = h.Write(size[:])                // it never fails
		switch part := any(&parts[i]).(type) { // a conversion would copy one of both
		case *string:
			_, _ = h.WriteString(*part)
		case *[]byte:
			_, _ = h.Write(*part)
		}
	}
	return Key(h.Sum64())
}

// Window remembers keys, each with a value: the latest ones, up to a number, and none
// for longer than its age. It holds 32 bytes for each, and up to twice that while it
// grows, if values have 4 bytes at most; and next to nothing while it is empty. It must be
// made by New, and not be used concurrently.
//
// Times are in ns, of any clock that does not go back. To Add, one that is earlier
// than that of the key before is the same as that.
type Window[V any] struct {
	max int
	age int64

	// Keys have numbers, in the order in which they came: those from first up to next
	// are remembered. Number n lies in slot n modulo len(slots), which is a power of 2,
	// so that the oldest is forgotten by counting only.
	first, next uint64
	slots       []slot[V]
}

// slot is where a key lies. All keys whose lowest bits are equal make a chain, from
// the last one back to the first; where it has come to what is forgotten it ends.
type slot[V any] struct {
	key   Key
	at    int64  // when it came
	back  uint32 // how far before it the one before it in its chain is; 0 for none
	value V

	last uint64 // the number of the last key in the chain of this slot's number
}

// New makes a Window for so many keys at most, from 1 up to 2^32-1, which are forgotten
// when they are older than age.
func New[V any](max int, age time.Duration) *Window[V] {
	return &Window[V]{max: max, age: int64(age), first: 1, next: 1}
}

// Add remembers a key, in place of the oldest one if there are too many. Of one that
// is remembered already it replaces the value only: it does not stay for longer.
func (w *Window[V]) Add(key Key, now int64, v V) {
	w.Expire(now)
	if s := w.find(key); s != nil {
		s.value = v
		return
	}
	switch w.Len() {
	case w.max:
		w.forget()
	case len(w.slots):
		w.resize(max(smallest, 2*len(w.slots)))
	}
	if w.Len() > 0 {
		now = max(now, w.slot(w.next-1).at)
	}
	w.push(key, now, v)
}

// Get returns the value of a key, which may be changed until the next Add or Expire;
// false if it is not remembered, or too old.
func (w *Window[V]) Get(key Key, now int64) (*V, bool) {
	s := w.find(key)
	if s == nil || now-s.at > w.age {
		return nil, false
	}
	return &s.value, true
}

// Expire forgets what is too old, and gives up room of which little is used; Add does
// so, too. It is for who adds nothing any more.
func (w *Window[V]) Expire(now int64) {
	for w.Len() > 0 && now-w.slot(w.first).at > w.age {
		w.forget()
	}
	switch left := w.Len(); {
	case left == 0:
		w.slots = nil
	case left <= len(w.slots)/8 && len(w.slots) > smallest:
		size := smallest
		for size < 2*left {
			size *= 2
		}
		w.resize(size)
	}
}

// Len returns how many keys are remembered, with those that are too old since the last
// Add or Expire.
func (w *Window[V]) Len() int { return int(w.next - w.first) }

// slot returns where the key of a number lies.
func (w *Window[V]) slot(number uint64) *slot[V] {
	return &w.slots[number&uint64(len(w.slots)-1)]
}

// find returns where a key lies; nil for nowhere.
func (w *Window[V]) find(key Key) *slot[V] {
	if len(w.slots) == 0 {
		return nil
	}
	for number := w.slot(uint64(key)).last; number >= w.first; {
		s := w.slot(number)
		switch {
		case s.key == key:
			return s
		case s.back == 0:
			return nil
		}
		number -= uint64(s.back)
	}
	return nil
}

// push adds a key that is not there, for which there is room.
func (w *Window[V]) push(key Key, at int64, v V) {
	last := &w.slot(uint64(key)).last
	s := w.slot(w.next)
	s.key, s.at, s.back, s.value = key, at, 0, v
	if *last >= w.first {
		s.back = uint32(w.next - *last)
	}
	*last = w.next
	w.next++
}

// forget removes the oldest key.
func (w *Window[V]) forget() {
	var zero V
	w.slot(w.first).value = zero // or else it would be kept from the collector
	w.first++
}

// resize moves all keys into so many slots.
func (w *Window[V]) resize(n int) {
	old := *w
	w.slots = make([]slot[V], n)
	w.next = w.first
	for number := old.first; number < old.next; number++ {
		s := old.slot(number)
		w.push(s.key, s.at, s.value)
	}
}

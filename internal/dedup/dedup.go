// Package dedup remembers what was had already, for a while: a Window of keys, each
// with a little that is known of it.
package dedup

import (
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
	var key uint64
	for i := range parts {
		var hash uint64
		switch part := any(&parts[i]).(type) { // a conversion would copy one of both
		case *string:
			hash = maphash.String(seed, *part)
		case *[]byte:
			hash = maphash.Bytes(seed, *part)
		}
		key = key*odd + hash // so that it matters which part is which
	}
	return Key(key)
}

// odd is the golden ratio of 2^64, by which nothing is lost in a product.
const odd = 0x9E3779B97F4A7C15

// Window remembers keys, each with a value: the latest ones, up to a number, and none
// for longer than its age. It holds 32 bytes for each, and up to twice that while it
// grows, if values have 6 bytes at most; and next to nothing while it is empty. It must be
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

	// All keys whose lowest bits are equal make a chain, from the last one back to
	// the first; where it has come to what is forgotten it ends. Here they begin, twice
	// as many as there are slots. Most keys that are looked for are new, and of most of
	// these this tells: slots lie far apart, which costs more than all else.
	heads []head
}

// slot is where a key lies.
type slot[V any] struct {
	key   Key
	at    int64  // when it came
	back  uint16 // how far before it the one before it in its chain is; 0 for none
	value V
}

// head is where a chain begins: from the highest bit on, 14 bits of the chain's last
// key, whether there ever was one, whether there were more, and its number modulo 2^16.
// After 2^16 further keys that is another one's number, which does no harm: of a chain
// that has nothing more to remember, it makes one that has other keys.
type head uint32

const (
	headUsed = 1 << 17
	headMore = 1 << 16
)

func headOf(key Key, number uint64, more bool) head {
	h := tagOf(key) | headUsed | head(uint16(number))
	if more {
		h |= headMore
	}
	return h
}

// tagOf returns bits of the key that do not say which chain it is in.
func tagOf(key Key) head { return head(key>>50) << 18 }

// mayHave is false if the key is not in the chain.
func (h head) mayHave(key Key) bool {
	return h&headMore != 0 || h&headUsed != 0 && h>>18 == tagOf(key)>>18
}

// New makes a Window for so many keys at most, from 1 up to 65,535, which are forgotten
// when they are older than age.
func New[V any](max int, age time.Duration) *Window[V] {
	return &Window[V]{max: max, age: int64(age), first: 1, next: 1}
}

// Add remembers a key, in place of the oldest one if there are too many. Of one that
// is remembered already it replaces the value only: it does not stay for longer, and
// the place is 0.
func (w *Window[V]) Add(key Key, now int64, v V) (place uint64) {
	w.Expire(now)
	if s := w.find(key); s != nil {
		s.value = v
		return 0
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
	return w.next - 1
}

// At is Get, without looking for it, of a key whose place Add has returned; one that
// is too old may be there still.
func (w *Window[V]) At(place uint64, key Key) (*V, bool) {
	if place < w.first || place >= w.next {
		return nil, false
	}
	s := w.slot(place)
	return &s.value, s.key == key
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
		w.slots, w.heads = nil, nil
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

// head returns where the chain of a key begins.
func (w *Window[V]) head(key Key) *head { return &w.heads[uint64(key)&uint64(len(w.heads)-1)] }

// last returns the number of the last key in a chain, or a lower one than is remembered.
func (w *Window[V]) last(h head) uint64 {
	back := uint64(uint16(w.next) - uint16(h)) // 0 for 2^16
	if h == 0 || back == 0 || back > w.next {
		return 0
	}
	return w.next - back
}

// find returns where a key lies; nil for nowhere.
func (w *Window[V]) find(key Key) *slot[V] {
	if len(w.slots) == 0 {
		return nil
	}
	h := *w.head(key)
	if !h.mayHave(key) {
		return nil
	}
	for number := w.last(h); number >= w.first; {
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
	h := w.head(key)
	s := w.slot(w.next)
	s.key, s.at, s.back, s.value = key, at, 0, v
	if last := w.last(*h); last >= w.first {
		s.back = uint16(w.next - last)
	}
	*h = headOf(key, w.next, s.back > 0)
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
	w.slots, w.heads = make([]slot[V], n), make([]head, 2*n)
	w.next = w.first
	for number := old.first; number < old.next; number++ {
		s := old.slot(number)
		w.push(s.key, s.at, s.value)
	}
}

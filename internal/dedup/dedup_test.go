package dedup_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
	"weak"

	"pgregory.net/rapid"

	"github.com/crosscomm/crosscomm-go/internal/dedup"
)

// entry is a key of the model, which is a slice of them, the oldest first.
type entry struct {
	key   dedup.Key
	at    int64
	value int
}

// A Window does what a slice would, in whatever order it is used, and whatever the
// time does.
func TestLikeASlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 70).Draw(t, "max")
		age := rapid.Int64Range(0, 100).Draw(t, "age")
		w := dedup.New[int](limit, time.Duration(age))
		var model []entry
		now := rapid.Int64Range(-1000, 1000).Draw(t, "now")
		// Keys of which many are equal, and more of which the lowest bits are.
		key := rapid.Custom(func(t *rapid.T) dedup.Key {
			return dedup.Key(rapid.Uint64Range(0, 40).Draw(t, "low") | rapid.Uint64Range(0, 3).Draw(t, "high")<<60)
		})
		expire := func() {
			model = slices.DeleteFunc(model, func(e entry) bool { return now-e.at > age })
		}
		find := func(k dedup.Key) int {
			return slices.IndexFunc(model, func(e entry) bool { return e.key == k })
		}
		t.Repeat(map[string]func(*rapid.T){
			"Add": func(t *rapid.T) {
				k, v := key.Draw(t, "key"), rapid.Int().Draw(t, "value")
				w.Add(k, now, v)
				expire()
				if i := find(k); i >= 0 {
					model[i].value = v
					return
				}
				if len(model) == limit {
					model = model[1:]
				}
				at := now
				if len(model) > 0 {
					at = max(at, model[len(model)-1].at)
				}
				model = append(model, entry{k, at, v})
			},
			"Get": func(t *rapid.T) {
				k := key.Draw(t, "key")
				v, ok := w.Get(k, now)
				i := find(k)
				switch want := i >= 0 && now-model[i].at <= age; {
				case ok != want:
					t.Fatalf("%x is remembered: %v", k, ok)
				case ok && *v != model[i].value:
					t.Fatalf("%x has %d, not %d", k, *v, model[i].value)
				case ok:
					*v++
					model[i].value++
				}
			},
			"Expire": func(*rapid.T) {
				w.Expire(now)
				expire()
			},
			"time": func(t *rapid.T) {
				now += rapid.OneOf(rapid.Int64Range(0, 3), rapid.Int64Range(-3, 200)).Draw(t, "ns")
			},
			"": func(t *rapid.T) {
				if w.Len() != len(model) {
					t.Fatalf("%d keys, not %d", w.Len(), len(model))
				}
				for _, e := range model {
					if v, ok := w.Get(e.key, e.at); !ok || *v != e.value {
						t.Fatalf("%x is remembered: %v", e.key, ok)
					}
				}
			},
		})
	})
}

// The latest keys are remembered, and no others, however many there were, and At finds
// them where Add has said.
func TestManyKeys(t *testing.T) {
	const most = 5
	w := dedup.New[int](most, time.Hour)
	keys := rand.New(rand.NewPCG(1, 2))
	var had [1 << 18]dedup.Key
	var places [len(had)]uint64
	for i := range had {
		had[i] = dedup.Key(keys.Uint64())
		if _, ok := w.Get(had[i], 0); ok {
			t.Fatalf("key %d is remembered before it was added", i)
		}
		places[i] = w.Add(had[i], 0, i)
		for back := range min(i+1, most+2) {
			k := i - back
			v, ok := w.Get(had[k], 0)
			at, there := w.At(places[k], had[k])
			if want := back < most; ok != want || there != want || ok && (*v != k || at != v) {
				t.Fatalf("after %d keys, the one %d before is remembered: %v, and at its place: %v", i, back, ok, there)
			}
		}
	}
	if w.Add(had[len(had)-1], 0, 0) != 0 {
		t.Error("a key that is remembered has a new place")
	}
}

// Parts that are cut elsewhere make another key, and the same ones the same.
func TestOf(t *testing.T) {
	same := func(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a'}), 0, 300).Draw(t, "whole")
		cut := rapid.Custom(func(t *rapid.T) (parts [][]byte) {
			rest := whole
			for range rapid.IntRange(0, 3).Draw(t, "cuts") {
				n := rapid.IntRange(0, len(rest)).Draw(t, "at")
				parts, rest = append(parts, rest[:n]), rest[n:]
			}
			return append(parts, rest)
		})
		a, b := cut.Draw(t, "a"), cut.Draw(t, "b")
		var strings []string
		for _, part := range b {
			strings = append(strings, string(part))
		}
		if (dedup.Of(a...) == dedup.Of(strings...)) != same(a, b) {
			t.Errorf("%q and %q: %x and %x", a, b, dedup.Of(a...), dedup.Of(b...))
		}
	})
}

// Room grows with what is remembered, and is given up when that is too old.
func TestRoom(t *testing.T) {
	const most = 4096
	w := dedup.New[int](most, 10*most)
	now := int64(0)
	fill := func(n int) {
		for range n {
			now++
			w.Add(dedup.Of([]byte(fmt.Sprint(now))), now, 0)
		}
	}
	expect := func(what string, keys, atMost int) {
		t.Helper()
		if w.Len() != keys || w.Room() > atMost {
			t.Errorf("%s: room for %d keys, of which there are %d", what, w.Room(), w.Len())
		}
	}
	expect("new", 0, 0)
	fill(1)
	expect("one key", 1, 8)
	fill(99)
	expect("a hundred keys", 100, 200)
	fill(3 * most)
	expect("full", most, most)
	fill(10)
	now += 10*most - 9
	w.Expire(now)
	expect("most are too old", 10, 80)
	now += 10 * most
	w.Expire(now)
	expect("all are too old", 0, 0)
	fill(3)
	expect("used again", 3, 8)
}

// The value of what is forgotten can be collected.
func TestValuesAreCollected(t *testing.T) {
	w := dedup.New[*[64]byte](2, time.Hour)
	var values []weak.Pointer[[64]byte]
	for i := range 3 {
		v := new([64]byte)
		values = append(values, weak.Make(v))
		w.Add(dedup.Key(i), 0, v)
	}
	runtime.GC()
	for i, v := range values {
		if _, there := w.Get(dedup.Key(i), 0); there != (i > 0) || (v.Value() != nil) != there {
			t.Errorf("number %d is remembered: %v, and its value is there: %v", i, there, v.Value() != nil)
		}
	}
	runtime.KeepAlive(w)
}

// BenchmarkAddGet is what a message costs: it is looked for, and remembered.
func BenchmarkAddGet(b *testing.B) {
	for _, most := range []int{64, 4096} {
		b.Run(fmt.Sprint(most), func(b *testing.B) {
			w := dedup.New[uint8](most, 10*time.Minute)
			from, id := []byte("a1b2c3d4e5f6"), []byte("0198c7a2-3b54-7c61-9d3e-000000000000")
			b.ReportAllocs()
			for i := range b.N {
				binary.BigEndian.PutUint64(id[28:], uint64(i))
				key := dedup.Of(from, id)
				if _, ok := w.Get(key, int64(i)); ok {
					b.Fatal("it was had already")
				}
				w.Add(key, int64(i), 1)
			}
		})
	}
}

// BenchmarkOf is the part of BenchmarkAddGet that makes the key, of strings.
func BenchmarkOf(b *testing.B) {
	from, id := "a1b2c3d4e5f6", "0198c7a2-3b54-7c61-9d3e-000000000000"
	b.ReportAllocs()
	for range b.N {
		dedup.Of(from, id)
	}
}

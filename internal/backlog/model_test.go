package backlog_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/crosscomm/crosscomm-go/internal/backlog"
)

// The limits of the model are so small that they are met all the time.
const (
	modelAge      = time.Hour
	modelMessages = 12
	modelBytes    = 1500
)

// model is what a store should be: a map of the messages of each client.
type model struct {
	t       *rapid.T
	path    string
	now     time.Time
	s       *backlog.Store
	clients map[string]map[uint64]backlog.Message
	dropped []string // what the store has told
	want    []string
	total   uint64 // of want since the store was opened
}

func (m *model) open() {
	s, err := backlog.Open(m.path, backlog.Options{
		MaxAge: modelAge, MaxMessages: modelMessages, MaxBytes: modelBytes,
		Now:    func() time.Time { return m.now },
		Logger: slog.New(slog.DiscardHandler),
		Dropped: func(client string, seq uint64, meta []byte) {
			m.dropped = append(m.dropped, fmt.Sprint(client, seq, string(meta)))
		},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	s.NoSync()
	m.s, m.total = s, 0
}

var clientNames = rapid.SampledFrom([]string{"a", "b", "c/d", "\x00"})

// seqs collide often, and come late often.
var seqs = rapid.OneOf(rapid.Uint64Range(0, 30), rapid.SampledFrom([]uint64{math.MaxUint64, math.MaxUint64 - 1, 1 << 40}))

// batch queues some changes, which are one transaction.
func (m *model) batch(t *rapid.T) {
	release := m.s.Hold()
	defer release() // if it ends early
	type outcome struct{ got, want error }
	outcomes := []*outcome{}
	changed := map[string]bool{}
	for range rapid.IntRange(1, 12).Draw(t, "changes") {
		client := clientNames.Draw(t, "client")
		o := &outcome{got: context.DeadlineExceeded}
		outcomes = append(outcomes, o)
		done := func(err error) { o.got = err }
		if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
			gone := rapid.SliceOfN(seqs, 0, 5).Draw(t, "gone")
			m.s.Delete(client, gone, done)
			for _, seq := range gone {
				delete(m.clients[client], seq)
			}
			continue
		}
		msg := backlog.Message{
			Seq:  seqs.Draw(t, "seq"),
			Time: m.now.Add(-time.Duration(rapid.IntRange(0, 90).Draw(t, "age")) * time.Minute),
			Meta: fmt.Appendf(nil, "m%d", rapid.IntRange(0, 1000).Draw(t, "meta")),
			Data: bytes.Repeat([]byte{byte(len(outcomes))}, rapid.SampledFrom([]int{0, 1, 100, 700, 2000}).Draw(t, "size")),
		}
		m.s.Put(client, msg, done)
		if backlog.Cost(msg) > modelBytes {
			o.want = backlog.ErrTooLarge
			continue
		}
		if m.clients[client] == nil {
			m.clients[client] = map[uint64]backlog.Message{}
		}
		m.clients[client][msg.Seq] = msg
		changed[client] = true
		clear(msg.Data[:0]) // the caller's again
	}
	for _, client := range slices.Sorted(maps.Keys(m.clients)) {
		last, ok := m.s.Last(client)
		if want := m.sorted(client); len(want) > 0 && (!ok || last < want[len(want)-1].Seq) {
			t.Fatalf("before the commit, Last of %q is %d, %v", client, last, ok)
		}
	}
	release()
	m.sync(t)
	for _, client := range slices.Sorted(maps.Keys(m.clients)) {
		for changed[client] && m.exceeds(client) {
			m.drop(client, m.sorted(client)[0])
		}
	}
	for i, o := range outcomes {
		if o.got != o.want {
			t.Fatalf("change %d: %v, want %v", i, o.got, o.want)
		}
	}
}

func (m *model) sync(t *rapid.T) {
	if err := m.s.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func (m *model) size(client string) (n int64) {
	for _, msg := range m.clients[client] {
		n += backlog.Cost(msg)
	}
	return n
}

func (m *model) exceeds(client string) bool {
	return len(m.clients[client]) > modelMessages || m.size(client) > modelBytes
}

func (m *model) drop(client string, msg backlog.Message) {
	m.want = append(m.want, fmt.Sprint(client, msg.Seq, string(msg.Meta)))
	m.total++
	delete(m.clients[client], msg.Seq)
}

func (m *model) sorted(client string) []backlog.Message {
	return slices.SortedFunc(maps.Values(m.clients[client]), func(a, b backlog.Message) int {
		if a.Seq < b.Seq {
			return -1
		}
		return 1
	})
}

func (m *model) tooOld(msg backlog.Message) bool { return m.now.Sub(msg.Time) > modelAge }

func (m *model) expire(*rapid.T) {
	m.s.Expire()
	for _, client := range slices.Sorted(maps.Keys(m.clients)) {
		for _, msg := range m.sorted(client) {
			if !m.tooOld(msg) {
				break
			}
			m.drop(client, msg)
		}
	}
}

func (m *model) load(t *rapid.T) {
	client, after := clientNames.Draw(t, "client"), seqs.Draw(t, "after")
	maxMessages, maxBytes := rapid.IntRange(0, 15).Draw(t, "messages"), rapid.IntRange(0, 2000).Draw(t, "bytes")
	var want []backlog.Message
	size := 0
	for _, msg := range m.sorted(client) {
		if msg.Seq <= after || m.tooOld(msg) {
			continue
		}
		size += len(msg.Meta) + len(msg.Data)
		if len(want) > 0 && (len(want) >= maxMessages || size > maxBytes) {
			break
		}
		want = append(want, msg)
	}
	got, err := m.s.Load(client, after, maxMessages, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(got, want, equal) {
		t.Fatalf("loaded\n%v, want\n%v", got, want)
	}
}

func equal(a, b backlog.Message) bool {
	return a.Seq == b.Seq && a.Time.Equal(b.Time) && bytes.Equal(a.Meta, b.Meta) && bytes.Equal(a.Data, b.Data)
}

func (m *model) reopen(t *rapid.T) {
	closer := m.s.Close
	if rapid.Bool().Draw(t, "crash") {
		closer = m.s.Abandon
	}
	if err := closer(); err != nil {
		t.Fatal(err)
	}
	m.open()
}

// check compares all that the store tells with the model.
func (m *model) check(t *rapid.T) {
	m.sync(t) // with all that was told of what was dropped
	var names []string
	var messages, size int64
	for _, client := range slices.Sorted(maps.Keys(m.clients)) {
		all := m.sorted(client)
		n, bytes := m.s.Size(client)
		if n != len(all) || bytes != m.size(client) {
			t.Fatalf("%q has %d messages, %d bytes, want %d, %d", client, n, bytes, len(all), m.size(client))
		}
		last, ok := m.s.Last(client)
		if ok != (n > 0) || ok && last != all[n-1].Seq {
			t.Fatalf("Last of %q is %d, %v", client, last, ok)
		}
		if n > 0 {
			names = append(names, client)
		}
		messages, size = messages+int64(n), size+bytes
	}
	if want := (backlog.Totals{Messages: messages, Bytes: size, Dropped: m.total}); m.s.Totals() != want {
		t.Fatalf("totals %+v, want %+v", m.s.Totals(), want)
	}
	if got := m.s.Clients(); !slices.Equal(got, names) {
		t.Fatalf("clients %q, want %q", got, names)
	}
	if a, b := m.s.StoredClients(); !slices.Equal(a, names) || !slices.Equal(b, names) {
		t.Fatalf("in the file are messages of %q, counts of %q, want %q", a, b, names)
	}
	if !slices.Equal(m.dropped, m.want) {
		t.Fatalf("dropped\n%q, want\n%q", m.dropped, m.want)
	}
}

// Whatever is done in whatever order, a store has what a map would have.
func TestModel(t *testing.T) {
	dir, runs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		m := &model{
			t: t, path: filepath.Join(dir, fmt.Sprint(runs)), clients: map[string]map[uint64]backlog.Message{},
			now: time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC),
		}
		m.open()
		defer func() {
			if err := m.s.Close(); err != nil {
				t.Fatal(err)
			}
		}()
		t.Repeat(map[string]func(*rapid.T){
			"":       m.check,
			"batch":  m.batch,
			"load":   m.load,
			"expire": m.expire,
			"reopen": m.reopen,
			"wait": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(-5, 60).Draw(t, "minutes")) * time.Minute)
			},
		})
	})
}

package backlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"go.etcd.io/bbolt"
)

// The buckets of the file.
var (
	formatBucket   = []byte("format")   // see open.go
	messagesBucket = []byte("messages") // client → a bucket of seq → message; only those that have any
	countsBucket   = []byte("counts")   // client → its queue; the same clients
)

// fill is how full pages become: nearly all messages are added at the end, and
// leave the page before as it is.
const fill = 0.95

// transaction changes queues in one transaction.
type transaction struct {
	o                *Options
	messages, counts *bbolt.Bucket
	queues           map[string]queue // of the clients that it changes, or may
	dropped          []drop
	damaged          int
}

// drop is a message that was dropped.
type drop struct {
	client string
	seq    uint64
	meta   []byte
}

// apply puts and deletes messages of a client, and drops what is too much then.
func (t *transaction) apply(client string, ops []op) error {
	q := t.queues[client]
	before := q.messages
	b := t.messages.Bucket([]byte(client))
	if b == nil {
		if !slices.ContainsFunc(ops, func(o op) bool { return o.record != nil }) {
			return nil
		}
		var err error
		if b, err = t.messages.CreateBucket([]byte(client)); err != nil {
			return err
		}
		q = queue{oldest: math.MaxInt64}
	}
	b.FillPercent = fill
	c := b.Cursor()
	for _, o := range ops {
		k := key(o.seq)
		// What comes after the last one is new: that is nearly all.
		if before > 0 && o.seq <= q.last {
			if at, record := c.Seek(k[:]); bytes.Equal(at, k[:]) {
				q.messages--
				q.bytes -= cost(len(record))
				q.oldest = unknownAge // what becomes the first one may be older than that was
				if o.record == nil {
					if err := c.Delete(); err != nil {
						return err
					}
				}
			}
		}
		if o.record == nil {
			continue
		}
		if err := b.Put(k[:], o.record); err != nil {
			return err
		}
		q.messages++
		q.bytes += cost(len(o.record))
		q.last = max(q.last, o.seq)
		q.oldest = min(q.oldest, o.time)
	}
	err := t.dropFirst(client, b, &q, func([]byte) bool {
		return q.messages > int64(t.o.MaxMessages) || q.bytes > t.o.MaxBytes
	})
	if err != nil {
		return err
	}
	return t.store(client, b, q)
}

// dropFirst drops the first messages of a queue as long as the function reports
// true for the next one's record; q is without that already when it is asked for
// the one after.
func (t *transaction) dropFirst(client string, b *bbolt.Bucket, q *queue, tooMuch func(record []byte) bool) error {
	var seqs []uint64
	c := b.Cursor()
	for k, record := c.First(); k != nil && tooMuch(record); k, record = c.Next() {
		if len(k) != len(key(0)) {
			return fmt.Errorf("%w: a key of %d bytes", errDamaged, len(k))
		}
		seq := binary.BigEndian.Uint64(k)
		seqs = append(seqs, seq)
		q.messages--
		q.bytes -= cost(len(record))
		q.oldest = unknownAge
		if _, meta, err := check(record); err == nil {
			t.dropped = append(t.dropped, drop{client, seq, slices.Clone(record[recordHeader:][:meta])})
		} else {
			t.damaged++
		}
	}
	// Afterwards: a cursor may skip a message when one is deleted under it.
	for _, seq := range seqs {
		k := key(seq)
		if err := b.Delete(k[:]); err != nil {
			return err
		}
	}
	return nil
}

// store notes what has become of a queue. An empty one leaves nothing behind.
func (t *transaction) store(client string, b *bbolt.Bucket, q queue) error {
	if last := key(q.last); b.Get(last[:]) == nil { // it was deleted
		c := b.Cursor()
		// Last does not return if all pages have become empty in this transaction.
		if k, _ := c.First(); k == nil {
			t.queues[client] = queue{}
			if err := t.messages.DeleteBucket([]byte(client)); err != nil {
				return err
			}
			return t.counts.Delete([]byte(client))
		}
		k, _ := c.Last()
		q.last = binary.BigEndian.Uint64(k)
	}
	t.queues[client] = q
	return t.counts.Put([]byte(client), encodeQueue(q))
}

// encodeQueue encodes what Open needs to know without reading the messages.
func encodeQueue(q queue) []byte {
	data := binary.BigEndian.AppendUint64(nil, uint64(q.messages))
	data = binary.BigEndian.AppendUint64(data, uint64(q.bytes))
	return binary.BigEndian.AppendUint64(data, q.last)
}

// decodeQueue decodes that; nothing is the queue without messages.
func decodeQueue(data []byte) (queue, error) {
	if data == nil {
		return queue{}, nil
	}
	if len(data) != 24 {
		return queue{}, fmt.Errorf("%w: the size of a queue in %d bytes", errDamaged, len(data))
	}
	q := queue{
		messages: int64(binary.BigEndian.Uint64(data)),
		bytes:    int64(binary.BigEndian.Uint64(data[8:])),
		last:     binary.BigEndian.Uint64(data[16:]),
		oldest:   unknownAge,
	}
	if q.messages <= 0 || q.bytes <= 0 {
		return queue{}, fmt.Errorf("%w: a queue of %d messages and %d bytes", errDamaged, q.messages, q.bytes)
	}
	return q, nil
}

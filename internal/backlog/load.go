package backlog

import (
	"encoding/binary"
	"errors"
	"math"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// Load returns messages of a client that are committed, in the order of their Seq,
// from the first one after the given: up to maxMessages, and as many as have
// maxBytes in Meta and Data together, but one at least if there is any. It has none
// that is older than Options.MaxAge. One whose record is damaged is left out,
// logged, counted in Totals.Damaged, and deleted. The memory is the caller's.
func (s *Store) Load(client string, after uint64, maxMessages, maxBytes int) ([]Message, error) {
	if after == math.MaxUint64 {
		return nil, nil
	}
	cutoff := s.cutoff()
	var messages []Message
	var damaged []uint64
	err := guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(messagesBucket).Bucket([]byte(client))
			if b == nil {
				return nil
			}
			c := b.Cursor()
			first := key(after + 1)
			size := 0
			for k, record := c.Seek(first[:]); k != nil; k, record = c.Next() {
				seq := binary.BigEndian.Uint64(k)
				when, _, err := header(record)
				if err == nil && when < cutoff {
					continue
				}
				size += len(record) - recordHeader
				if len(messages) > 0 && (len(messages) >= maxMessages || size > maxBytes) {
					return nil
				}
				m, err := decode(seq, record)
				if err != nil {
					size -= len(record) - recordHeader
					damaged = append(damaged, seq)
					continue
				}
				messages = append(messages, m)
			}
			return nil
		})
	})
	s.noteDamage(err)
	if errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		err = ErrClosed
	}
	if err != nil {
		return nil, err
	}
	s.discard(client, damaged)
	return messages, nil
}

// discard deletes messages that cannot be read.
func (s *Store) discard(client string, seqs []uint64) {
	if len(seqs) == 0 {
		return
	}
	s.o.Logger.Error("messages for an absent client are damaged and lost", "client_id", client, "messages", len(seqs), "first", seqs[0])
	s.mu.Lock()
	s.totals.Damaged += uint64(len(seqs))
	s.mu.Unlock()
	s.Delete(client, seqs, nil)
}

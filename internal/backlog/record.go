package backlog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"time"
)

// A message is stored as
//
//	1 byte   recordVersion
//	4 bytes  CRC-32C of all that follows
//	8 bytes  the time in ns since 1970
//	4 bytes  the length of Meta
//	         Meta
//	         Data
//
// with the numbers in big endian.
const (
	recordVersion = 1
	recordHeader  = 1 + 4 + 8 + 4
)

// overhead is what a message counts beyond its Meta and Data: about what it takes
// in the file, with its key and its place in a page.
const overhead = 64

// cost is how much a message counts, from the length of its record.
func cost(record int) int64 { return int64(record) - recordHeader + overhead }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errRecord = errors.New("a damaged message")

func encode(m Message) []byte {
	record := make([]byte, recordHeader, recordHeader+len(m.Meta)+len(m.Data))
	binary.BigEndian.PutUint64(record[5:], uint64(m.Time.UnixNano()))
	binary.BigEndian.PutUint32(record[13:], uint32(len(m.Meta)))
	record = append(append(record, m.Meta...), m.Data...)
	record[0] = recordVersion
	binary.BigEndian.PutUint32(record[1:], crc32.Checksum(record[5:], castagnoli))
	return record
}

// header returns when the message is from and how long its Meta is, without
// looking at the checksum, for which all of it would have to be read.
func header(record []byte) (t int64, meta int, err error) {
	if len(record) < recordHeader || record[0] != recordVersion {
		return 0, 0, errRecord
	}
	n := binary.BigEndian.Uint32(record[13:])
	if uint64(n) > uint64(len(record)-recordHeader) {
		return 0, 0, errRecord
	}
	return int64(binary.BigEndian.Uint64(record[5:])), int(n), nil
}

// check returns what header does, of a record that is as it was written.
func check(record []byte) (t int64, meta int, err error) {
	t, meta, err = header(record)
	if err == nil && crc32.Checksum(record[5:], castagnoli) != binary.BigEndian.Uint32(record[1:]) {
		err = errRecord
	}
	return t, meta, err
}

// decode returns the message of a record, in memory of its own.
func decode(seq uint64, record []byte) (Message, error) {
	t, meta, err := check(record)
	if err != nil {
		return Message{}, err
	}
	rest := slices.Clone(record[recordHeader:])
	return Message{Seq: seq, Time: time.Unix(0, t), Meta: rest[:meta:meta], Data: rest[meta:]}, nil
}

// key is the key of a message in the bucket of its client.
func key(seq uint64) [8]byte {
	var k [8]byte
	binary.BigEndian.PutUint64(k[:], seq)
	return k
}

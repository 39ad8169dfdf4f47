package backlog

import (
	"bytes"
	"testing"
	"time"
)

// Whatever the file has, a message is what was stored, or an error.
func FuzzDecode(f *testing.F) {
	for _, m := range []Message{
		{Time: time.Unix(0, 0)},
		{Time: time.Unix(1, 2), Meta: []byte("meta")},
		{Time: time.Unix(-1, 2), Meta: []byte("meta"), Data: []byte("data")},
	} {
		record := encode(m)
		f.Add(record)
		f.Add(record[:len(record)-1])
		f.Add(append([]byte{recordVersion + 1}, record[1:]...))
	}
	f.Add([]byte{recordVersion})
	f.Fuzz(func(t *testing.T, record []byte) {
		_ = cost(len(record))
		m, err := decode(7, record)
		if err != nil {
			if len(m.Meta) > 0 || len(m.Data) > 0 {
				t.Errorf("an error and a message: %v", err)
			}
			return
		}
		if m.Seq != 7 || !bytes.Equal(encode(m), record) {
			t.Errorf("decoded as %+v", m)
		}
	})
}

// A record that has lost or changed any byte is none.
func TestDecodeDamaged(t *testing.T) {
	record := encode(Message{Time: time.Unix(1, 2), Meta: []byte("meta"), Data: []byte("data")})
	for i := range record {
		damaged := bytes.Clone(record)
		damaged[i] ^= 1
		if m, err := decode(1, damaged); err == nil {
			t.Errorf("with byte %d changed it is %+v", i, m)
		}
		if m, err := decode(1, record[:i]); err == nil {
			t.Errorf("cut at %d it is %+v", i, m)
		}
	}
}

package compact

import (
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/klamm-io/klamm/wire/record"
)

// message is an entry of a message set; its timestamp is 1000 + offset.
func message(magic int8, attributes byte, offset int64, key, value []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(offset))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, byte(magic), attributes)
	if magic == 1 {
		b = binary.BigEndian.AppendUint64(b, uint64(1000+offset))
	}
	for _, v := range [][]byte{key, value} {
		n := len(v)
		if v == nil {
			n = -1
		}
		b = binary.BigEndian.AppendUint32(b, uint32(int32(n)))
		b = append(b, v...)
	}
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
	return b
}

// wrapper is a compressed set of messages from offset base.
func wrapper(t testing.TB, magic int8, codec record.Codec, flags byte, base int64, recs ...rec) []byte {
	var set []byte
	for i, r := range recs {
		key, value := parseRec(r)
		offset := int64(i)
		if magic == 0 {
			offset += base
		}
		set = append(set, message(magic, 0, offset, key, value)...)
	}
	out, err := record.Compress(nil, codec, codec.DefaultLevel(), set)
	if err != nil {
		t.Fatal(err)
	}
	return message(magic, byte(codec)|flags, base+int64(len(recs))-1, nil, out)
}

func TestLegacyEntriesAreKeptWholeOrConverted(t *testing.T) {
	one := func(r rec) []byte { k, v := parseRec(r); return message(1, 0, 12, k, v) }
	for _, c := range []struct {
		name    string
		in      []byte
		end     int64
		deletes bool
		want    string
	}{
		{"a message that is the last of its key", one("c=1"), 100, false, "Same"},
		{"a message that is not", one("a=1"), 100, false, "Dropped -"},
		{"a tombstone that may stay", one("c"), 100, true, "Same"},
		{"a tombstone that may not", one("c"), 100, false, "Dropped -"},
		{"a message without a key", one("=1"), 100, false, "Dropped -"},
		{"the last message of the round", one("a=1"), 13, false, "Emptied 12-12[]"},
		{"a message beyond the end", one("a=1"), 12, false, "Same"},
		{"a set of last values", wrapper(t, 1, record.Gzip, 0, 10, "c=1", "d=2"), 100, false, "Same"},
		{"a set without", wrapper(t, 1, record.Gzip, 0, 10, "a=1", "a=2"), 100, false, "Dropped -"},
		{"a set of both", wrapper(t, 1, record.Gzip, 0, 10, "a=1", "c=1", "a=2", "d=3", "a=3"), 100, false, "Rebuilt 11-13[11:c=1@1001 13:d=3@1003] gzip"},
		{"with append time", wrapper(t, 1, record.Gzip, 8, 10, "a=1", "c=1", "d=2"), 100, false, "Rebuilt 11-12[11:c=1@1012 12:d=2@1012] gzip"},
		{"with tombstones", wrapper(t, 1, record.Snappy, 0, 10, "a=1", "c", "d=2"), 100, true, "Rebuilt 11-12[11:c@1001 12:d=2@1002] horizon 5100 snappy"},
		{"with tombstones that may not stay", wrapper(t, 1, record.Snappy, 0, 10, "a=1", "c", "d=2"), 100, false, "Rebuilt 12-12[12:d=2@1002] snappy"},
		{"a set of magic 0", wrapper(t, 0, record.Gzip, 0, 10, "a=1", "c=1"), 100, false, "Rebuilt 11-11[11:c=1@-1] gzip"},
		{"the last set of the round", wrapper(t, 1, record.Gzip, 0, 10, "a=1", "a=2"), 12, false, "Emptied 10-11[]"},
	} {
		m := NewMap(MinBudget)
		m.Put([]byte("a"), 50)
		f := NewFilter(Round{Map: m, Latest: 99, End: c.end, Now: 5000, DeleteRetention: 100}, NewTxns(nil))
		f.KeepLegacyDeletes(c.deletes)
		kept, v, err := f.Batch(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := verdicts[v]
		if v != Same {
			got += " " + show(t, kept)
		} else if &kept[0] != &c.in[0] {
			t.Errorf("%s: copied", c.name)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestIndexerReadsLegacyEntries(t *testing.T) {
	m := NewMap(MinBudget)
	x := NewIndexer(m, NewTxns(nil), 11, 20, 0)
	for _, b := range [][]byte{
		wrapper(t, 1, record.Gzip, 0, 10, "a=1", "b=2", "=3", "a=4"),
		message(0, 0, 14, []byte("b"), nil),
		message(0, 0, 20, []byte("a"), nil), // beyond the end
	} {
		if full, err := x.Batch(b); full || err != nil {
			t.Fatal(full, err)
		}
	}
	a, _ := m.Get([]byte("a"))
	b, _ := m.Get([]byte("b"))
	if a != 13 || b != 14 || m.Len() != 2 || x.Latest() != 14 || x.Stats().InvalidRecords != 1 {
		t.Errorf("a at %d, b at %d, %d keys, latest %d, %+v", a, b, m.Len(), x.Latest(), x.Stats())
	}
}

package log

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// A producer snapshot (.snapshot), the state up to the offset that names it,
// big-endian:
//
//	0 2 version 1
//	2 4 CRC-32C of all that follows
//	6 4 number of entries, and for each:
//	    8 producer id
//	    2 epoch
//	    4 last sequence, -1 none
//	    8 last offset, -1 none
//	    4 last - first offset of the last batch
//	    8 timestamp in ms
//	    4 coordinator epoch, -1 none
//	    8 first offset of the open transaction, -1 none
const (
	snapshotHeader = 10
	snapshotEntry  = 46
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeSnapshot(s *producers) []byte {
	ids := make([]int64, 0, len(s.m))
	for id := range s.m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	b := make([]byte, snapshotHeader, snapshotHeader+len(ids)*snapshotEntry)
	binary.BigEndian.PutUint16(b, 1)
	binary.BigEndian.PutUint32(b[6:], uint32(len(ids)))
	for _, id := range ids {
		p := s.m[id]
		last, _ := p.last()
		b = prim.AppendInt64(b, p.id)
		b = prim.AppendInt16(b, p.epoch)
		b = prim.AppendInt32(b, last.lastSeq)
		b = prim.AppendInt64(b, last.lastOffset)
		b = prim.AppendInt32(b, last.delta)
		b = prim.AppendInt64(b, p.timestamp)
		b = prim.AppendInt32(b, p.coordinatorEpoch)
		b = prim.AppendInt64(b, p.txnFirst)
	}
	binary.BigEndian.PutUint32(b[2:], crc32.Checksum(b[6:], castagnoli))
	return b
}

// decodeSnapshot returns the state that b holds. When the producers were seen last
// is not in it: see setSeen.
func decodeSnapshot(b []byte) (*producers, error) {
	if len(b) < snapshotHeader || (len(b)-snapshotHeader)%snapshotEntry != 0 {
		return nil, fmt.Errorf("%w: producer snapshot of %d bytes", ErrCorrupt, len(b))
	}
	if v := binary.BigEndian.Uint16(b); v != 1 {
		return nil, fmt.Errorf("%w: producer snapshot of version %d", ErrCorrupt, v)
	}
	if got, want := crc32.Checksum(b[6:], castagnoli), binary.BigEndian.Uint32(b[2:]); got != want {
		return nil, fmt.Errorf("%w: producer snapshot: crc %08x, want %08x", ErrCorrupt, got, want)
	}
	r := prim.NewReader(b[6:])
	n := int(r.Int32())
	if n != (len(b)-snapshotHeader)/snapshotEntry {
		return nil, fmt.Errorf("%w: producer snapshot of %d bytes with %d entries", ErrCorrupt, len(b), n)
	}
	s := &producers{m: make(map[int64]*producer, n)}
	for range n {
		p := &producer{id: r.Int64(), epoch: r.Int16()}
		last := producerBatch{lastSeq: r.Int32(), lastOffset: r.Int64(), delta: r.Int32()}
		p.timestamp, p.coordinatorEpoch, p.txnFirst = r.Int64(), r.Int32(), r.Int64()
		if last.lastSeq >= 0 {
			last.firstSeq, last.timestamp = record.AddSequence(last.lastSeq, -last.delta), p.timestamp
			p.batches[0], p.n = last, 1
		}
		s.m[p.id] = p
	}
	var open []*producer
	for _, p := range s.m {
		if p.txnFirst >= 0 {
			open = append(open, p)
		}
	}
	slices.SortFunc(open, func(a, b *producer) int { return cmp.Compare(a.txnFirst, b.txnFirst) })
	for _, p := range open {
		s.open.begin(p, p.txnFirst)
	}
	return s, r.Err()
}

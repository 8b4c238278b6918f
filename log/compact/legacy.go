package compact

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// filterLegacy decides on an entry of magic 0 or 1: a message, or a compressed
// message set. It stays as it is if all its records do. Otherwise what is left of
// a set becomes one batch of version 2 with the same codec, offsets and
// timestamps, as Kafka makes it; base and last offset are those of the first and
// last record that are kept. (Kafka converts also what it keeps whole, which
// makes messages half as large again.)
func (f *Filter) filterLegacy(entry []byte) (kept []byte, v Verdict, count int32, err error) {
	f.legacy, err = record.ReadLegacy(f.legacy[:0], entry, f.MaxSize)
	if err != nil {
		return nil, Dropped, 0, err
	}
	all := f.legacy
	f.stats.RecordsRead += int64(len(all))
	end := record.Batch(entry).BaseOffset() + 1 // an entry has the offset of its last record
	if end > f.End {
		return entry, Same, int32(len(all)), nil
	}
	keep, tombstones := all[:0], false
	first, n := all[0].Offset, len(all)
	for _, r := range all {
		if f.keep(r.Offset, r.Key, f.Map.hashOf(r.Key), r.Value == nil, f.legacyDeletes) {
			keep = append(keep, r)
			tombstones = tombstones || r.Value == nil
		}
	}
	attributes := record.Attributes(entry[attributesAt])
	if entry[magicAt] == 0 {
		attributes &^= appendTime
	}
	switch {
	case len(keep) == n:
		return entry, Same, int32(n), nil
	case len(keep) > 0:
		kept, err = f.convert(keep, tombstones && end-1 <= f.Latest, attributes&(codecMask|appendTime))
		return kept, Rebuilt, int32(len(keep)), err
	case end == f.End:
		// Kafka refuses this case.
		kept, err = f.emptyLegacy(first, end-1)
		return kept, Emptied, 0, err
	}
	return nil, Dropped, 0, nil
}

// convert makes a batch of records, in order of offset, whose attributes are a
// codec and perhaps log append time.
func (f *Filter) convert(records []record.LegacyRecord, tombstones bool, attributes record.Attributes) ([]byte, error) {
	base, last := records[0].Offset, records[len(records)-1].Offset
	h := header{
		attributes:    attributes,
		baseTimestamp: records[0].Timestamp,
		maxTimestamp:  record.NoTimestamp,
		count:         int32(len(records)),
	}
	if tombstones {
		h.attributes |= deleteHorizon
		h.baseTimestamp = f.horizon()
	}
	if err := f.newHeader(base, last); err != nil {
		return nil, err
	}
	dst := f.out
	if attributes.Codec() != record.None {
		dst = f.plain[:0]
	}
	for _, r := range records {
		if r.Offset < base || r.Offset > last {
			return nil, fmt.Errorf("%w: offset %d in a message set of [%d, %d]", record.ErrCorrupt, r.Offset, base, last)
		}
		h.maxTimestamp = max(h.maxTimestamp, r.Timestamp)
		dst = appendRecord(dst, r.Timestamp-h.baseTimestamp, int32(r.Offset-base), r.Key, r.Value)
	}
	return f.finish(dst, attributes.Codec(), h)
}

func (f *Filter) emptyLegacy(base, last int64) ([]byte, error) {
	if err := f.newHeader(base, last); err != nil {
		return nil, err
	}
	seal(f.out, header{baseTimestamp: record.NoTimestamp, maxTimestamp: record.NoTimestamp})
	return f.out, nil
}

// newHeader makes f.out the header of a batch without a producer and without
// what seal fills in.
func (f *Filter) newHeader(base, last int64) error {
	if base < 0 || last < base || last-base > math.MaxInt32 {
		return fmt.Errorf("%w: message set of offsets [%d, %d]", record.ErrCorrupt, base, last)
	}
	f.out = append(f.out[:0], make([]byte, record.HeaderSize)...)
	b := record.Batch(f.out)
	b.SetBaseOffset(base)
	b.SetLeaderEpoch(-1)
	b[magicAt] = record.Magic
	binary.BigEndian.PutUint32(b[lastDeltaAt:], uint32(last-base))
	b.SetProducer(record.NoProducer.ID, record.NoProducer.Epoch, record.NoProducer.Sequence)
	return nil
}

func appendRecord(dst []byte, timestampDelta int64, offsetDelta int32, key, value []byte) []byte {
	n := 1 + prim.VarlongLen(timestampDelta) + prim.VarintLen(offsetDelta) + bytesLen(key) + bytesLen(value) + 1
	dst = prim.AppendVarint(dst, int32(n))
	dst = append(dst, 0)
	dst = prim.AppendVarlong(dst, timestampDelta)
	dst = prim.AppendVarint(dst, offsetDelta)
	dst = appendBytes(dst, key)
	dst = appendBytes(dst, value)
	return append(dst, 0) // headers
}

func bytesLen(b []byte) int {
	if b == nil {
		return 1
	}
	return prim.VarintLen(int32(len(b))) + len(b)
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 1) // varint -1
	}
	dst = prim.AppendVarint(dst, int32(len(b)))
	return append(dst, b...)
}

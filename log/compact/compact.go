// Package compact decides what log compaction keeps: for each key the last
// record, of transactions what was committed, tombstones and transaction markers
// until delete.retention.ms after they were first compacted, and of each active
// producer its last batch, if only the header. Offsets never change.
//
// A round over one log takes two passes. An [Indexer] reads the dirty part, from
// where the last round ended, and remembers the last offset of each key in a
// [Map], until it is full. A [Filter] then reads all segments up to there, batch
// by batch, and returns what of each goes into the cleaned segment. Both need to
// know what transactions the batches belong to: each gets its own [Txns].
// [Measure] decides whether a log is worth a round and how far it may go, [Group]
// which segments become one.
//
// The rules are those of Kafka's Cleaner, LogCleanerManager and
// MemoryRecords.filterTo, with KIP-98 (transactions) and KIP-534 (delete
// horizons). Nothing here does I/O or knows the time. Every type is owned by one
// goroutine.
package compact

import (
	"encoding/binary"
	"fmt"

	"github.com/klamm-io/klamm/wire/record"
)

const (
	magicAt      = 16
	attributesAt = 17 // of an entry of magic 0 or 1

	maxScratch = 4 << 20 // larger buffers are not kept for the next batch
)

// Stats counts what a pass has seen. An empty batch has no records.
type Stats struct {
	BatchesRead, BatchesKept int64
	RecordsRead, RecordsKept int64
	BytesRead, BytesKept     int64
	InvalidRecords           int64 // without a key, in a log that is compacted by key
}

// isLegacy reports whether b, as [record.Next] cuts it, is of magic 0 or 1.
func isLegacy(b []byte) (bool, error) {
	if len(b) <= attributesAt {
		return false, fmt.Errorf("%w: %d bytes", record.ErrShort, len(b))
	}
	return int8(b[magicAt]) < record.Magic, nil
}

// checked returns b as a batch of version 2 whose header can be relied on.
func checked(b []byte) (record.Batch, error) {
	batch := record.Batch(b)
	if err := batch.Validate(); err != nil {
		return nil, err
	}
	if batch.Count() < 0 || batch.LastOffsetDelta() < 0 || batch.BaseOffset() < 0 || batch.LastOffset() < 0 {
		return nil, fmt.Errorf("%w: %d records at offset %d, last offset delta %d",
			record.ErrCorrupt, batch.Count(), batch.BaseOffset(), batch.LastOffsetDelta())
	}
	return batch, nil
}

// reader gives the plain records of batches, decompressed into memory that it
// reuses.
type reader struct {
	buf     []byte
	maxSize int // of decompressed records; 0 means record.DefaultMaxSize
}

// records makes s walk the records of b and returns their plain bytes, which are
// valid until the next call.
func (r *reader) records(s *record.Scanner, b record.Batch) ([]byte, error) {
	if b.Count() == 0 {
		s.Reset(nil, 0)
		return nil, nil
	}
	plain := b.Records()
	if codec := b.Attributes().Codec(); codec != record.None {
		if cap(r.buf) > maxScratch {
			r.buf = nil
		}
		out, err := record.Decompress(r.buf[:0], codec, plain, r.maxSize)
		if err != nil {
			return nil, at(b, err)
		}
		if plain = out; cap(out) > cap(r.buf) { // a codec may return less of it
			r.buf = out[:0]
		}
	}
	s.Reset(plain, b.Count())
	return plain, nil
}

// controlType returns the type of the record in control batch b; there is none
// if the record has been removed.
func (r *reader) controlType(b record.Batch) (t record.ControlType, ok bool, err error) {
	var s record.Scanner
	if _, err := r.records(&s, b); err != nil {
		return 0, false, err
	}
	if !s.Next() {
		return 0, false, at(b, s.Err())
	}
	if len(s.Key) < 4 {
		return 0, false, fmt.Errorf("%w: control record key of %d bytes at offset %d", record.ErrCorrupt, len(s.Key), b.BaseOffset())
	}
	return record.ControlType(binary.BigEndian.Uint16(s.Key[2:])), true, nil
}

// at adds the place of b to an error.
func at(b record.Batch, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
}

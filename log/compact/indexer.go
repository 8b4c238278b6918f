package compact

import (
	"github.com/klamm-io/klamm/wire/record"
)

// Indexer is the first pass of a round: it enters the last offset of each key
// between start and end into a map.
//
// Invariant: the map has the last offset of every key of a live record in
// [start, Latest()], and of none after it, except where a batch claims a last
// offset below that of its records.
type Indexer struct {
	m                  *Map
	txns               *Txns
	start, end, latest int64
	full               bool
	reader             reader
	scan               record.Scanner
	ahead              lookahead
	legacy             []record.LegacyRecord
	stats              Stats
}

// NewIndexer clears m and returns an indexer for the offsets [start, end): from
// the first dirty offset to the first that must not be cleaned. Compressed
// records may decompress to maxSize bytes a batch; 0 means record.DefaultMaxSize.
func NewIndexer(m *Map, txns *Txns, start, end int64, maxSize int) *Indexer {
	m.Clear()
	m.begin(start)
	return &Indexer{m: m, txns: txns, start: start, end: end, latest: start - 1, reader: reader{maxSize: maxSize}}
}

// Latest returns the last offset that the map covers: start - 1 if there is
// none. The next round starts at Latest() + 1.
func (x *Indexer) Latest() int64 { return x.latest }

// Stats returns what was read.
func (x *Indexer) Stats() Stats { return x.stats }

// Passed says that there are no more batches below offset next, although those
// before may have ended earlier: the base offset of the segment that comes next.
// It does nothing once the map was full.
func (x *Indexer) Passed(next int64) {
	if !x.full {
		x.latest = max(x.latest, min(next, x.end)-1)
	}
}

// Batch takes in the batch b, or the entry of magic 0 or 1, as record.Next cuts
// it. They must come in order and begin at or before start. full means that the
// map can take no more and the pass is over. Batches that reach beyond end change
// nothing. The error wraps what Batch.Validate, record.Decompress and
// record.ReadLegacy return.
func (x *Indexer) Batch(b []byte) (full bool, err error) {
	if x.full {
		return true, nil
	}
	old, err := isLegacy(b)
	if err != nil {
		return false, err
	}
	last := record.Batch(b[:8:8]).BaseOffset() // of a legacy entry
	if old {
		err = x.indexLegacy(b, last)
	} else {
		var batch record.Batch
		if batch, err = checked(b); err != nil {
			return false, err
		}
		last = batch.LastOffset()
		err = x.index(batch)
	}
	if err != nil {
		return false, err
	}
	x.stats.BatchesRead++
	x.stats.BytesRead += int64(len(b))
	if !x.full && last < x.end {
		x.latest = max(x.latest, last)
	}
	return x.full, nil
}

func (x *Indexer) index(b record.Batch) error {
	if b.LastOffset() >= x.end {
		return nil
	}
	if b.Attributes().Control() {
		c, ok, err := x.reader.controlType(b)
		if err == nil {
			x.txns.control(b, c, ok)
			x.stats.RecordsRead++
		}
		return err
	}
	if x.txns.data(b) || b.LastOffset() < x.start {
		x.stats.RecordsRead += int64(b.Count())
		return nil
	}
	if _, err := x.reader.records(&x.scan, b); err != nil {
		return err
	}
	base := b.BaseOffset()
	for x.ahead.read(&x.scan, x.m) {
		for i, r := range x.ahead.rows() {
			if !x.enter(r.key, x.ahead.hashes[i], base+int64(r.offsetDelta)) {
				return nil
			}
		}
	}
	return at(b, x.scan.Err())
}

func (x *Indexer) indexLegacy(entry []byte, last int64) (err error) {
	if last < x.start || last >= x.end {
		return nil
	}
	if x.legacy, err = record.ReadLegacy(x.legacy[:0], entry, x.reader.maxSize); err != nil {
		return err
	}
	for _, r := range x.legacy {
		if !x.enter(r.Key, x.m.hashOf(r.Key), r.Offset) {
			break
		}
	}
	return nil
}

// enter puts one record; hash is that of its key. If there is no room, all offsets below it are covered.
func (x *Indexer) enter(key []byte, hash uint64, offset int64) bool {
	if offset < x.start {
		return true
	}
	if key == nil {
		x.stats.InvalidRecords++
	} else if !x.m.enter(hash, key, offset) {
		x.full, x.latest = true, max(x.latest, offset-1)
		return false
	}
	x.stats.RecordsRead++
	return true
}

package compact

import (
	"github.com/klamm-io/klamm/wire/record"
)

// Round is what a Filter works by.
type Round struct {
	Map             *Map  // of an Indexer
	Latest          int64 // that Indexer's: what Map covers
	End             int64 // first offset that must not be cleaned
	Now             int64 // ms
	DeleteRetention int64 // ms (delete.retention.ms)
	Producers       map[int64]LastRecord
	MaxSize         int // bytes that a batch may decompress to; 0 means record.DefaultMaxSize
}

// LastRecord is the last batch of an active producer, by id in Round.Producers.
type LastRecord struct {
	DataOffset int64 // last offset of its last data batch; -1 if only a marker is left
	Epoch      int16
}

// Verdict is what became of a batch.
type Verdict int8

const (
	Dropped Verdict = iota // nothing is kept
	Same                   // all is kept, byte by byte
	Emptied                // only a header is kept
	Rebuilt                // some records are, or all with a delete horizon
)

// Filter is the second pass of a round: it decides what of each batch goes into
// a cleaned segment.
type Filter struct {
	Round
	txns          *Txns
	legacyDeletes bool
	reader        reader
	scan          record.Scanner
	ahead         lookahead
	spans         []span
	legacy        []record.LegacyRecord
	out, plain    []byte
	stats         Stats
}

// NewFilter returns a filter. txns must be new.
func NewFilter(r Round, txns *Txns) *Filter {
	return &Filter{Round: r, txns: txns, reader: reader{maxSize: r.MaxSize}}
}

// KeepLegacyDeletes sets whether tombstones of magic 0 and 1 stay, for the
// segments that follow. They have no delete horizon: Kafka keeps them while their
// segment was last modified less than delete.retention.ms before the last
// segment below the first dirty offset was.
func (f *Filter) KeepLegacyDeletes(keep bool) { f.legacyDeletes = keep }

// Stats returns what was read and kept.
func (f *Filter) Stats() Stats { return f.stats }

// Batch returns what is kept of the batch b, or the entry of magic 0 or 1, as
// record.Next cuts it: nil, b itself, or bytes that are valid until the next
// call. All batches of the segments to clean must come in order. The error wraps
// what Batch.Validate, record.Decompress and record.ReadLegacy return; the round
// must then be given up.
func (f *Filter) Batch(b []byte) (kept []byte, v Verdict, err error) {
	old, err := isLegacy(b)
	if err != nil {
		return nil, Dropped, err
	}
	var count int32
	if old {
		kept, v, count, err = f.filterLegacy(b)
	} else {
		kept, v, count, err = f.filter(b)
	}
	if err != nil {
		return nil, Dropped, err
	}
	f.stats.BatchesRead++
	f.stats.BytesRead += int64(len(b))
	if v != Dropped {
		f.stats.BatchesKept++
	}
	f.stats.RecordsKept += int64(count)
	f.stats.BytesKept += int64(len(kept))
	return kept, v, nil
}

func (f *Filter) filter(raw []byte) (kept []byte, v Verdict, count int32, err error) {
	b, err := checked(raw)
	if err != nil {
		return nil, Dropped, 0, err
	}
	f.stats.RecordsRead += int64(b.Count())
	a := b.Attributes()
	var discard, marker bool // marker: of a transaction without data
	if a.Control() {
		c, ok, err := f.reader.controlType(b)
		if err != nil {
			return nil, Dropped, 0, err
		}
		marker = f.txns.control(b, c, ok)
		discard = marker && a.DeleteHorizon() && b.BaseTimestamp() <= f.Now
	} else {
		discard = f.txns.data(b)
	}
	if b.LastOffset() >= f.End {
		return b, Same, b.Count(), nil
	}
	keepEmpty := f.lastOfProducer(b) || b.LastOffset()+1 == f.End
	if discard {
		kept, v = f.empty(b, keepEmpty)
		return kept, v, 0, nil
	}
	plain, err := f.reader.records(&f.scan, b)
	if err != nil {
		return nil, Dropped, 0, err
	}
	sum, err := f.choose(b)
	if err != nil {
		return nil, Dropped, 0, err
	}
	// Tombstones above Latest have removed nothing yet. Kafka lets them wait from
	// the first round that sees them, so that a later one may take them together
	// with the values before, which a reader may have just read.
	waits := sum.tombstones && b.LastOffset() <= f.Latest
	horizon := (waits || marker) && !a.DeleteHorizon()
	switch {
	case sum.count == 0:
		kept, v = f.empty(b, keepEmpty)
	case sum.count == b.Count() && !horizon:
		kept, v = b, Same
	default:
		v = Rebuilt
		kept, err = f.rebuild(b, plain, sum, horizon)
	}
	return kept, v, sum.count, at(b, err)
}

// lastOfProducer reports whether b holds the sequence number, or at least the
// epoch, up to which its producer has come.
func (f *Filter) lastOfProducer(b record.Batch) bool {
	if b.ProducerID() <= record.NoProducerID {
		return false
	}
	last, ok := f.Producers[b.ProducerID()]
	switch {
	case !ok:
		return false
	case last.DataOffset >= 0:
		return b.LastOffset() == last.DataOffset
	}
	return b.Attributes().Control() && b.ProducerEpoch() == last.Epoch
}

// span is a run of records that are kept, as bytes [from, to).
type span struct {
	from, to int
	count    int32
}

// chosen sums up the records that are kept.
type chosen struct {
	count        int32
	maxTimestamp int64 // ms
	tombstones   bool
}

// choose fills spans with the records of b that are kept; f.scan is at its start.
func (f *Filter) choose(b record.Batch) (sum chosen, err error) {
	base, baseTimestamp, a := b.BaseOffset(), b.BaseTimestamp(), b.Attributes()
	keepTombstones := !a.DeleteHorizon() || f.Now < baseTimestamp
	control := a.Control()
	f.spans = f.spans[:0]
	sum.maxTimestamp = record.NoTimestamp
	var run span
	m := f.Map
	marked := m.superseded.covers(base, b.LastOffset()) // the first pass has found that already
	if control || marked {
		m = nil
	}
	for f.ahead.read(&f.scan, m) {
		for i, r := range f.ahead.rows() {
			offset := base + int64(r.offsetDelta)
			switch {
			case control:
			case marked:
				if !f.keepMarked(offset, r.key, r.nullValue, keepTombstones) {
					continue
				}
			case !f.keep(offset, r.key, f.ahead.hashes[i], r.nullValue, keepTombstones):
				continue
			}
			sum.count++
			sum.tombstones = sum.tombstones || r.nullValue
			sum.maxTimestamp = max(sum.maxTimestamp, baseTimestamp+r.timestampDelta)
			if run.to != r.start && run.count > 0 {
				f.spans = append(f.spans, run)
				run.count = 0
			}
			if run.count == 0 {
				run.from = r.start
			}
			run.to = r.end
			run.count++
		}
	}
	if run.count > 0 {
		f.spans = append(f.spans, run)
	}
	if a.LogAppendTime() {
		sum.maxTimestamp = b.MaxTimestamp()
	}
	return sum, at(b, f.scan.Err())
}

// keepMarked is keep for a record that the first pass has seen.
func (f *Filter) keepMarked(offset int64, key []byte, tombstone, keepTombstones bool) bool {
	switch {
	case offset > f.Latest:
		return true
	case key == nil:
		f.stats.InvalidRecords++
		return false
	case !f.Map.superseded.covers(offset, offset): // beyond what its batch claims
		return f.keep(offset, key, f.Map.hashOf(key), tombstone, keepTombstones)
	}
	return !f.Map.superseded.has(offset) && (!tombstone || keepTombstones)
}

// keep decides on one record; hash is that of its key.
func (f *Filter) keep(offset int64, key []byte, hash uint64, tombstone, keepTombstones bool) bool {
	if offset > f.Latest {
		return true
	}
	if key == nil {
		f.stats.InvalidRecords++
		return false
	}
	if last, ok := f.Map.get(hash, key); ok && offset < last {
		return false
	}
	return !tombstone || keepTombstones
}

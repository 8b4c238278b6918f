package log

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klamm-io/klamm/wire/record"
)

// validator checks a batch that a leader is to append (LogValidator), and makes
// of it what is stored. It decides by the bytes, the configuration and now, and
// touches no state.
type validator struct {
	cfg     *Config
	origin  Origin
	version int16
	now     int64 // ms
}

// run returns the batch to be stored, without offsets and append time: b itself
// wherever that can be.
func (v *validator) run(b []byte) (record.Batch, error) {
	batch, err := v.single(b)
	if err != nil {
		return nil, err
	}
	if err := v.header(batch); err != nil {
		return nil, err
	}
	return v.records(batch)
}

// single returns the one batch in b. Bytes of a batch that is cut off after it
// are ignored.
func (v *validator) single(b []byte) (record.Batch, error) {
	batch, rest, err := record.Next(b)
	switch {
	case err == io.EOF || errors.Is(err, record.ErrShort):
		return nil, fmt.Errorf("%w: none is whole in %d bytes", ErrNotOneBatch, len(b))
	case errors.Is(err, record.ErrMagic):
		return nil, fmt.Errorf("%w: %w", ErrNotOneBatch, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	switch _, _, err := record.Next(rest); {
	case err == nil || errors.Is(err, record.ErrMagic):
		return nil, fmt.Errorf("%w: there are more", ErrNotOneBatch)
	case errors.Is(err, record.ErrCorrupt):
		return nil, fmt.Errorf("%w: after the first batch: %w", ErrCorrupt, err)
	}
	return batch, nil
}

func (v *validator) header(b record.Batch) error {
	a, count := b.Attributes(), b.Count()
	switch {
	case a.Codec() == record.Zstd && v.version > 0 && v.version < zstdSince:
		return fmt.Errorf("%w: zstd in Produce version %d", ErrUnsupportedCompression, v.version)
	case b.BaseOffset() != 0:
		return fmt.Errorf("%w: base offset %d, want 0", ErrInvalidRecord, b.BaseOffset())
	case len(b) > v.cfg.MaxMessageBytes:
		return fmt.Errorf("%w: batch of %d bytes, at most %d", ErrTooLarge, len(b), v.cfg.MaxMessageBytes)
	}
	if err := b.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	switch {
	case a.Codec() > record.Zstd:
		return fmt.Errorf("%w: codec %d", ErrInvalidRecord, int8(a.Codec()))
	case count <= 0 || int64(b.LastOffsetDelta())+1 != int64(count):
		return fmt.Errorf("%w: %d records, last offset delta %d", ErrInvalidRecord, count, b.LastOffsetDelta())
	case v.origin == Client && a.Control():
		return fmt.Errorf("%w: control batch from a client", ErrInvalidRecord)
	case v.origin == Client && b.ProducerID() >= 0 && b.BaseSequence() < 0:
		return fmt.Errorf("%w: producer %d without a sequence", ErrInvalidRecord, b.ProducerID())
	case a.LogAppendTime():
		return v.refuseAll(b, "timestamp type is log append time, which only a broker sets")
	}
	return nil
}

// refuseAll blames each record, as each has the batch's timestamp type.
func (v *validator) refuseAll(b record.Batch, message string) error {
	e := &BatchError{Kind: ErrInvalidTimestamp}
	for i := range min(b.Count(), maxRecordErrors) {
		e.Records = append(e.Records, RecordError{i, message})
	}
	return e
}

// maxRecordErrors bounds how many records of a batch are blamed one by one.
const maxRecordErrors = 1 << 16

// records checks the records and rebuilds the batch if it cannot stay as it is:
// offset deltas out of order, another codec, or a wrong largest timestamp.
func (v *validator) records(b record.Batch) (record.Batch, error) {
	from := b.Attributes().Codec()
	to, err := v.cfg.codec(from)
	if err != nil {
		return nil, err
	}
	if b.Attributes().Control() {
		to = record.None // as Kafka writes them
	}
	var it record.Iterator
	defer it.Close()
	plain := b.Records()
	if from != record.None {
		if err := it.Reset(b, 0); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalidRecord, err)
		}
		plain = it.Plain()
	}
	walk := record.Walk{KeepNullKeys: v.cfg.Compact && v.origin == Client}
	if err := v.walk(&walk, b, plain); err != nil {
		return nil, err
	}
	out := b
	switch {
	case !walk.Sequential:
		out, err = v.rebuild(b, to)
	case from != to:
		out, err = record.Rebuild(nil, b, plain, b.Count(), to, v.cfg.level(to))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	if largest := b.BaseTimestamp() + walk.Largest; !v.cfg.LogAppendTime && out.MaxTimestamp() != largest {
		out.SetMaxTimestamp(largest)
	}
	switch {
	case len(out) > v.cfg.MaxMessageBytes:
		return nil, fmt.Errorf("%w: batch of %d bytes as stored, at most %d", ErrTooLarge, len(out), v.cfg.MaxMessageBytes)
	case int64(len(out)) > v.cfg.SegmentBytes:
		return nil, fmt.Errorf("%w: batch of %d bytes, segments of %d", ErrListTooLarge, len(out), v.cfg.SegmentBytes)
	}
	return out, nil
}

// walk checks structure, keys and timestamps. A second pass finds the records to
// blame for their timestamps, if there can be any.
func (v *validator) walk(w *record.Walk, b record.Batch, plain []byte) error {
	low, high := v.bounds()
	w.Bounded = low > math.MinInt64 && !v.cfg.LogAppendTime
	base := b.BaseTimestamp()
	w.MinDelta, w.MaxDelta, w.NoDelta = sub(low, base), sub(high, base), sub(record.NoTimestamp, base)
	if err := w.Run(plain, b.Count()); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	if !v.cfg.LogAppendTime && !w.Bounded && w.Largest > w.MaxDelta {
		w.Bounded = true
		if err := w.Run(plain, b.Count()); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalidRecord, err)
		}
	}
	if len(w.NullKeys)+len(w.OutOfRange) == 0 {
		return nil
	}
	e := &BatchError{Kind: ErrInvalidRecord}
	null := make(map[int32]bool, len(w.NullKeys))
	for _, i := range w.NullKeys {
		null[i] = true
		e.Records = append(e.Records, RecordError{i, "compacted topic does not take records without key"})
	}
	for _, i := range w.OutOfRange {
		e.Kind = ErrInvalidTimestamp
		if !null[i] { // a record is blamed once, for its key first
			e.Records = append(e.Records, RecordError{i, fmt.Sprintf("timestamp is outside [%d, %d]", low, high)})
		}
	}
	if e.Kind == ErrInvalidTimestamp && len(null) == len(e.Records) {
		e.Kind = ErrInvalidRecord
	}
	return e
}

// bounds returns the create times that are accepted, in ms.
func (v *validator) bounds() (low, high int64) {
	low, high = math.MinInt64, math.MaxInt64
	if d := v.cfg.TimestampBeforeMax; d != math.MaxInt64 {
		low = sub(v.now, d.Milliseconds())
	}
	if d := v.cfg.TimestampAfterMax; d != math.MaxInt64 && v.now <= math.MaxInt64-d.Milliseconds() {
		high = v.now + d.Milliseconds()
	}
	return low, high
}

// sub is a - b, at most the largest and at least the smallest number.
func sub(a, b int64) int64 {
	d := a - b
	if (a >= 0) != (b >= 0) && (d >= 0) != (a >= 0) {
		if a >= 0 {
			return math.MaxInt64
		}
		return math.MinInt64
	}
	return d
}

// rebuild rewrites the records with offset deltas 0, 1, 2, ...
func (v *validator) rebuild(b record.Batch, codec record.Codec) (record.Batch, error) {
	bld := record.NewBuilder(codec, v.cfg.level(codec))
	it := b.Iterate(0)
	defer it.Close()
	for it.Next() {
		r := it.Record()
		bld.Append(it.Timestamp(), r.Key, r.Value, r.Headers)
	}
	if it.Err() != nil {
		return nil, it.Err()
	}
	return bld.Finish(record.Producer{ID: b.ProducerID(), Epoch: b.ProducerEpoch(), Sequence: b.BaseSequence(), Transactional: b.Attributes().Transactional()})
}

package segment

import (
	"errors"
	"os"
	"time"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/wire/record"
)

// indexes are the two indexes of a segment, open.
type indexes struct {
	offsets *index.Offset
	times   *index.Time
}

// entries returns the number of entries of the larger one.
func (x *indexes) entries() int32 { return int32(max(x.offsets.Len(), x.times.Len())) }

// spill writes full blocks.
func (x *indexes) spill() error {
	if err := x.offsets.Spill(); err != nil {
		return err
	}
	return x.times.Spill()
}

func (x *indexes) close(discard bool) error {
	if discard {
		return errors.Join(x.offsets.Discard(), x.times.Discard())
	}
	return errors.Join(x.offsets.Close(), x.times.Close())
}

// indexes returns the indexes. The first call opens them, and makes them from
// the batches if they are missing or cannot be right. A segment with indexes to
// be made has no writer yet: it asks for them too before it writes.
func (s *Segment) indexes() (*indexes, error) {
	if x := s.index.Load(); x != nil {
		return x, nil
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	if x := s.index.Load(); x != nil {
		return x, nil
	}
	if s.discard.Load() {
		return nil, ErrClosed // a deleted segment makes no files
	}
	x, err := s.openIndexes(s.size)
	if err == nil && !s.trusted(x) {
		x.close(true)
		err = index.ErrCorrupt
	}
	if err == nil && s.goneFrom > 0 {
		if err = x.times.Truncate(s.goneFrom); err != nil {
			x.close(true)
		}
	}
	if errors.Is(err, index.ErrCorrupt) {
		x, err = s.reindex()
	}
	if err != nil {
		return nil, err
	}
	s.goneFrom = 0
	s.index.Store(x)
	s.entries.Store(x.entries())
	return x, nil
}

// trusted reports whether indexes that could be opened can be those of the data.
func (s *Segment) trusted(x *indexes) bool {
	// A time index that was completed has an entry, unless no batch has a timestamp.
	if s.size > 0 && (!x.offsets.Exists() || !x.times.Exists() || x.times.Len() == 0) {
		return false
	}
	if x.offsets.Check() != nil || x.times.Check() != nil {
		return false
	}
	e, ok, err := x.offsets.LastEntry()
	return err == nil && (!ok || s.holds(e))
}

// holds reports whether an entry of the offset index leads to its batch.
func (s *Segment) holds(e index.OffsetEntry) bool {
	f, err := s.fileLocked()
	if err != nil || e.Position < 0 || e.Position+headerBytes > s.size {
		return false
	}
	var head [headerBytes]byte
	if fill(f, head[:], e.Position) != nil {
		return false
	}
	size, err := check(head[:], s.size-e.Position, HeadersOnly)
	return (err == nil || size > 0) && Describe(head[:]).Last == e.Offset
}

// lastIndexed reads the last entry of the offset index without opening it
// whole, if it leads to its batch.
func (s *Segment) lastIndexed() (e index.OffsetEntry, ok bool) {
	s.opening.Lock()
	defer s.opening.Unlock()
	x, err := index.OpenOffset(s.fs, s.name(IndexSuffix), s.base, s.size)
	if err != nil {
		return e, false
	}
	defer x.Discard()
	e, ok, err = x.LastEntry()
	return e, err == nil && ok && s.holds(e)
}

// openIndexes opens index files of a data file of size bytes; they need not
// exist.
func (s *Segment) openIndexes(size int64) (*indexes, error) {
	offsets, err := index.OpenOffset(s.fs, s.name(IndexSuffix), s.base, size)
	if err != nil {
		return nil, err
	}
	times, err := index.OpenTime(s.fs, s.name(TimeSuffix), s.base)
	if err != nil {
		offsets.Discard()
		return nil, err
	}
	return &indexes{offsets, times}, nil
}

// removeIndexes removes the index files, which must not be open. Those that are made
// then have names that are not durable.
func (s *Segment) removeIndexes() error {
	s.dirSynced.Store(false)
	for _, suffix := range []string{IndexSuffix, TimeSuffix} {
		if err := s.fs.Remove(s.name(suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// dropIndexes replaces the indexes by empty ones.
func (s *Segment) dropIndexes() error {
	s.opening.Lock()
	defer s.opening.Unlock()
	if x := s.index.Swap(nil); x != nil {
		if err := x.close(true); err != nil {
			return err
		}
	}
	if err := s.removeIndexes(); err != nil {
		return err
	}
	x, err := s.openIndexes(0)
	if err == nil {
		s.index.Store(x)
	}
	return err
}

// reindex makes the indexes from the headers of the batches, durably unless they
// are to be completed: nobody syncs them again. The caller holds opening.
func (s *Segment) reindex() (*indexes, error) {
	if err := s.removeIndexes(); err != nil {
		return nil, err
	}
	x, err := s.openIndexes(0)
	if err != nil {
		return nil, err
	}
	f, err := s.fileLocked()
	if err != nil {
		return nil, errors.Join(err, x.close(true))
	}
	entries := indexer{interval: s.indexer.interval, max: s.noTime()}
	err = s.scan(f, 0, s.size, HeadersOnly, func(b record.Batch, pos int64) (bool, error) {
		d := Describe(b)
		if err := entries.add(x, d.Last, d.MaxTimestamp, pos, d.Size); err != nil {
			return false, err
		}
		return true, x.spill()
	})
	if err == nil {
		err = x.times.Append(entries.max)
	}
	switch {
	case err != nil:
	case s.dirty:
		err = errors.Join(x.offsets.Write(), x.times.Write())
	default:
		if err = errors.Join(x.offsets.Flush(), x.times.Flush()); err == nil {
			err = s.syncNames()
		}
	}
	if err != nil {
		return nil, errors.Join(err, x.close(true))
	}
	return x, nil
}

func (s *Segment) resetPosition() {
	s.dirty = true
	s.next, s.tail = s.base, tail{}
	s.first.Store(-1)
	s.maxKnown, s.max = true, s.noTime()
	s.maxSeen.Store(-1)
	s.indexer.since, s.indexer.max = 0, s.noTime()
}

// noTime stands for the largest timestamp of no batch.
func (s *Segment) noTime() index.TimeEntry { return index.TimeEntry{Timestamp: -1, Offset: s.base} }

// Age returns how much time lies between the first batch and ts, the largest
// timestamp in ms that is to be appended; without timestamps, between the making
// of the segment and now.
func (s *Segment) Age(ts int64, now func() time.Time) time.Duration {
	if first, err := s.FirstTimestamp(); err == nil && first >= 0 {
		return time.Duration(ts-first) * time.Millisecond
	}
	return now().Sub(s.created)
}

// FirstTimestamp returns the largest timestamp of the first batch in ms, -1 if it
// has none.
func (s *Segment) FirstTimestamp() (int64, error) {
	if at := s.first.Load(); at >= 0 || s.Size() == 0 {
		return at, nil
	}
	if !s.acquire() {
		return -1, ErrClosed
	}
	defer s.release()
	err := s.Scan(0, s.Size(), HeadersOnly, func(b record.Batch, _ int64) (bool, error) {
		s.first.Store(Describe(b).MaxTimestamp)
		return false, nil
	})
	return s.first.Load(), err
}

// MaxTimestamp returns the largest timestamp in ms and the last offset of the
// batch that holds it; -1 and the base offset if there is none.
func (s *Segment) MaxTimestamp() (index.TimeEntry, error) {
	if s.maxKnown {
		return s.max, nil
	}
	x, err := s.indexes()
	if err != nil {
		return index.TimeEntry{}, err
	}
	e, err := x.times.LastEntry()
	if err != nil {
		return e, err
	}
	// The index may end before the last batches.
	err = s.rescanMax(x, e)
	return s.max, err
}

func (s *Segment) rescanMax(x *indexes, e index.TimeEntry) error {
	from, err := x.offsets.Lookup(e.Offset)
	if err != nil {
		return err
	}
	err = s.Scan(from.Position, s.size, HeadersOnly, func(b record.Batch, _ int64) (bool, error) {
		if d := Describe(b); d.MaxTimestamp > e.Timestamp {
			e = index.TimeEntry{Timestamp: d.MaxTimestamp, Offset: d.Last}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	s.maxKnown, s.max = true, e
	s.maxSeen.Store(e.Timestamp)
	return nil
}

// Largest returns the largest timestamp in ms, -1 if there is none, for readers.
func (s *Segment) Largest() (int64, error) {
	if ts := s.maxSeen.Load(); ts != noMax {
		return ts, nil
	}
	if !s.acquire() {
		return -1, ErrClosed
	}
	defer s.release()
	x, err := s.indexes()
	if err != nil {
		return -1, err
	}
	e, err := x.times.LastEntry()
	return e.Timestamp, err
}

// IndexBytes returns the sizes of the offset and the time index, in bytes.
func (s *Segment) IndexBytes() (offsets, times int, err error) {
	if !s.acquire() {
		return 0, 0, ErrClosed
	}
	defer s.release()
	x, err := s.indexes()
	if err != nil {
		return 0, 0, err
	}
	return x.offsets.Size(), x.times.Size(), nil
}

// Complete gives the time index its last entry and hands both indexes to the
// file system, without syncing them.
func (s *Segment) Complete() error {
	if !s.dirty {
		return nil
	}
	x, err := s.indexes()
	if err != nil {
		return err
	}
	e, err := s.MaxTimestamp()
	if err != nil {
		return err
	}
	if err := s.enterAll(x); err != nil {
		return err
	}
	if err := x.times.Append(e); err != nil {
		return err
	}
	s.entries.Store(x.entries())
	if err := errors.Join(x.offsets.Write(), x.times.Write()); err != nil {
		return err
	}
	s.dirty = false
	return nil
}

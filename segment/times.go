package segment

import (
	"fmt"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// FoundTime is a record found by its timestamp.
type FoundTime struct {
	Offset, Timestamp int64 // of the record; ms
	Epoch             int32 // leader epoch of its batch
}

// FindTime returns the first record at or after offset start, below limit, whose
// timestamp is at least ts.
func (s *Segment) FindTime(ts, start, limit int64) (found FoundTime, ok bool, err error) {
	if !s.acquire() {
		return found, false, ErrClosed
	}
	defer s.release()
	size := s.Size()
	if size == 0 {
		return found, false, nil
	}
	file, err := s.file()
	if err != nil {
		return found, false, err
	}
	x, err := s.indexes()
	if err != nil {
		return found, false, err
	}
	t, err := x.times.Lookup(ts - 1)
	if err != nil {
		return found, false, err
	}
	e, err := x.offsets.Lookup(max(t.Offset, start))
	if err != nil {
		return found, false, err
	}
	err = s.scan(file, e.Position, size, HeadersOnly, func(b record.Batch, pos int64) (bool, error) {
		d := Describe(b)
		if d.Base >= limit {
			return false, nil
		}
		if d.MaxTimestamp < ts || d.Last < start {
			return true, nil
		}
		err := s.stamps(file, pos, d.Size, func(r FoundTime) bool {
			if r.Timestamp >= ts && r.Offset >= start && r.Offset < limit {
				found, ok = r, true
			}
			return !ok
		})
		return !ok && err == nil, err
	})
	return found, ok, err
}

// FindMax returns the first record with the largest timestamp of those at or
// after offset start, if one of them has a timestamp. No index knows it: it reads
// the headers, and the batch that claims the largest one, again and again until a
// record has what was claimed. A batch claims more than it has where records of it
// are below start, so that twice is enough.
func (s *Segment) FindMax(start int64) (best FoundTime, ok bool, err error) {
	if !s.acquire() {
		return best, false, ErrClosed
	}
	defer s.release()
	best.Timestamp = -1
	size := s.Size()
	from, _, err := s.locate(start)
	if err != nil || from >= size {
		return best, false, err
	}
	file, err := s.file()
	if err != nil {
		return best, false, err
	}
	read := make(map[int64]bool) // batches, by position
	for {
		next, at := Info{MaxTimestamp: -1}, int64(-1)
		err := s.scan(file, from, size, HeadersOnly, func(b record.Batch, pos int64) (bool, error) {
			d := Describe(b)
			better := d.MaxTimestamp > best.Timestamp || d.MaxTimestamp == best.Timestamp && d.Base < best.Offset
			if empty := b.Magic() >= record.Magic && b.Count() == 0; better && !empty && d.MaxTimestamp > next.MaxTimestamp && !read[pos] {
				next, at = d, pos
			}
			return true, nil
		})
		if err != nil || at < 0 {
			return best, best.Timestamp >= 0, err
		}
		read[at] = true
		err = s.stamps(file, at, next.Size, func(r FoundTime) bool {
			if r.Offset >= start && (r.Timestamp > best.Timestamp || r.Timestamp == best.Timestamp && r.Offset < best.Offset) {
				best = r
			}
			return true
		})
		if err != nil || best.Timestamp == next.MaxTimestamp {
			return best, err == nil, err
		}
	}
}

// stamps visits the records of the batch of size bytes at pos until visit returns
// false.
func (s *Segment) stamps(file vfs.File, pos int64, size int, visit func(FoundTime) bool) error {
	b := make([]byte, size)
	if err := fill(file, b, pos); err != nil {
		return err
	}
	batch := record.Batch(b)
	if batch.Magic() < record.Magic {
		recs, err := record.ReadLegacy(nil, b, 0)
		for _, r := range recs {
			if !visit(FoundTime{r.Offset, r.Timestamp, -1}) {
				return nil
			}
		}
		return err
	}
	if err := batch.Validate(); err != nil {
		return fmt.Errorf("%s: byte %d: %w", FileName(s.dir, s.base, LogSuffix), pos, err)
	}
	it := batch.Iterate(0)
	defer it.Close()
	for it.Next() {
		if !visit(FoundTime{it.Offset(), it.Timestamp(), batch.LeaderEpoch()}) {
			return nil
		}
	}
	return it.Err()
}

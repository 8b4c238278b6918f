package log

import (
	"cmp"
	"slices"
	"sort"

	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/prim"
)

// Read returns batches from the one that holds offset on, below limit, which is
// a batch boundary such as the high watermark or the log end. At most maxBytes
// of them, so that the last one may be cut off; with minOne a first batch that
// is larger comes whole, without it nothing. At the end the region is empty. The
// error is an *OutOfRangeError if offset is outside the log.
func (l *Log) Read(offset, limit int64, maxBytes int, minOne bool) (*prim.Region, error) {
	for {
		end, start := l.end.Load(), l.start.Load()
		if offset < start || offset > end {
			return nil, &OutOfRangeError{offset, start, end}
		}
		if limit = min(limit, end); offset >= limit {
			return new(prim.Region), nil
		}
		list := l.list()
		i := max(sort.Search(len(list), func(i int) bool { return list[i].Base() > offset })-1, 0)
		c, past, err := list[i].Read(offset, limit, maxBytes, minOne)
		for past && err == nil && i+1 < len(list) && list[i+1].Base() < limit {
			i++ // offset is in a gap that compaction left
			c, past, err = list[i].Read(offset, limit, maxBytes, minOne)
		}
		if err == nil {
			c.Owner = l
			return c, nil
		}
		if err == segment.ErrClosed && !l.closed.Load() || l.end.Load() < end || l.start.Load() > offset {
			continue // truncated, compacted or removed meanwhile
		}
		return nil, l.readError(err)
	}
}

// TimestampOffset is a record found by its timestamp.
type TimestampOffset struct {
	Offset, Timestamp int64 // ms
	LeaderEpoch       int32
}

// OffsetForTime returns the first record below limit whose timestamp is at least
// ts, in ms.
func (l *Log) OffsetForTime(ts, limit int64) (TimestampOffset, bool, error) {
	limit = min(limit, l.end.Load())
	for _, s := range l.list() {
		if s.Base() >= limit {
			break
		}
		found, ok, err := l.findTime(s, ts, limit)
		if ok || err != nil {
			return found, ok, err
		}
	}
	return TimestampOffset{}, false, nil
}

func (l *Log) findTime(s *segment.Segment, ts, limit int64) (TimestampOffset, bool, error) {
	largest, err := s.Largest()
	if err != nil || largest < ts {
		if err == segment.ErrClosed && !l.closed.Load() {
			err = nil // deleted: its records are gone
		}
		return TimestampOffset{}, false, l.readError(err)
	}
	f, ok, err := s.FindTime(ts, l.start.Load(), limit)
	if err == segment.ErrClosed && !l.closed.Load() {
		return TimestampOffset{}, false, nil
	}
	return TimestampOffset{f.Offset, f.Timestamp, f.Epoch}, ok, l.readError(err)
}

// MaxTimestampOffset returns the first record with the largest timestamp of the
// log (KIP-734), unless it is not below limit. A segment claims more than its
// records have where those are below the log start offset or compacted away;
// then the others that claim as much as was found are looked into too.
func (l *Log) MaxTimestampOffset(limit int64) (TimestampOffset, bool, error) {
	type claim struct {
		s       *segment.Segment
		largest int64
	}
	var claims []claim
	start := l.start.Load()
	for _, s := range l.list() {
		if s.Next() <= start {
			continue
		}
		largest, err := s.Largest()
		if err == segment.ErrClosed {
			continue // its records are gone
		}
		if err != nil {
			return TimestampOffset{}, false, l.readError(err)
		}
		if largest >= 0 {
			claims = append(claims, claim{s, largest})
		}
	}
	slices.SortStableFunc(claims, func(a, b claim) int { return cmp.Compare(b.largest, a.largest) })
	best := TimestampOffset{Timestamp: -1}
	for _, c := range claims {
		if c.largest < best.Timestamp || c.largest == best.Timestamp && c.s.Base() > best.Offset {
			continue
		}
		found, ok, err := l.findTime(c.s, c.largest, l.end.Load())
		if err == nil && !ok {
			found, ok, err = l.findMax(c.s)
		}
		if err != nil {
			return TimestampOffset{}, false, err
		}
		if ok && (found.Timestamp > best.Timestamp || found.Timestamp == best.Timestamp && found.Offset < best.Offset) {
			best = found
		}
	}
	return best, best.Timestamp >= 0 && best.Offset < limit, nil
}

func (l *Log) findMax(s *segment.Segment) (TimestampOffset, bool, error) {
	f, ok, err := s.FindMax(l.start.Load())
	if err == segment.ErrClosed && !l.closed.Load() {
		return TimestampOffset{}, false, nil
	}
	return TimestampOffset{f.Offset, f.Timestamp, f.Epoch}, ok, l.readError(err)
}

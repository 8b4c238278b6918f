package segment

import (
	"sort"

	"github.com/klamm-io/klamm/index"
)

const tailBatches = 32

// tail knows the last batches: where they are, so that reads at the end of the
// log touch no index, and what the indexes are to learn. They learn of the
// older half at once, so that of many logs an append touches few cache lines.
type tail struct {
	from    int64                   // offset from which on it knows all batches
	start   int64                   // byte at which the oldest begins
	count   int32                   // batches
	entered int32                   // of them the oldest, which the indexes have seen
	batches *[tailBatches]tailBatch // nil as long as there is none
}

// tailBatch is 16 bytes, so that four share a cache line.
type tailBatch struct {
	last, end uint32 // last offset less the segment's base; byte after the batch
	timestamp int64  // largest, in ms, -1 none
}

// position returns the byte at which batch i begins.
func (t *tail) position(i int32) int64 {
	if i == 0 {
		return t.start
	}
	return int64(t.batches[i-1].end)
}

// drop forgets the oldest n batches.
func (t *tail) drop(n int32, base int64) {
	t.from, t.start = base+int64(t.batches[n-1].last)+1, int64(t.batches[n-1].end)
	copy(t.batches[:], t.batches[n:t.count])
	t.count, t.entered = t.count-n, t.entered-n
}

// find returns the bytes of the first batch that ends at or after offset.
func (t *tail) find(offset, base int64) (pos, end int64, ok bool) {
	if t.batches == nil || offset < t.from {
		return 0, 0, false
	}
	i := int32(sort.Search(int(t.count), func(i int) bool { return base+int64(t.batches[i].last) >= offset }))
	if i == t.count {
		return 0, 0, false
	}
	return t.position(i), int64(t.batches[i].end), true
}

// publish lets readers see a batch that was written at the end.
func (s *Segment) publish(x *indexes, b Info) error {
	t := &s.tail
	if t.batches == nil {
		*t = tail{from: s.next, start: s.size, batches: new([tailBatches]tailBatch)}
		s.indexer.max = s.max
	}
	if t.count == tailBatches {
		if err := s.enter(x, tailBatches/2); err != nil {
			return err
		}
		t.drop(tailBatches/2, s.base)
	}
	s.size += int64(b.Size)
	s.next = b.Last + 1
	t.batches[t.count] = tailBatch{uint32(b.Last - s.base), uint32(s.size), b.MaxTimestamp}
	t.count++
	return nil
}

// enter puts into the indexes the batches of the tail before number n. The caller
// holds mu.
func (s *Segment) enter(x *indexes, n int32) error {
	t := &s.tail
	for ; t.entered < n; t.entered++ {
		b := t.batches[t.entered]
		pos := t.position(t.entered)
		if err := s.indexer.add(x, s.base+int64(b.last), b.timestamp, pos, int(int64(b.end)-pos)); err != nil {
			return err
		}
	}
	s.entries.Store(x.entries())
	s.spill = true
	return nil
}

// enterAll puts into the indexes all that they lack.
func (s *Segment) enterAll(x *indexes) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.enter(x, s.tail.count)
}

// indexer decides which batches get an index entry: those before which enough
// bytes went by since the last one (LogSegment.append).
type indexer struct {
	interval int             // bytes of batches between entries
	since    int             // bytes since the last entry
	max      index.TimeEntry // largest timestamp and the last offset of its batch
}

// add puts the batch at pos into the indexes.
func (i *indexer) add(x *indexes, last, timestamp, pos int64, size int) error {
	if timestamp > i.max.Timestamp {
		i.max = index.TimeEntry{Timestamp: timestamp, Offset: last}
	}
	if i.since > i.interval {
		if err := x.offsets.Append(last, pos); err != nil {
			return err
		}
		if err := x.times.Append(i.max); err != nil {
			return err
		}
		i.since = 0
	}
	i.since += size
	return nil
}

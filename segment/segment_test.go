package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func batch(t testing.TB, base int64, size int, ts ...int64) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.None, 0)
	for _, x := range ts {
		b.Append(x, nil, make([]byte, size), nil)
	}
	out, err := b.Finish(record.NoProducer)
	must(t, err)
	record.Batch(out).SetBaseOffset(base)
	return out
}

func create(t testing.TB, fs vfs.FS, base int64, interval int) (*Segment, Options) {
	t.Helper()
	o := Options{FS: fs, Dir: "/p", Base: base, IndexInterval: interval, Created: time.UnixMilli(5)}
	must(t, fs.MkdirAll("/p", 0o755))
	return Create(o), o
}

// Index entries follow Kafka's rule: before a batch that comes after more than
// interval bytes since the last entry, its last offset and position, and the
// largest timestamp so far if it grew; on closing, the final largest timestamp.
// Several batches in one write count one by one.
func TestIndexRule(t *testing.T) {
	m := vfs.NewMem()
	interval := 2 * len(batch(t, 100, 20, 1, 1)) // two batches are not more than that
	s, o := create(t, m, 100, interval)
	stamps := []int64{10, 30, 20, 20, 40, 40, 35, 50, 1}
	var all []byte
	var offsets []index.OffsetEntry
	var times []index.TimeEntry
	pos, since := int64(0), 0
	best := index.TimeEntry{Timestamp: -1}
	for i, ts := range stamps {
		b := batch(t, 100+int64(2*i), 20, ts, ts)
		last := b.LastOffset()
		if ts > best.Timestamp {
			best = index.TimeEntry{Timestamp: ts, Offset: last}
		}
		if since > interval {
			offsets = append(offsets, index.OffsetEntry{Offset: last, Position: pos})
			if len(times) == 0 || best.Timestamp > times[len(times)-1].Timestamp {
				times = append(times, best)
			}
			since = 0
		}
		since += len(b)
		pos += int64(len(b))
		if i < 4 {
			must(t, s.Append(b))
		} else {
			all = append(all, b...)
		}
	}
	must(t, s.Append(all))
	times = append(times, best)
	compare := func(what string, s *Segment) {
		t.Helper()
		var gotO []index.OffsetEntry
		var gotT []index.TimeEntry
		x, err := s.indexes()
		must(t, err)
		for i := range x.offsets.Len() {
			e, err := x.offsets.Entry(i)
			must(t, err)
			gotO = append(gotO, e)
		}
		for i := range x.times.Len() {
			e, err := x.times.Entry(i)
			must(t, err)
			gotT = append(gotT, e)
		}
		if fmt.Sprint(gotO) != fmt.Sprint(offsets) || fmt.Sprint(gotT) != fmt.Sprint(times) {
			t.Errorf("%s:\n got %v %v\nwant %v %v", what, gotO, gotT, offsets, times)
		}
	}
	must(t, s.Close())
	s, err := Open(o)
	must(t, err)
	if s.Next() != 118 || s.Size() != pos {
		t.Errorf("opened: next %d, size %d", s.Next(), s.Size())
	}
	compare("opened", s)
	must(t, s.Close())
	s, err = OpenToRecover(o)
	must(t, err)
	cut, err := s.Recover(104, nil) // of the first two batches only the headers count
	if cut != 0 || err != nil || s.Next() != 118 {
		t.Errorf("recovered: cut %d, next %d, %v", cut, s.Next(), err)
	}
	compare("recovered", s)
	must(t, s.Close())
	must(t, m.Remove(s.name(IndexSuffix)))
	s, err = Open(o)
	must(t, err)
	compare("reindexed", s)
	must(t, s.Close())
}

// The indexes learn late of what is appended, but of the same as one that reads
// the batches would find, and no reader can tell.
func TestIndexesAreThoseOfTheBatches(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 20 {
		m := vfs.NewMem()
		s, o := create(t, m, 100, r.IntN(1000))
		next, pos, positions := int64(100), int64(0), map[int64]int64{}
		truncated, completed := false, false
		for range 1 + r.IntN(40) {
			var all []byte
			for range 1 + r.IntN(r.IntN(90)+1) {
				b := batch(t, next, r.IntN(300), r.Int64N(1000), r.Int64N(1000))
				positions[next], positions[next+1] = pos, pos
				next, pos, all = next+2, pos+int64(len(b)), append(all, b...)
			}
			must(t, s.Append(all))
			if got := s.IndexFull(1000); got != (s.index.Load().offsets.Len() >= 125 || s.index.Load().times.Len() >= 82) {
				t.Fatalf("index full: %v", got)
			}
			switch r.IntN(20) {
			case 0:
				must(t, s.Complete()) // an entry in the time index that the rule does not ask for
				completed = true
			case 1:
				cut := 100 + r.Int64N((next-100)/2+1)*2
				if next > cut {
					pos = positions[cut]
				}
				next, truncated = cut, true
				_, err := s.Truncate(cut)
				must(t, err)
			}
			for at := int64(100); at < next; at++ {
				if got, err := s.Position(at); err != nil || got != positions[at] {
					t.Fatalf("offset %d of %d is at byte %d, want %d, %v", at, next, got, positions[at], err)
				}
			}
		}
		must(t, s.Seal())
		must(t, s.Close())
		entries := func(s *Segment) (e []int64) {
			x, err := s.indexes()
			must(t, err)
			for i := range x.offsets.Len() {
				entry, err := x.offsets.Entry(i)
				must(t, err)
				if want := positions[entry.Offset]; entry.Position != want {
					t.Fatalf("entry %+v, want byte %d", entry, want)
				}
				e = append(e, entry.Offset)
			}
			for i := 0; i < x.times.Len() && !completed; i++ {
				entry, err := x.times.Entry(i)
				must(t, err)
				e = append(e, entry.Timestamp, entry.Offset)
			}
			return e
		}
		s, err := Open(o)
		must(t, err)
		was := entries(s)
		must(t, s.Close())
		must(t, m.Remove(FileName("/p", 100, IndexSuffix)))
		s, err = Open(o)
		must(t, err)
		now := entries(s)
		must(t, s.Close())
		if !truncated && !slices.Equal(was, now) { // a cut begins to count bytes anew
			t.Fatalf("index entries as appended %v\nand of the batches %v", was, now)
		}
	}
}

// After truncation the largest timestamp is that of the batches left, even where
// the index knows less.
func TestTruncateFindsLargestTimestamp(t *testing.T) {
	s, _ := create(t, vfs.NewMem(), 0, 1<<20)
	for i, ts := range []int64{5, 90, 20, 100} {
		must(t, s.Append(batch(t, int64(i), 10, ts)))
	}
	if end, err := s.Truncate(3); err != nil || end != 3 {
		t.Fatal(end, err)
	}
	if e, err := s.MaxTimestamp(); err != nil || e.Timestamp != 90 || e.Offset != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	if ts, err := s.Largest(); ts != 90 || err != nil {
		t.Errorf("for readers: %d, %v", ts, err)
	}
	must(t, s.Append(batch(t, 3, 10, 91)))
	if e, _ := s.MaxTimestamp(); e.Timestamp != 91 || s.Next() != 4 {
		t.Errorf("after appending: %+v, next %d", e, s.Next())
	}
	if end, err := s.Truncate(0); err != nil || end != 0 {
		t.Fatal(end, err)
	}
	if e, _ := s.MaxTimestamp(); e.Timestamp != -1 || s.Size() != 0 || s.Next() != 0 {
		t.Errorf("emptied: %+v, size %d, next %d", e, s.Size(), s.Next())
	}
}

func TestDamageIsNotCut(t *testing.T) {
	m := vfs.NewMem()
	s, o := create(t, m, 0, 4096)
	var at []int64
	for i := range int64(3) {
		at = append(at, s.Size())
		must(t, s.Append(batch(t, i, 100, 5)))
	}
	size := s.Size()
	must(t, s.Close())
	f, err := m.OpenFile(s.name(LogSuffix), 2, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("damage"), at[1]+70)
	must(t, err)
	s, err = OpenToRecover(o)
	must(t, err)
	_, err = s.Recover(0, nil)
	var d *DamagedError
	if !errors.As(err, &d) || d.Pos != at[1] || d.Valid != at[2] || !errors.Is(err, record.ErrCorrupt) {
		t.Fatalf("%v", err)
	}
	if now, _ := f.Size(); now != size {
		t.Errorf("%d bytes left of %d", now, size)
	}
	s.Abandon()
	// A length that leads nowhere hides the next batch from a plain scan, not
	// from the search.
	_, err = f.WriteAt([]byte{0x7f}, at[1]+8)
	must(t, err)
	s, err = OpenToRecover(o)
	must(t, err)
	if _, err = s.Recover(0, nil); !errors.As(err, &d) || d.Valid != at[2] {
		t.Errorf("wrong length: %v", err)
	}
	s.Abandon()
}

// Every offset is found, near the end and far from it, with and without indexes
// in memory.
func TestLocate(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	m := vfs.NewMem()
	s, o := create(t, m, 1000, 500)
	type span struct{ base, last, pos, end int64 }
	var spans []span
	next := int64(1000)
	for range 300 {
		next += r.Int64N(3) // gaps, as compaction leaves them
		b := batch(t, next, r.IntN(300), make([]int64, 1+r.IntN(4))...)
		spans = append(spans, span{next, b.LastOffset(), s.Size(), s.Size() + int64(len(b))})
		must(t, s.Append(b))
		next = b.LastOffset() + 1
	}
	for _, reopened := range []bool{false, true} {
		if reopened {
			must(t, s.Close())
			var err error
			s, err = Open(o)
			must(t, err)
		}
		i := 0
		for offset := int64(1000); offset < next; offset++ {
			for spans[i].last < offset {
				i++
			}
			pos, end, err := s.locate(offset)
			if pos != spans[i].pos || end != spans[i].end || err != nil {
				t.Fatalf("reopened %t: offset %d: [%d, %d) %v, want %+v", reopened, offset, pos, end, err, spans[i])
			}
		}
		if pos, end, err := s.locate(next); pos != s.Size() || end != pos || err != nil {
			t.Errorf("the end: %d, %d, %v", pos, end, err)
		}
	}
}

func TestRegionOutlivesItsSegment(t *testing.T) {
	m := vfs.NewMem()
	s, _ := create(t, m, 0, 4096)
	must(t, s.Append(batch(t, 0, 100, 5)))
	r, _, err := s.Read(0, 1, 1<<20, false)
	must(t, err)
	must(t, s.Delete())
	second, _, err := s.Read(0, 1, 1<<20, false) // by one who found the segment before
	must(t, err)
	second.Release()
	b, err := r.Bytes()
	must(t, err)
	must(t, record.Batch(b).Validate())
	r.Release()
	if names, _ := m.List("/p"); len(names) != 0 {
		t.Errorf("left %v", names)
	}
	if _, _, err := s.Read(0, 1, 1<<20, false); err != ErrClosed {
		t.Errorf("read after the last release: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("releasing twice does not panic")
		}
	}()
	r.Release()
}

// Arbitrary bytes as the files of a segment: nothing panics, and what is read are
// whole batches in order.
func FuzzSegment(f *testing.F) {
	one := batch(f, 0, 20, 5, 6)
	two := batch(f, 2, 20, 7)
	f.Add(append(append([]byte(nil), one...), two...), []byte{0, 0, 0, 1, 0, 0, 0, 0}, []byte{0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 1}, int64(1))
	f.Add([]byte(one[:40]), []byte{}, []byte{}, int64(0))
	f.Fuzz(func(t *testing.T, data, offsets, times []byte, at int64) {
		m := vfs.NewMem()
		o := Options{FS: m, Dir: "/p", IndexInterval: 50}
		must(t, m.MkdirAll("/p", 0o755))
		for suffix, b := range map[string][]byte{LogSuffix: data, IndexSuffix: offsets, TimeSuffix: times} {
			must(t, vfs.WriteFileAtomic(m, FileName("/p", 0, suffix), b))
		}
		s, err := Open(o)
		if err == nil {
			if r, _, err := s.Read(at, s.Next(), 1000, true); err == nil {
				if _, err := r.Bytes(); err != nil {
					t.Errorf("a region that cannot be read: %v", err)
				}
				r.Release()
			}
			s.FindTime(at, 0, s.Next())
			s.Largest()
			s.FirstTimestamp()
			s.Visit(at, func(record.Batch) error { return nil })
			must(t, s.Close())
		}
		s, err = OpenToRecover(o)
		must(t, err)
		if _, err := s.Recover(0, nil); err != nil {
			s.Abandon()
			return
		}
		next, size := s.Next(), s.Size()
		must(t, s.Close())
		s, err = Open(o)
		if err != nil || s.Next() != next || s.Size() != size {
			t.Fatalf("recovered to %d at %d bytes, opened as %+v: %v", next, size, s, err)
		}
		must(t, s.Close())
	})
}

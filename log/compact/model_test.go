package compact

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/wire/record"
)

const retention = 1000 // ms, of tombstones and markers

// fact is one record as it was appended.
type fact struct {
	offset, timestamp int64
	key, value        []byte
	headers           int
	id                int64 // of the producer; -1 none
	transactional     bool
	control           bool
	aborted           bool // decided so
	open              bool // not decided
}

// sim is a partition that grows and is compacted at random, next to a list of
// all that was appended to it.
type sim struct {
	*rand.Rand
	t          *testing.T
	now        int64
	segments   [][]record.Batch // the last is active
	bases      []int64
	end        int64
	all        []*fact
	aborted    []index.AbortedTxn // what the transaction indexes list
	open       map[int64]int64    // first offset of the transaction of a producer
	last       map[int64]LastRecord
	lastBatch  map[int64]record.Batch
	sequence   map[int64]int32
	firstDirty int64
	keys       int // that it chooses from
	full       int // rounds that ended because of that

	horizon map[int64]int64 // earliest time at which a tombstone or marker may go, by offset
}

func newSim(t *testing.T, seed uint64) *sim {
	return &sim{
		Rand: rand.New(rand.NewPCG(seed, 7)), t: t, now: 1_000_000,
		segments: [][]record.Batch{nil}, bases: []int64{0}, firstDirty: -1,
		open: make(map[int64]int64), last: make(map[int64]LastRecord), lastBatch: make(map[int64]record.Batch),
		sequence: make(map[int64]int32), horizon: make(map[int64]int64), keys: 25,
	}
}

func (s *sim) put(b record.Batch) {
	if last := len(s.segments) - 1; s.IntN(6) == 0 && len(s.segments[last]) > 0 {
		s.segments, s.bases = append(s.segments, nil), append(s.bases, s.end)
	}
	b.SetBaseOffset(s.end)
	b.SetLeaderEpoch(int32(s.end / 50))
	s.segments[len(s.segments)-1] = append(s.segments[len(s.segments)-1], b)
	s.end = b.LastOffset() + 1
}

// append adds a batch of records, or a marker that ends a transaction.
func (s *sim) append() {
	s.now += s.Int64N(200)
	id := s.Int64N(6) // 0-1 without one, 2-3 idempotent, 4-5 transactional
	if first, ok := s.open[id]; ok && s.IntN(3) == 0 {
		s.decide(id, first, s.IntN(2) == 0)
		return
	}
	codec := codecs[max(0, s.IntN(20)-15)]
	bld := record.NewBuilder(codec, codec.DefaultLevel())
	var facts []*fact
	for range 1 + s.IntN(8) {
		f := &fact{offset: s.end + int64(len(facts)), timestamp: s.now - s.Int64N(100), id: id, transactional: id >= 4, open: id >= 4}
		f.key = fmt.Appendf(nil, "key-%0*d", s.keys/20, s.IntN(s.keys))
		if s.IntN(40) == 0 {
			f.key = nil
		}
		if s.IntN(5) > 0 {
			f.value = bytes.Repeat([]byte{byte(s.IntN(256))}, s.IntN(40))
		}
		f.headers = s.IntN(3)
		headers := []record.Header{{Key: "a"}, {Key: "b", Value: []byte("x")}}
		bld.Append(f.timestamp, f.key, f.value, headers[:f.headers])
		facts = append(facts, f)
	}
	p := record.NoProducer
	if id >= 2 {
		p = record.Producer{ID: id, Sequence: s.sequence[id], Transactional: id >= 4}
		s.sequence[id] += int32(len(facts))
	}
	out, err := bld.Finish(p)
	if err != nil {
		s.t.Fatal(err)
	}
	b := record.Batch(bytes.Clone(out))
	if s.IntN(4) == 0 {
		b.SetLogAppendTime(s.now)
		for _, f := range facts {
			f.timestamp = s.now
		}
	}
	if first, ok := s.open[id]; id >= 4 && (!ok || first > s.end) {
		s.open[id] = s.end
	}
	s.put(b)
	s.all = append(s.all, facts...)
	if id >= 2 {
		s.last[id], s.lastBatch[id] = LastRecord{DataOffset: b.LastOffset()}, b
	}
}

func (s *sim) decide(id, first int64, commit bool) {
	for _, f := range s.all {
		if f.id == id && f.open {
			f.open, f.aborted = false, !commit
		}
	}
	delete(s.open, id)
	if !commit {
		s.aborted = append(s.aborted, index.AbortedTxn{ProducerID: id, FirstOffset: first, LastOffset: s.end, LastStableOffset: s.stable()})
	}
	s.all = append(s.all, &fact{offset: s.end, id: id, control: true, aborted: !commit})
	s.put(record.BuildEndTxn(nil, commit, id, 0, 0, s.now))
}

func (s *sim) stable() int64 {
	stable := s.end
	for _, first := range s.open {
		stable = min(stable, first)
	}
	return stable
}

func (s *sim) measure() Dirtiness {
	facts := Facts{LogEnd: s.end, FirstDirty: s.firstDirty, LastStable: s.stable(), Now: s.now, MaxLag: math.MaxInt64}
	for i, seg := range s.segments {
		m := Segment{Base: s.bases[i]}
		for _, b := range seg {
			m.Size += int64(len(b))
			m.LastTimestamp = max(m.LastTimestamp, b.MaxTimestamp())
		}
		if len(seg) > 0 {
			m.FirstTimestamp = seg[0].MaxTimestamp()
		}
		facts.Segments = append(facts.Segments, m)
	}
	return Measure(facts)
}

// round compacts like a driver: it returns the bytes of the cleaned part.
func (s *sim) round(m *Map) (cleaned []byte, latest int64) {
	d := s.measure()
	if d.FirstDirty >= d.FirstUncleanable {
		d.FirstUncleanable = d.FirstDirty // clean again what is clean
	}
	x := NewIndexer(m, NewTxns(s.aborted), d.FirstDirty, d.FirstUncleanable, 0)
	for i, seg := range s.segments {
		if i+1 < len(s.segments) && s.bases[i+1] <= d.FirstDirty || s.bases[i] >= d.FirstUncleanable {
			continue
		}
		full := false
		for _, b := range seg {
			var err error
			if full, err = x.Batch(b); err != nil {
				s.t.Fatal(err)
			}
			if full {
				break
			}
		}
		if full {
			s.full++
			break
		}
		if i+1 < len(s.segments) {
			x.Passed(s.bases[i+1])
		}
	}
	latest = x.Latest()
	if latest < d.FirstDirty && d.FirstDirty < d.FirstUncleanable {
		s.t.Fatalf("no progress from %d to %d", d.FirstDirty, d.FirstUncleanable)
	}
	s.noteHorizons(latest)
	txns := NewTxns(s.aborted)
	f := NewFilter(Round{Map: m, Latest: latest, End: d.FirstUncleanable, Now: s.now, DeleteRetention: retention, Producers: s.last}, txns)
	n := 0
	for ; n < len(s.segments)-1 && s.bases[n] <= latest; n++ {
		var out []record.Batch
		for _, b := range s.segments[n] {
			kept, _, err := f.Batch(b)
			if err != nil {
				s.t.Fatal(err)
			}
			checkHeader(s.t, b, kept)
			if kept != nil {
				out = append(out, bytes.Clone(kept))
				cleaned = append(cleaned, kept...)
			}
		}
		s.segments[n] = out
	}
	kept := txns.TakeKept()
	for _, a := range s.aborted {
		if a.LastOffset >= s.bases[n] {
			kept = append(kept, a)
		}
	}
	s.aborted, s.firstDirty = kept, latest+1
	return cleaned, latest
}

// noteHorizons notes from when on each tombstone may go: retention after it is
// first in a round. A marker may not go before that either.
func (s *sim) noteHorizons(latest int64) {
	for _, f := range s.all {
		if _, ok := s.horizon[f.offset]; !ok && f.offset <= latest && (f.control || f.value == nil) {
			s.horizon[f.offset] = s.now + retention
		}
	}
}

// check compares the log with what was appended, given the last offset that a
// round has covered.
func (s *sim) check(latest int64) {
	want := make(map[string]int64) // last live offset of each key up to latest
	for _, f := range s.all {
		if f.offset <= latest && !f.aborted && !f.control && f.key != nil {
			want[string(f.key)] = f.offset
		}
	}
	seen := s.read()
	for _, f := range s.all {
		got, ok := seen[f.offset]
		old := f.offset <= latest
		expired := s.horizon[f.offset] != 0 && s.horizon[f.offset] <= s.now
		switch {
		case f.control:
			if !ok && !expired {
				s.t.Fatalf("marker at %d is gone at %d, horizon %d", f.offset, s.now, s.horizon[f.offset])
			}
			continue
		case ok && got.aborted != f.aborted:
			s.t.Fatalf("record at %d reads as aborted: %v, is: %v", f.offset, got.aborted, f.aborted)
		case f.aborted:
			if ok && old {
				s.t.Fatalf("aborted record at %d is there below %d", f.offset, latest)
			}
		case !old:
			if !ok {
				s.t.Fatalf("record at %d is gone above %d", f.offset, latest)
			}
		case f.key == nil || want[string(f.key)] != f.offset:
			if ok {
				s.t.Fatalf("record at %d, key %s is there, the last is at %d", f.offset, f.key, want[string(f.key)])
			}
		case f.value != nil:
			if !ok {
				s.t.Fatalf("last record of %s at %d is gone", f.key, f.offset)
			}
		case !ok && !expired:
			s.t.Fatalf("tombstone at %d is gone at %d, horizon %d", f.offset, s.now, s.horizon[f.offset])
		}
		if ok && (got.timestamp != f.timestamp || !bytes.Equal(got.key, f.key) || !bytes.Equal(got.value, f.value) ||
			(got.value == nil) != (f.value == nil) || got.headers != f.headers || got.id >= 0 && got.id != f.id) {
			s.t.Fatalf("record at %d is %+v, was %+v", f.offset, got, f)
		}
	}
	s.checkProducers()
}

// read reads the log as a read_committed client does, with the aborted
// transactions that the indexes list.
func (s *sim) read() map[int64]*fact {
	seen := make(map[int64]*fact)
	pending := slices.Clone(s.aborted)
	slices.SortFunc(pending, func(a, b index.AbortedTxn) int { return int(a.FirstOffset - b.FirstOffset) })
	aborted := make(map[int64]bool)
	next := int64(0)
	for i, seg := range s.segments {
		if s.bases[i] < next {
			s.t.Fatalf("segment of base offset %d after %d", s.bases[i], next-1)
		}
		for _, b := range seg {
			if err := b.Validate(); err != nil || b.BaseOffset() < next {
				s.t.Fatalf("batch at %d after %d: %v", b.BaseOffset(), next-1, err)
			}
			next = b.LastOffset() + 1
			for len(pending) > 0 && pending[0].FirstOffset <= b.LastOffset() {
				aborted[pending[0].ProducerID] = true
				pending = pending[1:]
			}
			if b.Attributes().Control() {
				if b.Count() == 0 {
					continue
				}
				c, err := record.ParseControl(b)
				if err != nil {
					s.t.Fatal(err)
				}
				if c.Type == record.ControlAbort {
					delete(aborted, c.ProducerID)
				}
				seen[b.BaseOffset()] = &fact{control: true}
				continue
			}
			it := b.Iterate(0)
			for it.Next() {
				r := it.Record()
				seen[it.Offset()] = &fact{
					offset: it.Offset(), timestamp: it.Timestamp(), id: b.ProducerID(), headers: len(r.Headers),
					key: bytes.Clone(r.Key), value: bytes.Clone(r.Value),
					aborted: b.Attributes().Transactional() && aborted[b.ProducerID()],
				}
			}
			if it.Err() != nil {
				s.t.Fatal(it.Err())
			}
			it.Close()
		}
	}
	return seen
}

func (s *sim) checkProducers() {
	found := make(map[int64]record.Batch)
	for _, seg := range s.segments {
		for _, b := range seg {
			if b.ProducerID() >= 0 && !b.Attributes().Control() {
				found[b.ProducerID()] = b
			}
		}
	}
	for id, want := range s.lastBatch {
		got := found[id]
		if got == nil || got.LastSequence() != want.LastSequence() || got.ProducerEpoch() != want.ProducerEpoch() || got.LastOffset() != want.LastOffset() {
			s.t.Fatalf("last batch of producer %d: %v, want offset %d, sequence %d", id, got, want.LastOffset(), want.LastSequence())
		}
	}
}

func TestCompactionKeepsTheLastOfEachKey(t *testing.T) {
	full := 0
	for seed := range uint64(20) {
		s := newSim(t, seed)
		budget, batches := 1<<20, 50
		if seed%5 == 0 { // more keys than fit in the map
			s.keys, budget, batches = 900, MinBudget, 120
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s.t = t
			m := NewMap(budget)
			for range 5 + s.IntN(6) {
				for range batches/2 + s.IntN(batches) {
					s.append()
				}
				s.now += s.Int64N(2 * retention)
				_, latest := s.round(m)
				s.check(latest)
				if s.IntN(2) == 0 {
					s.roundsEnd(m)
				}
			}
		})
		full += s.full
	}
	if full < 20 {
		t.Errorf("only %d rounds found the map full", full)
	}
}

// roundsEnd runs rounds until nothing is dirty. Without time passing, nothing
// changes after two more: the first takes data, the second makes markers wait
// that have none left, and perhaps drops headers that were kept as the last of
// the first.
func (s *sim) roundsEnd(m *Map) {
	for d := s.measure(); d.FirstDirty < d.FirstUncleanable; d = s.measure() {
		_, latest := s.round(m)
		s.check(latest)
	}
	s.round(m)
	s.round(m)
	before, aborted := s.round(m)
	after, again := s.round(m)
	if !bytes.Equal(before, after) || aborted != again {
		s.t.Fatalf("a round with nothing new changed %d bytes into %d", len(before), len(after))
	}
	s.check(again)
	if s.IntN(3) > 0 {
		return
	}
	s.now += retention
	for range 4 {
		s.round(m)
	}
	s.now += retention
	_, latest := s.round(m)
	s.check(latest)
	s.checkGone(latest)
}

// checkGone checks that no tombstone and no marker without data is left after
// its time.
func (s *sim) checkGone(latest int64) {
	data := make(map[int64]bool)
	for _, seg := range s.segments {
		for _, b := range seg {
			if !b.Attributes().Control() {
				data[b.ProducerID()] = true
			} else if b.LastOffset() <= latest && !data[b.ProducerID()] && b.Count() > 0 {
				s.t.Fatalf("marker at %d without data is there at %d, horizon %d", b.BaseOffset(), s.now, b.BaseTimestamp())
			} else {
				data[b.ProducerID()] = false
			}
		}
	}
	for _, f := range s.read() {
		if f.offset <= latest && !f.control && f.value == nil {
			s.t.Fatalf("tombstone at %d is there at %d, horizon was %d", f.offset, s.now, s.horizon[f.offset])
		}
	}
}

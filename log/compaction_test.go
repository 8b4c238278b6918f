package log

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/log/compact"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/record"
)

// compactOnce does a round at a time in ms.
func compactOnce(t testing.TB, l *Log, firstDirty, at int64) CompactResult {
	t.Helper()
	l.SetHighWatermark(l.EndOffset())
	r, err := l.Compact(CompactOptions{Map: compact.NewMap(1 << 20), FirstDirty: firstDirty, Now: time.UnixMilli(at)})
	check(t, err)
	return r
}

func keyed(t testing.TB, seq int32, recs ...rec) []byte {
	return batch(t, record.None, record.Producer{ID: 5, Sequence: seq}, recs...)
}

// A producer's last batch is on disk before the one before it goes: after a power
// cut the sequence numbers are known still.
func TestCompactKeepsSequences(t *testing.T) {
	m := newMem(t)
	o := options(m)
	o.Config = Config{Compact: true}
	l := open(t, o)
	appendTo(t, l, keyed(t, 0, rec{t0, "a", "1"}, rec{t0, "a", "2"}))
	appendTo(t, l, batch(t, record.None, record.NoProducer, rec{t0, "a", "3"}))
	check(t, l.Roll())
	appendTo(t, l, keyed(t, 2, rec{t0, "b", "active"}))
	compactOnce(t, l, -1, t0)
	after := options(m.CrashClone(vfs.CrashPolicy{}))
	after.Config, after.RecoveryPoint, after.Sparse = o.Config, l.RecoveryPoint(), true
	names, err := after.FS.List(after.Dir)
	check(t, err)
	for _, name := range names { // a snapshot may be torn
		if path.Ext(name) == segment.SnapshotSuffix {
			check(t, after.FS.Remove(path.Join(after.Dir, name)))
		}
	}
	check(t, l.Close())
	l = open(t, after)
	if i := appendTo(t, l, keyed(t, 2, rec{t0, "b", "active"})); !i.Duplicate || i.BaseOffset != 3 {
		t.Errorf("the last batch, repeated, is answered with %+v", i)
	}
	check(t, l.Close())
}

// The last value of each key stays at its offset, older ones go, the active
// segment is left alone, and the sequence numbers of producers are still known.
func TestCompact(t *testing.T) {
	o := options(newMem(t))
	o.Config = Config{Compact: true, DeleteRetention: time.Minute}
	l := open(t, o)
	for i := range int32(4) {
		appendTo(t, l, keyed(t, 2*i, rec{t0, "a", fmt.Sprint("a", i)}, rec{t0, fmt.Sprint("k", i), "v"}))
		check(t, l.Roll())
	}
	appendTo(t, l, keyed(t, 8, rec{t0, "k1", ""})) // not null: a value like any other
	check(t, l.Roll())
	appendTo(t, l, keyed(t, 9, rec{t0, "a", "active"}))
	r := compactOnce(t, l, -1, t0)
	if r.Next != 9 || r.Segments != 5 {
		t.Errorf("%+v", r)
	}
	const want = "[1:v 5:v 6:a3 7:v 8: 9:active]"
	if got := fmt.Sprint(values(t, l, 0, 1000)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if n := len(l.list()); n != 2 {
		t.Errorf("%d segments, want the small ones merged and the active one", n)
	}
	if again := compactOnce(t, l, r.Next, t0); again.Next != r.Next || again.Segments != 0 {
		t.Errorf("a round with nothing new: %+v", again)
	}
	for _, clean := range []bool{true, false} {
		check(t, l.Close())
		o := *l.o
		o.CleanShutdown, o.Sparse = clean, true
		l = open(t, o)
		if got := fmt.Sprint(values(t, l, 0, 1000)); got != want {
			t.Errorf("opened again, clean %t: %s, want %s", clean, got, want)
		}
	}
	if i, err := l.Append(keyed(t, 9, rec{t0, "a", "active"}), AppendOptions{}); err != nil || !i.Duplicate || i.BaseOffset != 9 {
		t.Errorf("a repetition after compaction: %+v, %v", i, err)
	}
	appendTo(t, l, keyed(t, 10, rec{t0, "x", "y"}))
	for _, at := range []int64{2, 3, 4, 5} { // from inside the gaps
		if got := fmt.Sprint(values(t, l, at, 10)); got != "[5:v 6:a3 7:v 8: 9:active 10:y]" {
			t.Errorf("from offset %d: %s", at, got)
		}
	}
}

// A round goes no further than the last stable offset and than what is old
// enough, and a batch that was emptied stays for the sake of the offsets.
func TestCompactKnowsItsBounds(t *testing.T) {
	o := options(newMem(t))
	o.Config = Config{Compact: true, MinCompactionLag: time.Minute, TimestampAfterMax: 1 << 60}
	l := open(t, o)
	for i := range int64(4) {
		appendTo(t, l, batch(t, record.None, record.NoProducer, rec{t0 + i*60_000, "k", fmt.Sprint(i)}))
		check(t, l.Roll())
	}
	if r := compactOnce(t, l, -1, t0+60_000); r.Next != 1 {
		t.Errorf("with a lag: next %d", r.Next)
	}
	l.SetConfig(Config{Compact: true, TimestampAfterMax: 1 << 60})
	l.highWatermark.Store(3)
	r, err := l.Compact(CompactOptions{Map: compact.NewMap(1 << 20), FirstDirty: -1, Now: time.UnixMilli(t0)})
	check(t, err)
	if r.Next != 3 {
		t.Errorf("below the high watermark: next %d", r.Next)
	}
	if got := fmt.Sprint(values(t, l, 0, 1000)); got != "[2:2 3:3]" {
		t.Errorf("left %s", got)
	}
}

// A map that is too small for all keys takes several rounds.
func TestCompactInSeveralRounds(t *testing.T) {
	o := options(newMem(t))
	o.Config = Config{Compact: true, SegmentBytes: 20_000}
	l := open(t, o)
	const keys = 3000
	for round := range 3 {
		for k := 0; k < keys; k += 50 {
			var recs []rec
			for i := range 50 {
				recs = append(recs, rec{t0, fmt.Sprint("key number ", k+i), fmt.Sprint(round)})
			}
			appendTo(t, l, batch(t, record.None, record.NoProducer, recs...))
		}
	}
	check(t, l.Roll())
	l.SetHighWatermark(l.EndOffset())
	m := compact.NewMap(compact.MinBudget)
	rounds, next := 0, int64(-1)
	for next < l.EndOffset() {
		r, err := l.Compact(CompactOptions{Map: m, FirstDirty: next, Now: time.UnixMilli(t0)})
		check(t, err)
		if r.Next <= next {
			t.Fatalf("round %d got from %d to %d", rounds, next, r.Next)
		}
		next = r.Next
		rounds++
	}
	if rounds < 3 || m.Bytes() > compact.MinBudget {
		t.Errorf("%d rounds with %d bytes", rounds, m.Bytes())
	}
	got := values(t, l, 0, 1<<20)
	if len(got) != keys || slices.ContainsFunc(got, func(v string) bool { return !strings.HasSuffix(v, ":2") }) {
		t.Errorf("%d records left: %.200v", len(got), got)
	}
}

// A round ends when its caller does not want it any more, or the log is cut
// under it, and leaves the log as it is.
func TestCompactGivesUp(t *testing.T) {
	o := options(newMem(t))
	o.Config = Config{Compact: true}
	l := open(t, o)
	for range 3 {
		appendTo(t, l, batch(t, record.None, record.NoProducer, rec{t0, "k", "v"}))
		check(t, l.Roll())
	}
	l.SetHighWatermark(3)
	stop := errors.New("stop")
	calls := 0
	_, err := l.Compact(CompactOptions{Map: compact.NewMap(1 << 20), FirstDirty: -1, Now: time.UnixMilli(t0), Throttle: func(int) error {
		if calls++; calls == 5 {
			return stop
		}
		return nil
	}})
	if !errors.Is(err, stop) || l.Err() != nil {
		t.Errorf("%v, latched %v", err, l.Err())
	}
	calls = 0
	_, err = l.Compact(CompactOptions{Map: compact.NewMap(1 << 20), FirstDirty: -1, Now: time.UnixMilli(t0), Throttle: func(int) error {
		if calls++; calls == 6 {
			check(t, l.TruncateTo(1))
		}
		return nil
	}})
	if !errors.Is(err, ErrReplaced) || l.Err() != nil || l.EndOffset() != 1 {
		t.Errorf("%v, latched %v, log end %d", err, l.Err(), l.EndOffset())
	}
	if got := fmt.Sprint(values(t, l, 0, 1000)); got != "[0:v]" {
		t.Errorf("left %s", got)
	}
	names, err := o.FS.List(o.Dir)
	check(t, err)
	for _, n := range names {
		if strings.HasSuffix(n, segment.CleanedSuffix) || strings.HasSuffix(n, segment.SwapSuffix) {
			t.Errorf("left %s", n)
		}
	}
}

// view is what a read_committed consumer sees of a log: "offset:key=value".
func view(t testing.TB, l *Log) []string {
	var out []string
	offset := l.StartOffset()
	for limit := l.LastStableOffset(); offset < limit; {
		c, aborted, err := l.ReadCommitted(offset, limit, 4000, true)
		var outside *OutOfRangeError
		if errors.As(err, &outside) {
			offset = outside.Start
			continue
		}
		check(t, err)
		b, err := c.Bytes()
		check(t, err)
		c.Release()
		if len(b) == 0 {
			return out
		}
		out, offset = committed(t, out, b, aborted, offset)
	}
	return out
}

// committed is what a consumer makes of fetched batches and the list of aborted
// transactions that came with them.
func committed(t testing.TB, out []string, b []byte, aborted []index.AbortedTxn, offset int64) ([]string, int64) {
	slices.SortFunc(aborted, func(a, b index.AbortedTxn) int { return int(a.FirstOffset - b.FirstOffset) })
	open := make(map[int64]bool)
	for {
		batch, rest, err := record.Next(b)
		if batch == nil || err != nil {
			return out, offset
		}
		check(t, batch.Validate())
		for len(aborted) > 0 && aborted[0].FirstOffset <= batch.LastOffset() {
			open[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		skip := batch.Attributes().Transactional() && open[batch.ProducerID()]
		if batch.Attributes().Control() {
			skip = true
			if c, err := record.ParseControl(batch); err == nil && c.Type == record.ControlAbort {
				delete(open, batch.ProducerID())
			}
		}
		if !skip {
			it := batch.Iterate(0)
			for it.Next() {
				if it.Offset() >= offset {
					out = append(out, fmt.Sprintf("%d:%s=%s", it.Offset(), it.Record().Key, it.Record().Value))
				}
			}
			check(t, it.Err())
			it.Close()
		}
		offset, b = batch.LastOffset()+1, rest
	}
}

// Readers never see aborted data, nor lose the last value of a key, while
// transactions are written and the log is compacted again and again.
func TestReadersBesideCompaction(t *testing.T) {
	o := options(vfs.Bounded(newMem(t), 8))
	o.Config = Config{Compact: true, SegmentBytes: 2000, DeleteRetention: 1}
	l := open(t, o)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				stable := l.LastStableOffset()
				seen := make(map[string]bool)
				for _, v := range view(t, l) {
					if strings.Contains(v, "=aborted") {
						t.Errorf("read %s", v)
						return
					}
					_, kv, _ := strings.Cut(v, ":")
					key, _, _ := strings.Cut(kv, "=")
					seen[key] = true
				}
				if stable > 200 && !seen["first"] {
					t.Errorf("a key is lost below offset %d: %v", stable, seen)
					return
				}
			}
		})
	}
	next, clock := int64(-1), int64(t0)
	appendTo(t, l, batch(t, record.None, record.NoProducer, rec{t0, "first", "kept"}))
	r := rand.New(rand.NewPCG(1, 2))
	seqs := make(map[int64]int32)
	for i := range 400 {
		id, commit := r.Int64N(3), r.IntN(2) == 0
		value := "aborted"
		if commit {
			value = fmt.Sprint("committed", i)
		}
		for range 1 + r.IntN(3) {
			b := batch(t, record.None, record.Producer{ID: id, Sequence: seqs[id], Transactional: true}, rec{t0, fmt.Sprint("k", r.IntN(5)), value})
			seqs[id]++
			appendTo(t, l, b)
		}
		_, err := l.Append(record.BuildEndTxn(nil, commit, id, 0, 1, t0), AppendOptions{Origin: Coordinator})
		check(t, err)
		l.SetHighWatermark(l.EndOffset())
		if i%5 == 4 {
			clock += 10
			next = compactOnce(t, l, next, clock).Next
		}
	}
	close(done)
	wg.Wait()
	check(t, l.Roll())
	for range 4 { // data, then markers, then their horizons
		clock += 10
		compactOnce(t, l, -1, clock)
	}
	if n := len(view(t, l)); n != 6 {
		t.Errorf("%d records left, want one of each key: %v", n, view(t, l))
	}
	if l.Size() > 3000 {
		t.Errorf("%d bytes left", l.Size())
	}
	check(t, l.Close())
}

// At every effect of a round the power may fail: every offset is there in one
// generation, the last value of each key among them.
func TestCrashDuringCompaction(t *testing.T) {
	m := newMem(t)
	var clones []*vfs.Mem
	var ops []string
	armed := false
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	fs := vfs.Inject(m, func(op vfs.Op, name string) error {
		if armed && op != vfs.OpRead && op != vfs.OpStat && op != vfs.OpSize && op != vfs.OpList {
			n := uint64(len(clones))
			for _, p := range []vfs.CrashPolicy{{}, {KeepEntries: true}, {KeepData: true}, {KeepData: true, KeepEntries: true}, {KeepEntries: true, Torn: rand.New(rand.NewPCG(seed, n))}} {
				clones, ops = append(clones, m.CrashClone(p)), append(ops, fmt.Sprintf("%s %s %+v", op, name, p))
			}
		}
		return nil
	})
	o := options(fs)
	o.Config = Config{Compact: true, IndexIntervalBytes: 100, DeleteRetention: 1}
	l := open(t, o)
	seq := int32(0)
	for i := range 8 {
		for k := range 3 {
			b := batch(t, record.None, record.Producer{ID: 7, Sequence: seq}, rec{t0, fmt.Sprint("k", k), fmt.Sprint(i)}, rec{t0, fmt.Sprint("u", i, k), "once"})
			seq += 2
			appendTo(t, l, b)
		}
		abortOne(t, l, int64(100+i))
		check(t, l.Roll())
	}
	appendTo(t, l, batch(t, record.None, record.NoProducer, rec{t0, "tail", "active"}))
	check(t, l.Flush())
	l.SetHighWatermark(l.EndOffset())
	before := view(t, l)
	recovery := l.RecoveryPoint()
	armed = true
	compactOnce(t, l, -1, t0)
	armed = false
	after := view(t, l)
	if len(clones) < 100 || len(after) >= len(before) {
		t.Fatalf("%d crash points, %d records became %d", len(clones), len(before), len(after))
	}
	last := func(view []string) string { // of each key
		m := make(map[string]string)
		for _, v := range view {
			_, kv, _ := strings.Cut(v, ":")
			k, _, _ := strings.Cut(kv, "=")
			m[k] = v
		}
		return fmt.Sprint(m)
	}
	for i, c := range clones {
		for _, clean := range []bool{false, true} {
			o := options(c.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true}))
			o.Config, o.Sparse, o.RecoveryPoint, o.CleanShutdown = l.Config(), true, recovery, clean
			again, err := Open(o)
			if err != nil {
				t.Fatalf("before %s: %v", ops[i], err)
			}
			again.SetHighWatermark(again.EndOffset())
			got := view(t, again)
			if again.EndOffset() != l.EndOffset() || last(got) != last(before) {
				t.Fatalf("before %s: log end %d, want %d\n got %v\nwant %v", ops[i], again.EndOffset(), l.EndOffset(), got, before)
			}
			for _, v := range got {
				if !slices.Contains(before, v) {
					t.Fatalf("before %s: %s came up", ops[i], v)
				}
			}
			appendTo(t, again, batch(t, record.None, record.Producer{ID: 7, Sequence: seq}, rec{t0, "k", "next"}))
			compactOnce(t, again, -1, t0)
			if got := view(t, again); len(got) != len(after)+1 {
				t.Fatalf("before %s: compacted again to %v, want %v", ops[i], got, after)
			}
			check(t, again.Close())
		}
	}
}

// A record goes once that with its key which takes its place is on disk, whenever
// the power fails.
func TestCompactionWaitsForTheDisk(t *testing.T) {
	m := newMem(t)
	var left []*vfs.Mem
	armed := false
	o := options(vfs.Inject(m, func(vfs.Op, string) error {
		if armed {
			left = append(left, m.CrashClone(vfs.CrashPolicy{}))
		}
		return nil
	}))
	o.Config.Compact, o.Config.SegmentBytes, o.Sparse = true, 100, true // no two batches
	o.Background = func(func()) {}                                      // it has not come to it yet
	l := open(t, o)
	appendTo(t, l, keyed(t, 0, rec{t0, "key", "old"}))
	check(t, l.Flush())
	check(t, l.Roll())
	appendTo(t, l, keyed(t, 1, rec{t0 + 1, "key", "new"}))
	check(t, l.Roll())
	appendTo(t, l, keyed(t, 2, rec{t0 + 2, "other", "x"}))
	armed = true
	compactOnce(t, l, -1, t0+1000)
	armed = false
	for i, m := range left {
		o.FS = m
		if l := open(t, o); len(values(t, l, 0, 1000)) == 0 {
			t.Errorf("after operation %d of %d the key has no record", i, len(left))
		}
	}
}

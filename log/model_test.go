package log

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/klamm-io/klamm/log/compact"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

var (
	modelSteps = flag.Int("model.steps", 0, "random operations of TestModel; 0 means a million, under the race detector a fifth")
	modelSeed  = flag.Uint64("model.seed", 0, "seed of TestModel; 0 takes one at random")
)

// modelRecord is one record as the model has it.
type modelRecord struct {
	offset, ts int64
	key, value string
	last       int64 // offset of its batch
}

// model is a log and what it must hold.
type model struct {
	*testing.T
	r       *rand.Rand
	mem     *vfs.Mem
	l       *Log
	config  Config
	records []modelRecord
	start   int64
	end     int64
	dirty   int64 // where the next round of compaction begins, -1 at the start
	epoch   int32
	clock   int64 // ms
	step    int
	op      string
	counts  map[string]int
	m       *compact.Map
}

// The log against a slice of records, over random operations: appends as leader
// and follower, rolls, truncations, deletions, retention, compaction, clean
// restarts, dead processes and power cuts.
func TestModel(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-model.seed %d", seed)
	if *modelSteps == 0 {
		*modelSteps = defaultModelSteps
	}
	for i, c := range []Config{
		{SegmentBytes: 6000, IndexIntervalBytes: 300},
		{SegmentBytes: 3000, IndexIntervalBytes: 100, Compact: true},
		{SegmentBytes: 4000, IndexIntervalBytes: 200, Compact: true, Delete: true, RetentionBytes: 60_000},
	} {
		m := &model{T: t, r: rand.New(rand.NewPCG(seed, uint64(i))), mem: newMem(t), config: c, dirty: -1, clock: t0 - 100_000, counts: make(map[string]int), m: compact.NewMap(1 << 18)}
		m.l = open(t, m.options())
		for m.step = range *modelSteps / 3 {
			m.one()
			m.check()
		}
		t.Logf("%d operations: %v", *modelSteps/3, m.counts)
	}
}

func (m *model) options() Options {
	o := options(m.mem)
	o.Config, o.Sparse = m.config, m.config.Compact
	return o
}

func (m *model) one() {
	l, r := m.l, m.r
	op := r.IntN(1000)
	if len(m.records) > 600 && op < 700 { // keep it small
		op = 720 + r.IntN(60)
	}
	switch {
	case op < 700:
		m.op = "append"
		m.append()
	case op < 740:
		m.op = "truncate"
		to := m.start + r.Int64N(m.end-m.start+1)
		if r.IntN(3) > 0 {
			to = max(m.start, m.end-r.Int64N(20))
		}
		check(m, l.TruncateTo(to))
		for len(m.records) > 0 && m.records[len(m.records)-1].last >= to {
			m.records = m.records[:len(m.records)-1]
		}
		// A batch that to is inside of goes whole. Where compaction has left nothing
		// of what is before to, the log ends there all the same.
		low := int64(0) // a batch may begin below the log start offset
		if n := len(m.records); n > 0 {
			low = m.records[n-1].last + 1
		}
		m.end = l.EndOffset()
		if m.end > to || m.end < min(low, to) {
			m.Fatalf("%s: log end %d after truncating to %d, last batch ends before %d", m, m.end, to, low)
		}
		m.start, m.dirty = min(m.start, m.end), min(m.dirty, m.end)
	case op < 770:
		m.op = "delete records"
		l.SetHighWatermark(m.end)
		to := m.start + r.Int64N(m.end-m.start+1)
		check(m, l.AdvanceStart(to))
		m.drop(max(m.start, to))
		fallthrough
	case op < 790:
		m.op = "retain"
		l.SetHighWatermark(m.end)
		_, err := l.Retain(time.UnixMilli(m.clock))
		check(m, err)
		m.drop(l.StartOffset())
		if c := m.config; c.RetentionBytes > 0 && l.Size() > c.RetentionBytes+c.SegmentBytes+2000 {
			m.Fatalf("%s: %d bytes are left", m, l.Size())
		}
	case op < 793:
		m.op = "delete all"
		m.end += r.Int64N(10)
		check(m, l.TruncateFullyAndStartAt(m.end))
		m.records, m.start, m.dirty = nil, m.end, -1
	case op < 810:
		m.op = "leader epoch"
		m.epoch++
		check(m, l.AssignEpoch(m.epoch, m.end))
	case op < 840:
		m.op = "roll"
		check(m, l.Roll())
	case op < 860:
		m.op = "flush"
		check(m, l.Flush())
	case op < 920:
		m.op = "compact"
		if m.config.Compact {
			m.compact()
		}
	case op < 960:
		m.op = "clean restart"
		check(m, l.Close())
		o := m.options()
		o.CleanShutdown, o.StartOffset = true, m.start
		m.l = open(m, o)
	case op < 980:
		m.op = "the process dies"
		o := m.options()
		o.RecoveryPoint, o.StartOffset = l.RecoveryCheckpoint(), m.start
		m.mem = m.mem.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
		o.FS = m.mem
		m.l = open(m, o)
	default:
		m.op = "the power fails after a flush"
		check(m, l.Flush())
		o := m.options()
		o.RecoveryPoint, o.StartOffset = l.RecoveryCheckpoint(), m.start
		m.mem = m.mem.CrashClone(vfs.CrashPolicy{KeepEntries: r.IntN(2) == 0})
		o.FS = m.mem
		m.l = open(m, o)
	}
	m.counts[m.op]++
}

func (m *model) append() {
	r := m.r
	var recs []rec
	for range 1 + r.IntN(5) {
		m.clock += r.Int64N(20) - 5
		recs = append(recs, rec{m.clock, fmt.Sprint("key", r.IntN(60)), fmt.Sprintf("v%d-%0*d", m.step, r.IntN(100), 0)})
	}
	codec := record.None
	if r.IntN(20) == 0 {
		codec = record.Codec(r.IntN(5))
	}
	b := batch(m, codec, record.NoProducer, recs...)
	if r.IntN(2) == 0 {
		if info := appendTo(m, m.l, b); info.BaseOffset != m.end {
			m.Fatalf("%s: appended at %d, want %d", m, info.BaseOffset, m.end)
		}
	} else {
		record.Batch(b).SetBaseOffset(m.end)
		record.Batch(b).SetLeaderEpoch(m.epoch)
		_, err := m.l.AppendAsFollower(append(b, b[:20]...)) // a cut-off batch after it
		check(m, err)
	}
	last := m.end + int64(len(recs)) - 1
	for _, x := range recs {
		m.records = append(m.records, modelRecord{m.end, x.ts, x.key, x.value, last})
		m.end++
	}
}

// drop takes away what is below a new log start offset.
func (m *model) drop(start int64) {
	m.start = start
	m.records = slices.DeleteFunc(m.records, func(x modelRecord) bool { return x.offset < start })
}

func (m *model) compact() {
	m.l.SetHighWatermark(m.end)
	d, err := m.l.Dirtiness(m.dirty, time.UnixMilli(m.clock))
	check(m, err)
	r, err := m.l.Compact(CompactOptions{Map: m.m, FirstDirty: m.dirty, Now: time.UnixMilli(m.clock)})
	check(m, err)
	if r.Next != max(d.FirstUncleanable, d.FirstDirty) {
		m.Fatalf("%s: compacted up to %d, want %d", m, r.Next, d.FirstUncleanable)
	}
	newest := make(map[string]int64)
	for _, x := range m.records {
		if x.offset >= d.FirstDirty && x.offset < r.Next {
			newest[x.key] = x.offset
		}
	}
	m.records = slices.DeleteFunc(m.records, func(x modelRecord) bool {
		n, ok := newest[x.key]
		return ok && x.offset < n
	})
	m.dirty = r.Next
}

func (m *model) String() string { return fmt.Sprintf("step %d, %s", m.step, m.op) }

func (m *model) check() {
	if m.l.StartOffset() != m.start || m.l.EndOffset() != m.end {
		m.Fatalf("%s: log [%d, %d), want [%d, %d)", m, m.l.StartOffset(), m.l.EndOffset(), m.start, m.end)
	}
	if m.step%50 != 0 && (m.op == "append" || m.op == "flush" || m.op == "leader epoch") {
		return
	}
	var want []string
	from := m.start + m.r.Int64N(m.end-m.start+1)
	for _, x := range m.records {
		if x.offset >= from {
			want = append(want, fmt.Sprintf("%d:%s", x.offset, x.value))
		}
	}
	if got := values(m, m.l, from, 1+m.r.IntN(3000)); !slices.Equal(got, want) {
		m.Fatalf("%s: from %d\n got %v\nwant %v", m, from, got, want)
	}
	ts := m.clock - m.r.Int64N(2000)
	wantT, found := TimestampOffset{}, false
	for _, x := range m.records {
		if x.ts >= ts {
			wantT, found = TimestampOffset{Offset: x.offset, Timestamp: x.ts}, true
			break
		}
	}
	gotT, ok, err := m.l.OffsetForTime(ts, m.end)
	check(m, err)
	if gotT.LeaderEpoch = 0; ok != found || ok && gotT != wantT {
		m.Fatalf("%s: time %d: got %+v %t, want %+v %t", m, ts, gotT, ok, wantT, found)
	}
	wantT, found = TimestampOffset{}, false
	for _, x := range m.records {
		if !found || x.ts > wantT.Timestamp {
			wantT, found = TimestampOffset{Offset: x.offset, Timestamp: x.ts}, true
		}
	}
	gotT, ok, err = m.l.MaxTimestampOffset(m.end)
	check(m, err)
	if gotT.LeaderEpoch = 0; ok != found || ok && gotT != wantT {
		m.Fatalf("%s: largest timestamp: got %+v %t, want %+v %t", m, gotT, ok, wantT, found)
	}
}

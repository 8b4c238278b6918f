package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/record"
)

// segments returns a closed log of n segments with two records each.
func segments(t *testing.T, n int) (*vfs.Mem, Options) {
	m := newMem(t)
	o := options(m)
	l := open(t, o)
	for i := range n {
		if i > 0 {
			check(t, l.Roll())
		}
		appendTo(t, l, idem(t, 5, 0, int32(2*i), 2))
	}
	check(t, l.Close())
	return m, o
}

func TestMissingSegmentIsAHole(t *testing.T) {
	for _, clean := range []bool{true, false} {
		m, o := segments(t, 4)
		check(t, m.Remove(segment.FileName(o.Dir, 4, segment.LogSuffix)))
		o.CleanShutdown, o.RecoveryPoint = clean, 8
		_, err := Open(o)
		var hole *HoleError
		if !errors.As(err, &hole) || hole.From != 4 || hole.To != 6 || !errors.Is(err, ErrCorrupt) {
			t.Errorf("clean %t: %v", clean, err)
		}
		o.Sparse = true
		l := open(t, o)
		if got := fmt.Sprint(values(t, l, 0, 1000)); got != "[0:0 0 1:0 1 2:2 0 3:2 1 6:6 0 7:6 1]" {
			t.Errorf("clean %t: with a hole that compaction may have left: %s", clean, got)
		}
		if got := fmt.Sprint(values(t, l, 4, 10)); got != "[6:6 0 7:6 1]" {
			t.Errorf("clean %t: from inside the hole: %s", clean, got)
		}
		check(t, l.Close())
	}
	// An empty file behind a hole is what a power cut leaves of a roll.
	m, o := segments(t, 1)
	put(t, m, segment.FileName(o.Dir, 9, segment.LogSuffix), nil)
	if l := open(t, o); l.EndOffset() != 2 {
		t.Errorf("log end %d", l.EndOffset())
	}
}

// Compaction's steps, cut short anywhere: what is loaded is one generation of
// each offset, and nothing else is left in the directory.
func TestInterruptedSwap(t *testing.T) {
	plainLog, o := segments(t, 4) // [0,2) [2,4) [4,6) [6,8)
	rename := func(m *vfs.Mem, base int64, from, to string) {
		check(t, segment.RenameFiles(m, o.Dir, base, from, to))
	}
	// The compacted generation of the first three segments has the records 1 and 5.
	compacted := func(m *vfs.Mem, suffix string) {
		var b []byte
		for _, base := range []int64{0, 4} {
			one, err := vfs.ReadFile(plainLog, segment.FileName(o.Dir, base, segment.LogSuffix))
			check(t, err)
			b = append(b, one...)
		}
		put(t, m, segment.FileName(o.Dir, 0, segment.LogSuffix)+suffix, b)
		put(t, m, segment.FileName(o.Dir, 0, segment.IndexSuffix)+suffix, nil)
		put(t, m, segment.FileName(o.Dir, 0, segment.TimeSuffix)+suffix, nil)
	}
	const before, after = "[0:0 0 1:0 1 2:2 0 3:2 1 4:4 0 5:4 1 6:6 0 7:6 1]", "[0:0 0 1:0 1 4:4 0 5:4 1 6:6 0 7:6 1]"
	for _, c := range []struct {
		name  string
		state func(m *vfs.Mem)
		want  string
	}{
		{"while it writes", func(m *vfs.Mem) { compacted(m, ".cleaned") }, before},
		{"data half written", func(m *vfs.Mem) {
			put(t, m, segment.FileName(o.Dir, 0, segment.LogSuffix)+".cleaned", []byte("half"))
		}, before},
		{"data renamed to swap, indexes not", func(m *vfs.Mem) {
			compacted(m, ".cleaned")
			name := segment.FileName(o.Dir, 0, segment.LogSuffix)
			check(t, m.Rename(name+".cleaned", name+".swap"))
		}, after},
		{"all renamed to swap", func(m *vfs.Mem) { compacted(m, ".swap") }, after},
		{"one old segment retired", func(m *vfs.Mem) { compacted(m, ".swap"); rename(m, 0, "", ".deleted") }, after},
		{"all old segments retired", func(m *vfs.Mem) {
			compacted(m, ".swap")
			for _, b := range []int64{0, 2, 4} {
				rename(m, b, "", ".deleted")
			}
		}, after},
		{"data has its name, indexes not", func(m *vfs.Mem) {
			compacted(m, ".swap")
			for _, b := range []int64{0, 2, 4} {
				rename(m, b, "", ".deleted")
			}
			name := segment.FileName(o.Dir, 0, segment.LogSuffix)
			check(t, m.Rename(name+".swap", name))
		}, after},
		{"two generations at once, the later one not complete", func(m *vfs.Mem) {
			compacted(m, ".swap")
			put(t, m, segment.FileName(o.Dir, 6, segment.LogSuffix)+".cleaned", []byte("half"))
		}, after},
	} {
		for _, clean := range []bool{false, true} {
			m := plainLog.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
			c.state(m)
			o := o
			o.FS, o.CleanShutdown, o.Sparse = m, clean, true
			l := open(t, o)
			for _, suffix := range []string{segment.IndexSuffix, segment.TimeSuffix} {
				if _, err := m.Stat(segment.FileName(o.Dir, 0, suffix)); err != nil {
					t.Errorf("%s, clean %t: no %s", c.name, clean, suffix)
				}
			}
			if got := fmt.Sprint(values(t, l, 0, 1000)); got != c.want {
				t.Errorf("%s, clean %t:\n got %s\nwant %s", c.name, clean, got, c.want)
			}
			appendTo(t, l, idem(t, 5, 0, 8, 1))
			names, err := m.List(o.Dir)
			check(t, err)
			for _, n := range names {
				if e := path.Ext(n); e == ".swap" || e == ".cleaned" || e == ".deleted" {
					t.Errorf("%s, clean %t: left %s", c.name, clean, n)
				}
			}
			check(t, l.Close())
		}
	}
}

// A transaction index that cannot be read is made anew from the batches; after
// an unclean stop also one that is missing.
func TestTxnIndexIsRebuilt(t *testing.T) {
	m := newMem(t)
	o := options(m)
	l := open(t, o)
	for i := range 3 {
		abortOne(t, l, int64(i))
		check(t, l.Roll())
	}
	abortOne(t, l, 9)
	want, err := l.AbortedTransactions(0, l.EndOffset())
	check(t, err)
	if len(want) != 4 {
		t.Fatalf("%+v", want)
	}
	check(t, l.Close())
	for _, base := range []int64{0, 2, 4, 6} {
		file := segment.FileName(o.Dir, base, segment.TxnSuffix)
		content, err := vfs.ReadFile(m, file)
		check(t, err)
		for name, bad := range map[string][]byte{"cut": content[:20], "garbage": []byte("0123456789012345678901234567890123"), "grown": append(content, 1, 2)} {
			for _, clean := range []bool{true, false} {
				c := m.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
				put(t, c, file, bad)
				o := o
				o.FS, o.CleanShutdown = c, clean
				l := open(t, o)
				got, err := l.AbortedTransactions(0, l.EndOffset())
				if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("segment %d, %s, clean %t: %+v, %v, want %+v", base, name, clean, got, err, want)
				}
				check(t, l.Close())
			}
		}
		c := m.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
		check(t, c.Remove(file))
		o := o
		o.FS = c
		l := open(t, o)
		if got, err := l.AbortedTransactions(0, l.EndOffset()); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("segment %d, missing: %+v, %v, want %+v", base, got, err, want)
		}
		check(t, l.Close())
	}
}

// abortOne appends a transaction of one record and aborts it.
func abortOne(t testing.TB, l *Log, producer int64) {
	t.Helper()
	appendTo(t, l, batch(t, record.None, record.Producer{ID: producer, Sequence: 0, Transactional: true}, rec{t0, "a", "aborted"}))
	_, err := l.Append(record.BuildEndTxn(nil, false, producer, 0, 1, t0), AppendOptions{Origin: Coordinator})
	check(t, err)
}

// A flipped bit in an offset, which no CRC covers, is damage: it neither hides the
// batches behind it nor takes them for a torn tail.
func TestFlippedOffsetsAreDamage(t *testing.T) {
	m, file, bounds := tail(t, 6)
	whole, err := vfs.ReadFile(m, file)
	check(t, err)
	for i := range len(bounds) - 1 { // of the last batch nothing can tell
		start := 0
		if i > 0 {
			start = bounds[i-1]
		}
		for bit := range 64 {
			bad := append([]byte(nil), whole...)
			bad[start+bit/8] ^= 0x80 >> (bit % 8)
			put(t, m, file, bad)
			l, err := Open(options(m))
			var damaged *segment.DamagedError
			if !errors.As(err, &damaged) || damaged.Pos != int64(start) {
				if l != nil {
					l.Close()
				}
				t.Fatalf("batch %d, bit %d: %v", i, bit, err)
			}
			if now, err := vfs.ReadFile(m, file); err != nil || len(now) != len(whole) {
				t.Fatalf("batch %d, bit %d: %d bytes are left, %v", i, bit, len(now), err)
			}
		}
	}
}

// A torn tail that was cut off does not come back with a power cut after a clean
// stop, though all before it was known to be on disk.
func TestTornTailStaysCut(t *testing.T) {
	m, o := segments(t, 1)
	name := segment.FileName(o.Dir, 0, segment.LogSuffix)
	b, err := vfs.ReadFile(m, name)
	check(t, err)
	put(t, m, name, append(b, b[:20]...))
	o.RecoveryPoint = 2
	l := open(t, o)
	check(t, l.Close())
	m = m.CrashClone(vfs.CrashPolicy{})
	o.FS, o.CleanShutdown = m, true
	if l := open(t, o); l.EndOffset() != 2 || l.Size() != int64(len(b)) {
		t.Errorf("log end %d, %d bytes of %d", l.EndOffset(), l.Size(), len(b))
	}
}

// The time index may know batches that a power cut took away: others get their
// offsets, and are found by their own time.
func TestTimeIndexOfBatchesThatAreGone(t *testing.T) {
	m := newMem(t)
	o := options(m)
	l := open(t, o)
	appendTo(t, l, plain(t, "a"))
	check(t, l.Flush())
	synced, err := vfs.ReadFile(m, segment.FileName(o.Dir, 0, segment.LogSuffix))
	check(t, err)
	for i := range 9 {
		appendTo(t, l, batch(t, record.None, record.NoProducer, rec{t0 + 10 + int64(i), "", "lost"}))
	}
	check(t, l.Close())
	put(t, m, segment.FileName(o.Dir, 0, segment.LogSuffix), synced) // but not the indexes
	o.RecoveryPoint = 1
	l = open(t, o)
	for i := range 3 {
		appendTo(t, l, batch(t, record.None, record.NoProducer, rec{t0 + 100 + int64(i), "", "b"}))
	}
	if at, ok, err := l.OffsetForTime(t0+50, l.EndOffset()); err != nil || !ok || at.Offset != 1 {
		t.Errorf("time between what is gone and what is there: %+v, %t, %v", at, ok, err)
	}
	check(t, l.Close())
}

// A process that dies may leave the topic id under the name from which it is
// renamed.
func TestTopicIDThatWasNotRenamed(t *testing.T) {
	m := newMem(t)
	o := options(m)
	check(t, m.MkdirAll(o.Dir, 0o755))
	put(t, m, path.Join(o.Dir, MetadataFile+".tmp"), []byte("version: 0"))
	l := open(t, o)
	appendTo(t, l, plain(t, "a"))
	check(t, l.Close())
}

// The epochs of a log without records, torn by a power cut, are removed.
func TestTornEpochsOfAnEmptyLog(t *testing.T) {
	m := newMem(t)
	o := options(m)
	check(t, m.MkdirAll(o.Dir, 0o755))
	put(t, m, path.Join(o.Dir, EpochFile), make([]byte, 8))
	check(t, open(t, o).Close())
	if b, err := vfs.ReadFile(m, path.Join(o.Dir, EpochFile)); err == nil {
		t.Errorf("%q is left", b)
	}
}

// A log start offset that was raised, but not durably, has dropped leader epochs
// that are needed again.
func TestEpochsBelowAStartThatIsGone(t *testing.T) {
	m, o := segments(t, 3)
	put(t, m, path.Join(o.Dir, EpochFile), []byte("0\n1\n0 4\n"))
	o.RecoveryPoint = 6
	l := open(t, o)
	if got := l.EpochAt(1); got != 0 {
		t.Errorf("epoch at offset 1: %d", got)
	}
	check(t, l.Close())
}

// A power cut may bring back the file without an epoch that there was before the first
// batch, though that batch is on disk and is not checked again.
func TestEpochsOfATruncatedLog(t *testing.T) {
	m := newMem(t)
	o := options(m)
	l := open(t, o)
	check(t, l.AssignEpoch(2, 0))
	appendTo(t, l, plain(t, "a", "b"))
	check(t, l.TruncateTo(1)) // and the file stays
	check(t, l.AssignEpoch(3, 0))
	appendTo(t, l, plain(t, "b"))
	check(t, l.Flush())
	o.FS, o.RecoveryPoint = m.CrashClone(vfs.CrashPolicy{}), l.RecoveryPoint()
	if l = open(t, o); l.EndOffset() != 1 || l.EpochAt(0) != 3 {
		t.Errorf("log end %d, epoch at offset 0: %d", l.EndOffset(), l.EpochAt(0))
	}
	check(t, l.Close())
}

// Indexes that are made anew for a log of which a power cut has left nothing stay the
// ones, also if nothing else is to be synced: those from before know other batches.
func TestIndexesOfALogThatIsEmptyAgain(t *testing.T) {
	m := newMem(t)
	o := options(m)
	l := open(t, o)
	appendTo(t, l, batch(t, record.None, record.NoProducer, rec{t0 + 10, "", "lost"}))
	check(t, l.Close())
	put(t, m, segment.FileName(o.Dir, 0, segment.LogSuffix), nil)
	check(t, errors.Join(m.Remove(path.Join(o.Dir, "00000000000000000001.snapshot")), m.SyncDir(o.Dir)))
	l = open(t, o) // has indexes made
	l = reopenClean(t, l)
	appendTo(t, l, batch(t, record.None, record.NoProducer, rec{t0 + 100, "", "b"}))
	l = reopenClean(t, l)
	o.FS, o.RecoveryPoint = m.CrashClone(vfs.CrashPolicy{}), l.RecoveryPoint()
	l = open(t, o)
	if at, ok, err := l.OffsetForTime(t0+50, l.EndOffset()); err != nil || !ok || at.Timestamp != t0+100 {
		t.Errorf("the record with a later time: %+v, %t, %v", at, ok, err)
	}
	b, err := vfs.ReadFile(o.FS, segment.FileName(o.Dir, 0, segment.TimeSuffix))
	check(t, err)
	if got := int64(binary.BigEndian.Uint64(b)); len(b) != 12 || got != t0+100 {
		t.Errorf("time index of %d bytes, the first entry of time %d, want %d", len(b), got, t0+100)
	}
	check(t, l.Close())
}

// Snapshots above what an unclean stop has left to be checked may be torn, or tell
// of batches that are gone.
func TestSnapshotsAfterAnUncleanStop(t *testing.T) {
	m, o := segments(t, 3)
	for _, at := range []int64{2, 4} {
		put(t, m, segment.FileName(o.Dir, at, segment.SnapshotSuffix), []byte("torn"))
	}
	o.RecoveryPoint = 1
	l := open(t, o)
	if i := appendTo(t, l, idem(t, 5, 0, 4, 2)); !i.Duplicate || i.BaseOffset != 4 {
		t.Errorf("the last batch, repeated, is answered with %+v", i)
	}
	check(t, l.Close())
	names, err := m.List(o.Dir)
	check(t, err)
	for _, name := range names {
		if path.Ext(name) == segment.SnapshotSuffix && name != path.Base(segment.FileName(o.Dir, 6, segment.SnapshotSuffix)) {
			t.Errorf("%s is left", name)
		}
	}
}

// A power cut may leave a batch with zeros for its offset, which no CRC covers: it
// is not taken for the end of a log that is known to be on disk further on.
func TestBatchWhoseOffsetIsLost(t *testing.T) {
	for _, n := range []int{3, 8} { // it would end inside of the log, or where the log does
		m, o := segments(t, 1)
		l := open(t, o)
		for i := range 3 {
			appendTo(t, l, idem(t, 5, 0, int32(2+2*i), 2))
		}
		check(t, l.Close())
		name := segment.FileName(o.Dir, 0, segment.LogSuffix)
		b, err := vfs.ReadFile(m, name)
		check(t, err)
		put(t, m, name, append(b, plain(t, make([]string, n)...)...)) // its base offset is 0
		o.RecoveryPoint = 8
		var damaged *segment.DamagedError
		if l, err := Open(o); !errors.As(err, &damaged) {
			t.Errorf("%d records: log end %d, %v", n, l.EndOffset(), err)
		}
	}
}

// A roll at the recovery point may have come after that was written: what belongs
// to the sealed segment may be torn, and is synced by the next clean stop.
func TestRollAtTheRecoveryPoint(t *testing.T) {
	m, o := segments(t, 2)
	name := segment.FileName(o.Dir, 2, segment.SnapshotSuffix)
	put(t, m, name, []byte("torn"))
	o.RecoveryPoint = 2
	check(t, open(t, o).Close())
	if b, err := vfs.ReadFile(m, name); err == nil {
		t.Errorf("%q is left", b)
	}
	l := open(t, o)
	if got := l.RecoveryCheckpoint(); got != 0 {
		t.Errorf("recovery checkpoint %d while the sealed segment was not synced", got)
	}
	check(t, l.Flush())
	if got := l.RecoveryCheckpoint(); got != 4 {
		t.Errorf("recovery checkpoint %d after a flush, want 4", got)
	}
	check(t, l.Close())
}

// The sector in which a batch begins may be lost alone, and with it no more than
// the base offset and zeros. That is a torn tail where nothing follows and nothing
// was synced.
func TestBatchBeginsInALostSector(t *testing.T) {
	size := 0
	begins := func(value int) []byte { return plain(t, string(make([]byte, value))) }
	for size = 1; len(begins(size))%512 != 503; size++ {
	}
	for _, c := range []struct {
		name     string
		follows  bool
		recovery int64
		end      int64 // -1 means damage
	}{{"torn", false, 1, 1}, {"nothing synced", false, 0, 1}, {"synced", false, 2, -1}, {"something follows", true, 1, -1}} {
		m := newMem(t)
		o := options(m)
		l := open(t, o)
		appendTo(t, l, begins(size))
		at := l.Size()
		appendTo(t, l, plain(t, "torn"))
		if c.follows {
			appendTo(t, l, plain(t, "valid"))
		}
		check(t, l.Close())
		name := segment.FileName(o.Dir, 0, segment.LogSuffix)
		b, err := vfs.ReadFile(m, name)
		check(t, err)
		clear(b[at : at+9])
		put(t, m, name, b)
		o.RecoveryPoint = c.recovery
		l, err = Open(o)
		var damaged *segment.DamagedError
		if c.end < 0 && !errors.As(err, &damaged) || c.end >= 0 && (err != nil || l.EndOffset() != c.end) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			check(t, l.Close())
		}
	}
}

// A snapshot of batches that a power cut took away does not come back with the
// next one, when other batches have their offsets.
func TestStaleSnapshotStaysGone(t *testing.T) {
	m := newMem(t)
	o := options(m)
	l := open(t, o)
	appendTo(t, l, idem(t, 5, 0, 0, 4))
	check(t, l.Close())
	name := segment.FileName(o.Dir, 4, segment.SnapshotSuffix)
	stale, err := vfs.ReadFile(m, name)
	check(t, err)
	m = newMem(t)
	o = options(m)
	l = open(t, o)
	appendTo(t, l, idem(t, 6, 0, 0, 2))
	check(t, l.Flush())
	put(t, m, name, stale)
	check(t, m.SyncDir(o.Dir))
	for range 2 {
		m = m.CrashClone(vfs.CrashPolicy{})
		o.FS, o.RecoveryPoint = m, l.RecoveryPoint()
		l = open(t, o)
		if l.EndOffset() == 2 {
			appendTo(t, l, idem(t, 6, 0, 2, 2))
			check(t, l.Flush())
		}
	}
	if i := appendTo(t, l, idem(t, 6, 0, 2, 2)); !i.Duplicate || i.BaseOffset != 2 {
		t.Errorf("the last batch, repeated, is answered with %+v", i)
	}
	check(t, l.Close())
}

package log

import (
	"fmt"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/record"
)

// sparse returns the log of a follower whose leader has compacted away what is between
// the batches [0, 2), [5, 7) and [9, 10). rolls are the offsets at which segments begin.
func sparse(t *testing.T, rolls ...int64) (*vfs.Mem, *Log) {
	m := newMem(t)
	o := options(m)
	o.Sparse = true
	l := open(t, o)
	check(t, l.AssignEpoch(1, 0))
	for _, b := range []struct {
		base   int64
		values []string
	}{{0, []string{"a", "b"}}, {5, []string{"c", "d"}}, {9, []string{"e"}}} {
		for _, at := range rolls {
			if at == b.base {
				check(t, l.latch("roll", l.roll(at)))
			}
		}
		out := record.Batch(plain(t, b.values...))
		out.SetBaseOffset(b.base)
		out.SetLeaderEpoch(1)
		if _, err := l.AppendAsFollower(out); err != nil {
			t.Fatal(err)
		}
	}
	check(t, l.Flush())
	return m, l
}

// A truncation ends the log where it is told to, or where the batch begins that holds
// the offset, and never below because compaction has left nothing there: what is below
// may be committed. It stays so after a restart.
func TestTruncateBetweenWhatCompactionLeft(t *testing.T) {
	for _, rolls := range [][]int64{nil, {5}, {9}, {5, 9}} {
		for to, want := range map[int64]int64{1: 0, 2: 2, 3: 3, 5: 5, 6: 5, 7: 7, 8: 8, 9: 9} {
			t.Run(fmt.Sprint(to, rolls), func(t *testing.T) {
				m, l := sparse(t, rolls...)
				l.SetHighWatermark(want)
				check(t, l.TruncateTo(to))
				if l.EndOffset() != want || l.HighWatermark() != want {
					t.Fatalf("log end %d, high watermark %d, want %d", l.EndOffset(), l.HighWatermark(), want)
				}
				o := *l.o
				o.FS = m.CrashClone(vfs.CrashPolicy{})
				other := open(t, o)
				if other.EndOffset() != want {
					t.Errorf("log end %d after a power cut", other.EndOffset())
				}
				check(t, other.Close())
				l = reopenClean(t, l)
				if l.EndOffset() != want {
					t.Errorf("log end %d after a restart", l.EndOffset())
				}
				if got := appendTo(t, l, plain(t, "next")); got.BaseOffset != want {
					t.Errorf("the next record gets offset %d", got.BaseOffset)
				}
				l = reopenClean(t, l)
				if l.EndOffset() != want+1 {
					t.Errorf("log end %d after one record more", l.EndOffset())
				}
				check(t, l.Close())
			})
		}
	}
}

// A truncation takes the transactions out of the index whose markers it drops, also
// where the producer state as of the log's new end is in a snapshot and nothing is
// replayed: a transaction that is committed instead would be hidden from consumers.
func TestTruncatedMarkers(t *testing.T) {
	for _, rolled := range []bool{false, true} {
		t.Run(fmt.Sprint("rolled ", rolled), func(t *testing.T) {
			l := open(t, options(newMem(t)))
			if rolled {
				appendTo(t, l, plain(t, "a"))
				check(t, l.Roll())
			}
			at := l.EndOffset()
			appendTo(t, l, batch(t, record.None, record.Producer{ID: 3, Transactional: true}, rec{t0, "", "v"}))
			l = reopenClean(t, l) // leaves a snapshot
			end := func(commit bool) {
				t.Helper()
				_, err := l.Append(record.BuildEndTxn(nil, commit, 3, 0, 1, t0), AppendOptions{Origin: Coordinator})
				check(t, err)
			}
			end(false)
			check(t, l.TruncateTo(at+1))
			end(true)
			for range 2 {
				if got, err := l.AbortedTransactions(0, l.EndOffset()); err != nil || len(got) > 0 {
					t.Errorf("of a committed transaction the index says %+v, %v", got, err)
				}
				l = reopenClean(t, l)
			}
			check(t, l.Close())
		})
	}
}

// A log that a truncation has ended in what compaction left out is the same one when
// cleanup.policy is delete by then.
func TestTruncatedIntoAHoleThenNotCompacted(t *testing.T) {
	for _, rolls := range [][]int64{nil, {9}} {
		for _, to := range []int64{3, 4, 8} {
			m, l := sparse(t, rolls...)
			check(t, l.TruncateTo(to))
			o := *l.o
			check(t, l.Close())
			o.FS, o.CleanShutdown, o.RecoveryPoint, o.Sparse = m, true, l.RecoveryPoint(), false
			l, err := Open(o)
			if err != nil {
				t.Errorf("to %d, rolls %v: %v", to, rolls, err)
				continue
			}
			if l.EndOffset() != to {
				t.Errorf("to %d, rolls %v: log end %d", to, rolls, l.EndOffset())
			}
			check(t, l.Close())
		}
	}
}

// A marker that a power cut took away, and not its entry in the transaction index, is
// found out also where nothing needs to be checked.
func TestMarkerLostInAPowerCut(t *testing.T) {
	m := newMem(t)
	o := options(m)
	l := open(t, o)
	appendTo(t, l, batch(t, record.None, record.Producer{ID: 3, Transactional: true}, rec{t0, "", "v"}))
	l = reopenClean(t, l)
	recovery := l.RecoveryPoint()
	data := segment.FileName(o.Dir, 0, segment.LogSuffix)
	before, err := vfs.ReadFile(m, data)
	check(t, err)
	_, err = l.Append(record.BuildEndTxn(nil, false, 3, 0, 1, t0), AppendOptions{Origin: Coordinator})
	check(t, err)
	c := m.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
	put(t, c, data, before)
	o.FS, o.RecoveryPoint = c, recovery
	l = open(t, o)
	if l.EndOffset() != 1 {
		t.Fatalf("log end %d", l.EndOffset())
	}
	_, err = l.Append(record.BuildEndTxn(nil, true, 3, 0, 1, t0), AppendOptions{Origin: Coordinator})
	check(t, err)
	if got, err := l.AbortedTransactions(0, l.EndOffset()); err != nil || len(got) > 0 {
		t.Errorf("of a committed transaction the index says %+v, %v", got, err)
	}
	check(t, l.Close())
}

// A truncation makes nothing durable behind what is not: a power cut would leave a hole,
// which the next start refuses, or takes for one that compaction left.
func TestTruncationBehindWhatIsNotSynced(t *testing.T) {
	follow := func(l *Log, base int64) {
		out := record.Batch(plain(t, "a", "b"))
		out.SetBaseOffset(base)
		out.SetLeaderEpoch(1)
		_, err := l.AppendAsFollower(out)
		check(t, err)
	}
	for name, c := range map[string]struct {
		bases, rolls []int64
		to           int64
	}{
		"the segment before":  {[]int64{0, 2, 4, 6}, []int64{4}, 6},
		"where it ends":       {[]int64{0, 2, 4, 6}, []int64{4}, 4},
		"in a hole":           {[]int64{0, 2, 9}, nil, 7},
		"between two of them": {[]int64{0, 2, 9}, []int64{9}, 7},
		"in an empty one":     {[]int64{0, 2, 9, 11}, []int64{2, 7}, 8},
	} {
		for _, sparse := range []bool{false, true} {
			m := newMem(t)
			o := options(m)
			o.Sparse = sparse
			l := open(t, o)
			check(t, l.AssignEpoch(1, 0))
			follow(l, c.bases[0])
			check(t, l.Flush())
			for _, base := range c.bases[1:] {
				for _, at := range c.rolls {
					if at <= base && at >= l.EndOffset() && at > l.active().Base() {
						check(t, l.latch("roll", l.roll(at)))
					}
				}
				follow(l, base)
			}
			check(t, l.TruncateTo(c.to))
			want := values(t, l, 0, 1<<20)
			o.FS, o.RecoveryPoint = m.CrashClone(vfs.CrashPolicy{}), l.RecoveryPoint()
			again, err := Open(o)
			if err != nil {
				t.Errorf("%s, sparse %t: %v", name, sparse, err)
				continue
			}
			if got := values(t, again, 0, 1<<20); again.EndOffset() == l.EndOffset() && len(got) < len(want) {
				t.Errorf("%s, sparse %t: %q are left below the same log end, want %q", name, sparse, got, want)
			}
			check(t, again.Close())
			check(t, l.Close())
		}
	}
}

// The transactions that a truncation enters again are durable: nobody syncs them later,
// and consumers would be given what was aborted.
func TestAbortedTransactionsStayDurable(t *testing.T) {
	m := newMem(t)
	o := options(m)
	l := open(t, o)
	abortOne(t, l, 3)
	check(t, l.Roll())
	appendTo(t, l, plain(t, "a"))
	m = m.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
	check(t, l.Close())
	o.FS, o.RecoveryPoint = m, 0
	l = open(t, o) // distrusts the snapshot between the segments
	check(t, l.Flush())
	check(t, l.TruncateTo(2))
	appendTo(t, l, plain(t, "b"))
	check(t, l.Roll())
	appendTo(t, l, plain(t, "b"))
	check(t, l.Flush())
	o.FS, o.RecoveryPoint = m.CrashClone(vfs.CrashPolicy{}), l.RecoveryPoint()
	again := open(t, o)
	if got, err := again.AbortedTransactions(0, again.EndOffset()); err != nil || len(got) != 1 || again.EndOffset() != l.EndOffset() {
		t.Errorf("aborted %+v, %v; log end %d, recovery point %d", got, err, again.EndOffset(), o.RecoveryPoint)
	}
	check(t, again.Close())
	check(t, l.Close())
}

package log

import (
	"fmt"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
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

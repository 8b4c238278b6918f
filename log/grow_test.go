package log

import (
	"runtime"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// allocated returns how many bytes f allocates.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// Opening a log takes memory and calls to the disk in proportion to its segments,
// also where each has a transaction index and a producer snapshot, and after an
// unclean stop.
func TestOpeningGrowsWithTheSegments(t *testing.T) {
	type cost struct{ bytes, calls int64 }
	measure := func(n int, clean bool) (c cost) {
		m := vfs.NewMem()
		l := open(t, options(m))
		for i := range n {
			b := batch(t, record.None, record.Producer{ID: 1, Sequence: int32(i), Transactional: true}, rec{t0, "", "v"})
			appendTo(t, l, b)
			_, err := l.Append(record.BuildEndTxn(nil, false, 1, 0, 0, t0), AppendOptions{Origin: Coordinator})
			check(t, err)
			check(t, l.Roll())
		}
		end := l.EndOffset()
		check(t, l.Close())
		o := options(vfs.Inject(m, func(vfs.Op, string) error {
			c.calls++
			return nil
		}))
		o.CleanShutdown = clean
		c.bytes = allocated(func() { l = open(t, o) })
		if l.EndOffset() != end || len(l.list()) < n {
			t.Fatalf("opened %d segments up to %d, want %d up to %d", len(l.list()), l.EndOffset(), n, end)
		}
		if got, err := l.AbortedTransactions(0, end); err != nil || len(got) != n {
			t.Fatalf("%d aborted transactions, %v", len(got), err)
		}
		return c
	}
	for _, clean := range []bool{true, false} {
		small, large := measure(150, clean), measure(600, clean)
		if large.bytes > 6*small.bytes || large.calls > 6*small.calls {
			t.Errorf("clean %v: 150 segments %+v, 600 segments %+v", clean, small, large)
		}
	}
}

package log

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// told is what the batches of a log say of its transactions: those that were aborted,
// as "producer first-marker", and where the oldest that is open begins, -1 for none.
func told(t testing.TB, l *Log) (aborted []string, open int64) {
	t.Helper()
	began := make(map[int64]int64)
	check(t, l.Each(l.StartOffset(), l.EndOffset(), func(b record.Batch) error {
		if !b.Attributes().Control() {
			if _, ok := began[b.ProducerID()]; !ok && b.Attributes().Transactional() {
				began[b.ProducerID()] = b.BaseOffset()
			}
			return nil
		}
		c, err := record.ParseControl(b)
		if first, ok := began[b.ProducerID()]; ok && c.Type == record.ControlAbort {
			aborted = append(aborted, fmt.Sprintf("%d %d-%d", b.ProducerID(), first, b.BaseOffset()))
		}
		delete(began, b.ProducerID())
		return err
	}))
	open = -1
	for _, at := range began {
		if open < 0 || at < open {
			open = at
		}
	}
	return aborted, open
}

// The transaction indexes and the last stable offset say what the batches say, whatever
// rolls, truncations, restarts and power cuts there were.
func TestTransactionsModel(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 9))
		m := newMem(t)
		o := options(m)
		l := open(t, o)
		var did []string
		for range 80 {
			producer := int64(r.IntN(3))
			what := ""
			switch n := r.IntN(20); {
			case n < 7:
				what = fmt.Sprint("batch of ", producer)
				sequence := make(map[int64]int32)
				for _, p := range l.Producers() {
					sequence[p.ProducerID] = p.LastSequence + 1
				}
				appendTo(t, l, batch(t, record.None, record.Producer{ID: producer, Sequence: sequence[producer], Transactional: true}, rec{t0, "", "v"}))
			case n < 12:
				commit := r.IntN(2) == 0
				what = fmt.Sprint("end of ", producer, " commit ", commit)
				_, err := l.Append(record.BuildEndTxn(nil, commit, producer, 0, 1, t0), AppendOptions{Origin: Coordinator})
				check(t, err)
			case n < 14:
				what = "roll"
				check(t, l.Roll())
			case n < 16 && l.EndOffset() > 0:
				to := l.EndOffset() - r.Int64N(min(l.EndOffset(), 6)+1)
				what = fmt.Sprint("truncation to ", to)
				check(t, l.TruncateTo(to))
			case n < 17:
				what = "restart"
				l = reopenClean(t, l)
			case n < 18:
				what = "flush"
				check(t, l.Flush())
			case n < 20:
				p := vfs.CrashPolicy{KeepData: r.IntN(2) == 0, KeepEntries: r.IntN(2) == 0}
				what = fmt.Sprintf("power cut %t %t", p.KeepData, p.KeepEntries)
				o := *l.o
				m = m.CrashClone(p)
				o.FS, o.CleanShutdown, o.RecoveryPoint = m, false, l.RecoveryPoint()
				check(t, l.Close())
				again, err := Open(o)
				if err != nil {
					t.Fatalf("seed %d: %v\n%q, %s", seed, err, did, what)
				}
				l = again
			}
			did = append(did, what)
			aborted, first := told(t, l)
			list, err := l.AbortedTransactions(0, l.EndOffset())
			check(t, err)
			var got []string
			for _, x := range list {
				got = append(got, fmt.Sprintf("%d %d-%d", x.ProducerID, x.FirstOffset, x.LastOffset))
			}
			l.SetHighWatermark(l.EndOffset())
			stable := l.EndOffset()
			if first >= 0 {
				stable = first
			}
			if !slices.Equal(got, aborted) || l.LastStableOffset() != stable {
				t.Fatalf("seed %d: aborted %q, want %q; stable %d, want %d\n%q", seed, got, aborted, l.LastStableOffset(), stable, did)
			}
		}
		check(t, l.Close())
	}
}

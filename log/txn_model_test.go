package log

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// transactions are what the batches of a log say: which were aborted, as "producer
// first-marker", and the last stable offset: the first one of a transaction without a
// marker below the high watermark.
func transactions(t testing.TB, l *Log) (aborted []string, stable int64) {
	t.Helper()
	began := make(map[int64]int64)
	stable = l.HighWatermark()
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
		if first, ok := began[b.ProducerID()]; ok && b.BaseOffset() >= l.HighWatermark() {
			stable = min(stable, first)
		}
		delete(began, b.ProducerID())
		return err
	}))
	for _, at := range began {
		stable = min(stable, at)
	}
	return aborted, stable
}

// agree returns an error if the transaction indexes or the last stable offset do not
// say what the batches say.
func agree(t testing.TB, l *Log) error {
	t.Helper()
	aborted, stable := transactions(t, l)
	list, err := l.AbortedTransactions(0, l.EndOffset())
	check(t, err)
	var got []string
	for _, x := range list {
		got = append(got, fmt.Sprintf("%d %d-%d", x.ProducerID, x.FirstOffset, x.LastOffset))
	}
	if !slices.Equal(got, aborted) || l.LastStableOffset() != stable {
		return fmt.Errorf("high watermark %d of %d to %d, aborted %q, the batches say %q; last stable offset %d, the batches say %d", l.HighWatermark(), l.StartOffset(), l.EndOffset(), got, aborted, l.LastStableOffset(), stable)
	}
	return nil
}

// txnModel is a log, and what power cuts in the midst of an operation leave of it.
type txnModel struct {
	*testing.T
	r    *rand.Rand
	l    *Log
	mem  *vfs.Mem
	cuts []*vfs.Mem
	on   bool // cuts are taken
	did  []string
}

func (m *txnModel) fs(mem *vfs.Mem) vfs.FS {
	m.mem = mem
	return vfs.Inject(mem, func(vfs.Op, string) error {
		if !m.on {
			return nil
		}
		for _, p := range []vfs.CrashPolicy{{}, {KeepEntries: true}, {KeepData: true}, {KeepData: true, KeepEntries: true}} {
			m.cuts = append(m.cuts, mem.CrashClone(p))
		}
		return nil
	})
}

// one does one random operation.
func (m *txnModel) one() {
	producer, what := int64(m.r.IntN(3)), ""
	m.on = false
	switch n := m.r.IntN(22); {
	case n < 8:
		what = fmt.Sprint("batch of ", producer)
		sequence := int32(0)
		for _, p := range m.l.Producers() {
			if p.ProducerID == producer {
				sequence = p.LastSequence + 1
			}
		}
		appendTo(m, m.l, batch(m, record.None, record.Producer{ID: producer, Sequence: sequence, Transactional: true}, rec{t0, "", "v"}))
	case n < 12:
		commit := m.r.IntN(2) == 0
		what = fmt.Sprintf("end of %d, commit %t", producer, commit)
		_, err := m.l.Append(record.BuildEndTxn(nil, commit, producer, 0, 1, t0), AppendOptions{Origin: Coordinator})
		check(m, err)
	case n < 14:
		what, m.on = "roll", true
		check(m, m.l.Roll())
	case n < 16:
		to := m.l.EndOffset() - m.r.Int64N(min(m.l.EndOffset(), 6)+1)
		what, m.on = fmt.Sprint("truncation to ", to), true
		check(m, m.l.TruncateTo(to))
	case n < 17:
		what = "restart"
		high := m.l.HighWatermark()
		m.l = reopenClean(m, m.l)
		m.l.SetHighWatermark(high)
	case n < 19:
		to := m.l.HighWatermark() + m.r.Int64N(m.l.EndOffset()-m.l.HighWatermark()+1)
		what = fmt.Sprint("high watermark at ", to)
		m.l.SetHighWatermark(to)
	case n < 20:
		what, m.on = "flush", true
		check(m, m.l.Flush())
	default:
		p := vfs.CrashPolicy{KeepData: m.r.IntN(2) == 0, KeepEntries: m.r.IntN(2) == 0}
		what = fmt.Sprintf("power cut %+v", p)
		o := *m.l.o
		o.FS, o.CleanShutdown, o.RecoveryPoint, o.HighWatermark = m.fs(m.mem.CrashClone(p)), false, m.l.RecoveryPoint(), m.l.HighWatermark()
		check(m, m.l.Close())
		var err error
		if m.l, err = Open(o); err != nil {
			m.Fatalf("%v\n%q, %s", err, m.did, what)
		}
		m.l.SetHighWatermark(o.HighWatermark)
	}
	m.on = false
	m.did = append(m.did, what)
}

// The transaction indexes and the last stable offset say what the batches say, whatever
// rolls, truncations, restarts and power cuts there were, also cuts in the midst of
// these. No cut leaves a log that cannot be opened.
func TestTransactionsModel(t *testing.T) {
	for seed := range uint64(80) {
		m := &txnModel{T: t, r: rand.New(rand.NewPCG(seed, 11))}
		o := options(newMem(t))
		o.FS = m.fs(o.FS.(*vfs.Mem))
		m.l = open(t, o)
		for range 40 {
			synced, high := m.l.RecoveryPoint(), m.l.HighWatermark()
			m.one()
			if err := agree(t, m.l); err != nil {
				t.Fatalf("seed %d: %v\n%q", seed, err, m.did)
			}
			for i, cut := range m.cuts {
				o := *m.l.o
				o.FS, o.CleanShutdown, o.RecoveryPoint, o.HighWatermark = cut, false, synced, min(high, m.l.HighWatermark())
				l, err := Open(o)
				if err == nil {
					l.SetHighWatermark(o.HighWatermark)
					err = agree(t, l)
					check(t, l.Close())
				}
				if err != nil {
					t.Fatalf("seed %d, power cut %d in the last of %q: %v", seed, i, m.did, err)
				}
			}
			m.cuts = nil
		}
		check(t, m.l.Close())
	}
}

package log

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

func idem(t testing.TB, id int64, epoch int16, seq int32, n int) []byte {
	recs := make([]rec, n)
	for i := range recs {
		recs[i] = rec{t0, "", fmt.Sprint(seq, i)}
	}
	return batch(t, record.None, record.Producer{ID: id, Epoch: epoch, Sequence: seq}, recs...)
}

func TestIdempotence(t *testing.T) {
	for _, restart := range []string{"none", "clean", "crash", "crash without snapshot"} {
		o := options(vfs.NewMem())
		o.Config.SegmentBytes = 1000
		l := open(t, o)
		next := func() {
			switch restart {
			case "clean":
				l = reopenClean(t, l)
			case "crash", "crash without snapshot":
				o := *l.o
				if restart != "crash" {
					check(t, l.dropSnapshots(func(int64) bool { return true }))
				}
				o.FS = l.fs.(*vfs.Mem).CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
				l = open(t, o)
			}
		}
		step := func(name string, b []byte, base int64, dup bool, want error) {
			t.Helper()
			i, err := l.Append(b, AppendOptions{})
			if !errors.Is(err, want) || err == nil && (i.BaseOffset != base || i.Duplicate != dup) {
				t.Errorf("%s, %s: %+v, %v; want offset %d, duplicate %t, %v", restart, name, i, err, base, dup, want)
			}
			next()
		}
		const top = 2147483647
		step("first, any sequence", idem(t, 7, 0, top-1, 2), 0, false, nil)
		step("wraps to 0", idem(t, 7, 0, 0, 3), 2, false, nil)
		step("repeated", idem(t, 7, 0, 0, 3), 2, true, nil)
		step("gap", idem(t, 7, 0, 4, 1), 0, false, ErrOutOfOrderSequence)
		step("old", idem(t, 7, 0, top-2, 1), 0, false, ErrOutOfOrderSequence)
		step("next", idem(t, 7, 0, 3, 1), 5, false, nil)
		step("newer epoch not at 0", idem(t, 7, 1, 4, 1), 0, false, ErrOutOfOrderSequence)
		step("newer epoch at 0", idem(t, 7, 1, 0, 1), 6, false, nil)
		step("older epoch", idem(t, 7, 0, 4, 1), 0, false, ErrProducerEpoch)
		step("another producer", idem(t, 8, 5, 9, 1), 7, false, nil)
		for i := range int32(4) {
			step("fill", idem(t, 7, 1, 1+i, 1), 8+int64(i), false, nil)
		}
		if restart == "none" || restart == "crash without snapshot" {
			step("fifth back", idem(t, 7, 1, 0, 1), 6, true, nil)
			step("one more", idem(t, 7, 1, 5, 1), 12, false, nil)
			step("sixth back", idem(t, 7, 1, 0, 1), 0, false, ErrOutOfOrderSequence)
		}
		if got := l.Producers(); len(got) != 2 || got[0].ProducerID != 7 || got[0].Epoch != 1 || got[1].LastSequence != 9 {
			t.Errorf("%s: producers %+v", restart, got)
		}
		l.now = func() time.Time { return now().Add(25 * time.Hour) }
		l.ExpireProducers()
		_, err := l.Append(idem(t, 8, 0, 77, 1), AppendOptions{})
		if err != nil {
			t.Errorf("%s: after expiry: %v", restart, err)
		}
	}
}

// A producer whose records are older than producer.id.expiration.ms when they
// come, as mirrored ones are, is known as long as any other: what counts is when
// they were appended. A roll forgets nobody.
func TestProducersOfOldRecordsAreKnown(t *testing.T) {
	l := open(t, options(vfs.NewMem()))
	at := now()
	l.now = func() time.Time { return at }
	old := func(seq int32) []byte {
		return batch(t, record.None, record.Producer{ID: 7, Epoch: 0, Sequence: seq}, rec{at.Add(-30 * 24 * time.Hour).UnixMilli(), "", "v"})
	}
	for seq := range int32(3) {
		appendTo(t, l, old(seq))
	}
	check(t, l.Roll())
	appendTo(t, l, old(3))
	l.ExpireProducers()
	for seq := range int32(4) {
		if i, err := l.Append(old(seq), AppendOptions{}); err != nil || !i.Duplicate || i.BaseOffset != int64(seq) {
			t.Errorf("a repetition of sequence %d: %+v, %v", seq, i, err)
		}
	}
	l = reopenClean(t, l)
	at = at.Add(time.Hour)
	l.now = func() time.Time { return at }
	l.ExpireProducers()
	if _, err := l.Append(old(5), AppendOptions{}); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Errorf("a gap in the sequence after a restart: %v", err)
	}
	at = at.Add(25 * time.Hour)
	l.ExpireProducers()
	if len(l.Producers()) != 0 {
		t.Errorf("after a day of silence: %+v", l.Producers())
	}
}

// A broker that is restarted once a day, as by a nightly update, still forgets
// producers that have been silent for producer.id.expiration.ms, also those whose
// records were old when they came.
func TestProducersExpireThoughTheBrokerIsRestartedDaily(t *testing.T) {
	for _, age := range []time.Duration{0, 30 * 24 * time.Hour} {
		at := now()
		m := vfs.NewMem()
		m.SetNow(func() time.Time { return at })
		l := open(t, options(m))
		l.now = func() time.Time { return at }
		for id := range int64(100) {
			appendTo(t, l, batch(t, record.None, record.Producer{ID: id}, rec{at.Add(-age).UnixMilli(), "", "v"}))
		}
		check(t, l.Roll())
		known := func() int { return len(l.Producers()) }
		for day := range 4 {
			for range 23 { // hours, with the periodic task
				at = at.Add(time.Hour)
				l.ExpireProducers()
			}
			if n := known(); day == 0 && n != 100 || day > 1 && n != 0 {
				t.Errorf("records %v old: %d producers are known on day %d", age, n, day)
			}
			o := *l.o
			o.Now = func() time.Time { return at }
			check(t, l.Close())
			o.CleanShutdown, o.StartOffset = true, l.StartOffset()
			l = open(t, o)
		}
	}
}

// The oldest open transaction, and the one that holds the last stable offset
// back, are what a search of all would find.
func TestOpenTransactionsAgreeWithASearch(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		var s producers
		var u undecided
		var ended []txn
		open := make(map[int64]int64)
		high := int64(0)
		for offset := int64(0); offset < 400; offset++ {
			id := r.Int64N(12)
			p := s.make(id, 0)
			if first, ok := open[id]; ok && r.IntN(2) == 0 {
				s.open.end(p)
				delete(open, id)
				done := txn{producerID: id, first: first, last: offset}
				ended = append(ended, done)
				u.add(done)
			} else if !ok {
				s.open.begin(p, offset)
				open[id] = offset
			}
			if r.IntN(4) == 0 {
				high += r.Int64N(offset - high + 1)
				u.decided(high)
				ended = slices.DeleteFunc(ended, func(t txn) bool { return t.last < high })
			}
			want, wantEnded := int64(-1), int64(noUnstable)
			for _, first := range open {
				if want < 0 || first < want {
					want = first
				}
			}
			for _, t := range ended {
				wantEnded = min(wantEnded, t.first)
			}
			if s.firstOpen() != want || u.first() != wantEnded {
				t.Fatalf("seed %d, offset %d: oldest open %d, want %d; oldest undecided %d, want %d", seed, offset, s.firstOpen(), want, u.first(), wantEnded)
			}
			if len(s.open.queue) > 2*len(open)+8 || len(u.queue) > len(ended) {
				t.Fatalf("seed %d, offset %d: %d kept for %d open, %d for %d ended", seed, offset, len(s.open.queue), len(open), len(u.queue), len(ended))
			}
		}
	}
}

func TestTransactions(t *testing.T) {
	l := open(t, options(vfs.NewMem()))
	txn := func(id int64, seq int32) []byte {
		return batch(t, record.None, record.Producer{ID: id, Epoch: 0, Sequence: seq, Transactional: true}, rec{t0, "", "v"})
	}
	end := func(id int64, commit bool, coordinator int32) error {
		_, err := l.Append(record.BuildEndTxn(nil, commit, id, 0, coordinator, t0), AppendOptions{Origin: Coordinator})
		return err
	}
	stable := func(what string, want int64) {
		t.Helper()
		l.SetHighWatermark(l.EndOffset())
		if got := l.LastStableOffset(); got != want {
			t.Errorf("%s: last stable offset %d, want %d", what, got, want)
		}
	}
	appendTo(t, l, plain(t, "a"))
	stable("none open", 1)
	appendTo(t, l, txn(1, 0)) // 1
	appendTo(t, l, txn(2, 0)) // 2
	stable("two open", 1)
	if _, err := l.Append(idem(t, 1, 0, 1, 1), AppendOptions{}); !errors.Is(err, ErrTxnState) {
		t.Errorf("plain batch in a transaction: %v", err)
	}
	check(t, end(1, false, 5)) // 3
	if got := l.LastStableOffset(); got != 1 {
		t.Errorf("marker not below the high watermark: last stable offset %d", got)
	}
	stable("second open", 2)
	l = reopenClean(t, l)
	stable("second open after a restart", 2)
	check(t, end(2, true, 5)) // 4
	stable("both ended", 5)
	if err := end(2, true, 4); !errors.Is(err, ErrCoordinatorFenced) {
		t.Errorf("old coordinator: %v", err)
	}
	got, err := l.AbortedTransactions(0, 5)
	if err != nil || len(got) != 1 || got[0].ProducerID != 1 || got[0].FirstOffset != 1 || got[0].LastOffset != 3 || got[0].LastStableOffset != 2 {
		t.Errorf("aborted: %+v, %v", got, err)
	}
	if got, err := l.AbortedTransactions(4, 5); err != nil || len(got) != 0 {
		t.Errorf("aborted after the marker: %+v, %v", got, err)
	}
	check(t, l.TruncateTo(3))
	stable("marker truncated", 1)
	if got, err := l.AbortedTransactions(0, 5); err != nil || len(got) != 0 {
		t.Errorf("aborted after truncating its marker: %+v, %v", got, err)
	}
}

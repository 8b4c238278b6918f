package replication_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// TestPowerCutAfterATruncation: a follower's log is synced, checkpointed, cut, and
// written to again beyond where it ended. Whatever a power cut leaves of that, the
// next start finds whole batches without a hole, and those that were synced after
// the truncation are there.
func TestPowerCutAfterATruncation(t *testing.T) {
	opened := 0
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		m := vfs.NewMem()
		s := openStore(t, m, clock.System(), "/d")
		s.create("t", 1)
		p := s.r.Get("t", 0)
		fill := func(to int64, text string) {
			for o := p.Log().EndOffset(); o < to; o++ {
				b := record.NewBuilder(record.None, 0)
				b.Append(time.Now().UnixMilli(), nil, fmt.Append(nil, text, make([]byte, rng.IntN(2000))), nil)
				out, err := b.Finish(record.NoProducer)
				if err != nil {
					t.Fatal(err)
				}
				record.Batch(out).SetBaseOffset(o)
				if _, err := p.Log().AppendAsFollower(out); err != nil {
					t.Fatal(err)
				}
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		fill(20+rng.Int64N(20), "old")
		must(p.Log().Flush())
		p.Log().SetHighWatermark(p.Log().EndOffset())
		must(s.r.Checkpoint())
		before := p.Log().EndOffset()
		cut := rng.Int64N(before)
		if rng.IntN(4) == 0 {
			must(p.TruncateFullyAndStartAt(cut))
		} else {
			must(p.TruncateTo(cut))
		}
		synced := p.Log().EndOffset()
		if rng.IntN(2) == 0 {
			fill(cut+rng.Int64N(5), "new")
			must(p.Log().Flush())
			synced = p.Log().EndOffset()
		}
		fill(before+5+rng.Int64N(20), "new")
		after := m.CrashClone(vfs.CrashPolicy{Torn: rng, KeepEntries: rng.IntN(2) == 0})
		s.r.Close(1)
		s.c.Close()

		s = openStore(t, after, clock.System(), "/d")
		if p = s.r.Get("t", 0); p == nil { // a batch was lost before one that was not: somebody must look
			must(s.close())
			continue
		}
		opened++
		l := p.Log()
		if l.EndOffset() < synced {
			t.Errorf("seed %d: the log ends at %d, and was synced up to %d", seed, l.EndOffset(), synced)
		}
		next := l.StartOffset()
		must(l.Each(l.StartOffset(), l.EndOffset(), func(b record.Batch) error {
			if err := b.Validate(); err != nil {
				t.Errorf("seed %d: batch at %d: %v", seed, b.BaseOffset(), err)
			}
			if b.BaseOffset() != next {
				t.Errorf("seed %d: batch at %d, want %d", seed, b.BaseOffset(), next)
			}
			next = b.LastOffset() + 1
			return nil
		}))
		must(s.close())
	}
	if opened < 50 {
		t.Errorf("only %d of 200 logs were opened", opened)
	}
}

package replication_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
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

// TestHolesOfACompactedLeader: a follower that copies what compaction has left, and never
// compacts itself, opens again when the topic is not compacted any more, with all that it
// has, also after a truncation into a hole and a power cut.
func TestHolesOfACompactedLeader(t *testing.T) {
	for _, rolled := range []bool{false, true} {
		for _, cut := range []int64{0, 8} { // 0: nothing is cut
			m := vfs.NewMem()
			s := openStore(t, m, clock.System(), "/d")
			configs := []string{"cleanup.policy=compact"}
			if rolled { // with each batch, since the next is an hour younger
				configs = append(configs, "segment.ms=60000")
			}
			s.create("t", 1, configs...)
			p := s.r.Get("t", 0)
			r := new(msg.PartitionChangeRecord)
			r.SetDefaults()
			r.TopicId, r.PartitionId, r.Leader, r.Replicas, r.Isr = p.TopicID, 0, 2, []int32{1, 2}, []int32{1, 2}
			if err := s.c.Change(t.Context(), func(*meta.Image) ([]meta.Record, error) { return []meta.Record{r}, nil }); err != nil {
				t.Fatal(err)
			}
			for _, base := range []int64{0, 5, 9} {
				b := record.NewBuilder(record.None, 0)
				b.Append(time.Now().Add(time.Duration(base-20)*time.Hour).UnixMilli(), []byte("k"), []byte("v"), nil)
				out, err := b.Finish(record.NoProducer)
				if err != nil {
					t.Fatal(err)
				}
				record.Batch(out).SetBaseOffset(base)
				if _, err := p.AppendAsFollower(p.LeaderEpoch(), out, base, 0); err != nil {
					t.Fatal(err)
				}
			}
			want := int64(10)
			if cut > 0 {
				want = cut
				if err := p.TruncateTo(cut); err != nil {
					t.Fatal(err)
				}
			}
			policy := "delete"
			resource := meta.Resource{Type: meta.TopicResource, Name: "t"}
			results, err := s.c.ChangeConfigs(t.Context(), []control.ResourceChange{{Resource: resource, Changes: []control.ConfigChange{{Name: "cleanup.policy", Value: &policy}}}}, static(t), false)
			if err != nil || results[0] != nil {
				t.Fatal(err, results)
			}
			if err := p.Log().Flush(); err != nil {
				t.Fatal(err)
			}
			for _, stop := range []string{"power cut", "clean"} {
				fs := m
				if stop == "power cut" {
					fs = m.CrashClone(vfs.CrashPolicy{})
				} else if err := s.close(); err != nil {
					t.Fatal(err)
				}
				again := openStore(t, fs, clock.System(), "/d")
				if p := again.r.Get("t", 0); p == nil {
					t.Errorf("rolled %t, cut at %d, %s: the log does not open", rolled, cut, stop)
				} else if end := p.Log().EndOffset(); end != want {
					t.Errorf("rolled %t, cut at %d, %s: log end %d, want %d", rolled, cut, stop, end, want)
				}
				if err := again.close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

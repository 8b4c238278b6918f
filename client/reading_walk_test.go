package client

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// TestReadingWalk: an application assigns, seeks, pauses and resumes at random, while
// leaders move, brokers forget fetch sessions, and connections are lost before and
// after the answer. Each partition is read without a gap from where it was set, and
// nothing of one that is paused; in the end all is read, and the end is known.
func TestReadingWalk(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			var calm atomic.Bool
			chance := func(n int) bool { return !calm.Load() && rand.IntN(n) == 0 }
			f := newFake(t, 1, 2, 3)
			f.topic("t", 1, 2, 3, 1)
			f.topic("u", 1, 1)
			all := []TopicPartition{{"t", 0}, {"t", 1}, {"t", 2}, {"t", 3}, {"u", 0}, {"u", 1}}
			f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
				_, fetch := req.(*msg.FetchRequest)
				switch {
				case fetch && chance(25), !fetch && chance(60):
					return nil, "before"
				case fetch && chance(25):
					return nil, "after"
				}
				return nil, ""
			}
			c := newConsumer(t, f, ConsumerOptions{Reset: ResetEarliest, MaxPollRecords: 5})
			next := map[TopicPartition]int64{}
			paused := map[TopicPartition]bool{}
			end := func(tp TopicPartition) int64 {
				f.mu.Lock()
				defer f.mu.Unlock()
				return f.topics[tp.Topic][tp.Partition].end
			}
			poll := func(d time.Duration) {
				ctx, cancel := context.WithTimeout(context.Background(), d)
				defer cancel()
				rs, err := c.Poll(ctx)
				if err != nil && ctx.Err() == nil {
					t.Logf("seed %d: %v", seed, err)
				}
				for _, r := range rs {
					tp := TopicPartition{r.Topic, r.Partition}
					if want, ok := next[tp]; !ok || want != r.Offset || paused[tp] {
						t.Fatalf("seed %d: %v offset %d, want %d, assigned %v, paused %v", seed, tp, r.Offset, want, ok, paused[tp])
					}
					next[tp]++
				}
			}
			assign := func() {
				at := map[TopicPartition]Position{}
				clear(next)
				clear(paused)
				for _, tp := range all {
					if rng.IntN(3) > 0 {
						o := rng.Int64N(end(tp) + 1)
						at[tp], next[tp] = AtOffset(o), o
					}
				}
				c.Assign(at)
			}
			assign()
			for range 150 {
				tp := all[rng.IntN(len(all))]
				switch rng.IntN(14) {
				case 0:
					assign()
				case 1, 2:
					if _, ok := next[tp]; ok {
						o := rng.Int64N(end(tp) + 1)
						if err := c.Seek(tp, AtOffset(o)); err != nil {
							t.Fatal(err)
						}
						next[tp] = o
					}
				case 3:
					if _, ok := next[tp]; ok {
						c.Pause(tp)
						paused[tp] = true
					}
				case 4, 5:
					c.Resume(tp)
					delete(paused, tp)
				case 6:
					f.mu.Lock()
					clear(f.sessions)
					f.mu.Unlock()
				case 7:
					f.move(tp.Topic, tp.Partition, 1+rng.Int32N(3))
				case 8, 9:
					f.fill(tp.Topic, int(tp.Partition), record.None, 1, 1+rng.IntN(4))
				default:
					poll(time.Duration(rng.IntN(700)) * time.Millisecond)
				}
			}
			calm.Store(true)
			c.Resume(all...)
			clear(paused)
			began := time.Now()
			for time.Since(began) < 20*time.Second {
				poll(time.Second)
			}
			for tp, n := range next {
				if n != end(tp) {
					t.Errorf("seed %d: %v at %d of %d", seed, tp, n, end(tp))
				}
				if at, e, ok := c.Position(tp); !ok || at != e {
					t.Errorf("seed %d: %v Position %d %d %v", seed, tp, at, e, ok)
				}
			}
		})
		if t.Failed() {
			return
		}
	}
}

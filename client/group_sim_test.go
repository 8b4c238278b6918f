package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// TestSimulatedGroup lets members come and go while connections break, answers
// get lost, and the coordinator moves. Every record is delivered at least once,
// and each member sees a partition's records in order from a committed offset on.
func TestSimulatedGroup(t *testing.T) {
	for _, s := range seeds(60) {
		synctest.Test(t, func(t *testing.T) { simulateGroup(t, s) })
	}
}

func simulateGroup(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 11))
	var rmu sync.Mutex
	random := func(n int) int { rmu.Lock(); defer rmu.Unlock(); return rng.IntN(n) }
	f := newFake(t, 1, 2)
	f.topic("t", 1, 2, 1, 2, 1)
	for i := range 5 {
		f.fill("t", i, record.LZ4, 10, 20)
	}
	f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
		if r, ok := req.(*msg.OffsetCommitRequest); ok && r.GenerationIdOrMemberEpoch < 0 {
			t.Errorf("seed %d: a commit from outside the group", seed)
		}
		switch req.(type) {
		case *msg.FetchRequest, *msg.OffsetCommitRequest, *msg.ListOffsetsRequest, *msg.OffsetFetchRequest,
			*msg.HeartbeatRequest, *msg.JoinGroupRequest, *msg.SyncGroupRequest, *msg.LeaveGroupRequest, *msg.FindCoordinatorRequest:
			switch random(40) {
			case 0:
				return nil, "before"
			case 1:
				return nil, "after"
			}
		}
		return nil, ""
	}
	var mu sync.Mutex
	seen := map[TopicPartition]map[int64]bool{}
	total := 0
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	member := func(lives time.Duration) {
		o := ConsumerOptions{Group: "g", Reset: ResetEarliest, MaxPollRecords: 7, Assignors: []Assignor{Sticky}, MaxPollInterval: 20 * time.Second}
		o.Options = f.options()
		o.RequestTimeout = 5 * time.Second
		c, err := NewConsumer(o)
		if err != nil {
			t.Error(err)
			return
		}
		if err := c.Subscribe("t"); err != nil {
			t.Error(err)
		}
		life, end := context.WithTimeout(ctx, lives)
		defer end()
		next := map[TopicPartition]int64{}
		for {
			rs, err := c.Poll(life)
			if err != nil {
				if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
					t.Errorf("seed %d: poll: %v", seed, err)
				}
				break
			}
			mu.Lock()
			for _, r := range rs {
				tp := TopicPartition{r.Topic, r.Partition}
				if want, ok := next[tp]; ok && r.Offset > want {
					// Records in between went to another member meanwhile.
					for o := want; o < r.Offset; o++ {
						if !seen[tp][o] {
							t.Errorf("seed %d: %v: offset %d was passed over", seed, tp, o)
						}
					}
				}
				if string(r.Value) != fmt.Sprint(r.Offset) {
					t.Errorf("seed %d: %v: offset %d holds %s", seed, tp, r.Offset, r.Value)
				}
				next[tp] = r.Offset + 1
				if seen[tp] == nil {
					seen[tp] = map[int64]bool{}
				}
				if !seen[tp][r.Offset] {
					seen[tp][r.Offset] = true
					total++
				}
			}
			mu.Unlock()
			time.Sleep(time.Duration(random(300)) * time.Millisecond)
		}
		short, done := context.WithTimeout(context.Background(), 10*time.Second)
		defer done()
		if err := c.Close(short); err != nil && !errors.Is(err, ErrNotMember) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("seed %d: close: %v", seed, err)
		}
	}
	var members sync.WaitGroup
	members.Go(func() { member(time.Hour) })
	for range 3 {
		members.Go(func() {
			time.Sleep(time.Duration(random(5000)) * time.Millisecond)
			member(time.Duration(1+random(20)) * time.Second)
		})
	}
	for second := range 3600 {
		time.Sleep(time.Second)
		if second < 60 && random(15) == 0 {
			f.moveGroup("g", int32(1+random(2)))
		}
		mu.Lock()
		all := total
		mu.Unlock()
		if all == 1000 {
			break
		}
	}
	cancel()
	members.Wait()
	if total != 1000 {
		t.Errorf("seed %d: %d of 1000 records were delivered", seed, total)
	}
}

package replication

import (
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/wire/record"
)

// fetcherOf returns a fetcher, and a partition that the session of its main lane has.
func fetcherOf(t *testing.T) (*fetcher, *lane, *Partition) {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("/t-0", 0o755); err != nil {
		t.Fatal(err)
	}
	lg, err := log.Open(log.Options{FS: fs, Dir: "/t-0", Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lg.Close() })
	o := Options{Clock: clock.System(), Fetching: Fetching{Epoch: func() int64 { return 1 }, Wait: time.Second, MaxBytes: 1 << 20}}
	f := newFetcher(newFetchers(&Replicas{o: o, lg: zap.NewNop()}), source{leader: 2})
	p := &Partition{Topic: "t", Dir: new(dirs.Dir), log: lg}
	l := &lane{f: f, session: 7, epoch: 1, asked: make(map[partitionKey]*followed)}
	f.add(p, 4)
	if _, ok := f.build(l); !ok || asks(l) != 1 {
		t.Fatalf("a new partition is not asked for: %+v", l.req)
	}
	f.waiting = false
	return f, l, p
}

// asks counts the partitions that a request asks for.
func asks(l *lane) (n int) {
	for _, t := range l.req.Topics {
		n += len(t.Partitions)
	}
	return n
}

// A partition that is copied in another leader epoch of the same leader stays in the session. A
// leader forgets what it is to forget after it has taken in what is asked for, so that a
// request with both would leave the partition out for good.
func TestAPartitionIsNotForgottenAndAskedForAtOnce(t *testing.T) {
	f, l, p := fetcherOf(t)
	f.drop(p)
	f.add(p, 5)
	if _, ok := f.build(l); !ok {
		t.Fatal("nothing is asked")
	}
	if n := asks(l); n != 1 || l.req.Topics[0].Partitions[0].CurrentLeaderEpoch != 5 || len(l.req.ForgottenTopicsData) != 0 {
		t.Errorf("asks for %d partitions and forgets %+v, want one asked for and none forgotten", n, l.req.ForgottenTopicsData)
	}
	f.drop(p)
	if _, ok := f.build(l); !ok || asks(l) != 0 || len(l.req.ForgottenTopicsData) != 1 {
		t.Errorf("a partition that is not copied any more is not forgotten: %+v", l.req)
	}
}

// The main lane takes over what the side lane has, as soon as that is back: it does not go on
// without it, which could happen again and again.
func TestTheMainLaneTakesOver(t *testing.T) {
	f, l, p := fetcherOf(t)
	f.drop(p)
	f.add(p, 5)
	f.waiting = true
	side := &lane{f: f}
	if _, _, ok := f.buildAside(side); !ok || asks(side) != 1 {
		t.Fatalf("the side lane does not ask: %+v", side.req)
	}
	f.waiting = false // the main lane is back before the side lane
	if _, ok := f.build(l); ok {
		t.Errorf("the main lane goes on without what the side lane has: %+v", l.req)
	}
	if _, _, ok := f.buildAside(side); ok {
		t.Error("the side lane goes on while the main one waits for it")
	}
	for _, x := range side.asked {
		x.busy = false
	}
	if _, ok := f.build(l); !ok || asks(l) != 1 || len(f.loose) != 0 {
		t.Errorf("the main lane does not take over: %+v", l.req)
	}
}

// A leader is told of a follower's log start offset that has moved up, though nothing else is
// new of the partition, and once.
func TestALogStartThatMovedIsTold(t *testing.T) {
	f, l, p := fetcherOf(t)
	for range 3 {
		b := record.NewBuilder(record.None, 0)
		b.Append(1, nil, []byte("v"), nil)
		batch, err := b.Finish(record.NoProducer)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.log.Append(batch, log.AppendOptions{LeaderEpoch: 4}); err != nil {
			t.Fatal(err)
		}
	}
	p.log.SetHighWatermark(3)
	for _, start := range []int64{1, 2} {
		if err := p.log.AdvanceStart(start); err != nil {
			t.Fatal(err)
		}
		if _, ok := f.build(l); !ok || asks(l) != 1 || l.req.Topics[0].Partitions[0].LogStartOffset != start {
			t.Fatalf("the log start %d is not told: %+v", start, l.req)
		}
		if _, ok := f.build(l); !ok || asks(l) != 0 {
			t.Fatalf("the log start %d is told again: %+v", start, l.req)
		}
	}
	f.drop(p)
	if err := p.log.AdvanceStart(3); err != nil {
		t.Fatal(err)
	}
	if _, ok := f.build(l); asks(l) != 0 || len(f.began.list) != 0 {
		t.Errorf("a partition that is not copied any more is asked for (%v): %+v", ok, l.req)
	}
}

// A partition with a new leader is asked for once although more was copied than its throttle
// allows: it may have all, and be in sync. It waits if it has not.
func TestAThrottleDoesNotHoldBackWhatMayBeInSync(t *testing.T) {
	f, l, p := fetcherOf(t)
	f.drop(p)
	p.throttles.follower = newThrottle(&config.Broker{ReplicationQuotaSamples: 11, ReplicationQuotaSample: time.Second})
	p.throttles.follower.setRate(1)
	p.now = time.Now
	p.throttled.follower.Store(true)
	p.copied(1000)
	for _, behind := range []bool{false, true} {
		f.add(p, 4)
		if _, ok := f.build(l); !ok || asks(l) != 1 {
			t.Fatalf("a partition that may be in sync waits: %+v", l.req)
		}
		x := f.parts[p]
		f.settle(x, false, behind, nil)
		if _, waits := f.loose[x]; waits != behind {
			t.Errorf("behind %v: it waits: %v", behind, waits)
		}
		f.drop(p)
	}
}

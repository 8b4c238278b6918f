package coordinator_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/kerr"
)

// A service has one shard a partition, in the newest epoch that it was told.
func TestService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made []*list
		s := coordinator.NewService(coordinator.ServiceOptions[*list]{New: func() *list {
			made = append(made, new(list))
			return made[len(made)-1]
		}, Clock: clock.System(), Logger: zap.NewNop()})
		if _, err := s.Find("a"); !errors.Is(err, kerr.NotCoordinator) || s.Partition("a") != -1 {
			t.Errorf("without a topic: %v, partition %d", err, s.Partition("a"))
		}
		s.SetPartitions(50)
		at := s.Partition("a")
		if _, err := s.Find("a"); !errors.Is(err, kerr.NotCoordinator) {
			t.Errorf("of a partition that another leads: %v", err)
		}
		store := new(tape)
		s.Elect(at, 3, store)
		synctest.Wait()
		sh, err := s.Find("a")
		if err != nil || sh.Ready() != nil || len(s.All()) != 1 {
			t.Fatalf("elected: %v, %d shards", err, len(s.All()))
		}
		put := func(v string) error {
			return sh.Do(t.Context(), func(*list, time.Time) coordinator.Decision {
				return coordinator.Decision{Records: []coordinator.Record{{Key: []byte("k"), Value: []byte(v)}}}
			})
		}
		if err := put("x"); err != nil {
			t.Fatal(err)
		}
		for _, epoch := range []int32{3, 2} {
			if s.Elect(at, epoch, store); len(made) != 1 {
				t.Errorf("elected in epoch 3, and in %d after that: %d machines", epoch, len(made))
			}
		}
		s.Elect(at, 4, store)
		synctest.Wait()
		if err := put("y"); !errors.Is(err, kerr.NotCoordinator) || len(made) != 2 || !slices.Equal(made[1].values, []string{"x"}) {
			t.Errorf("in a newer epoch the old shard says %v; %d machines", err, len(made))
		}
		s.Resign(at)
		s.Resign(at)
		if _, err := s.Find("a"); !errors.Is(err, kerr.NotCoordinator) || !errors.Is(made[1].unloaded, kerr.NotCoordinator) {
			t.Errorf("resigned: %v, the machine is told %v", err, made[1].unloaded)
		}
		s.Elect(at, 4, store) // as after a directory that failed has come back
		synctest.Wait()
		if sh, err := s.Find("a"); err != nil || sh.Ready() != nil {
			t.Errorf("elected again: %v", err)
		}
		s.Close()
		if s.Elect(at, 5, store); len(s.All()) != 0 || len(made) != 3 {
			t.Errorf("closed: %d shards, %d machines", len(s.All()), len(made))
		}
	})
}

// failing is a machine that fails whenever it has been loaded.
type failing struct{ list }

func (*failing) Next() time.Time { return time.Unix(1, 0) }

func (*failing) Tick(time.Time) coordinator.Decision { panic("boom") }

// A machine that is lost as soon as it is loaded is loaded again at a pace.
func TestAMachineThatFailsAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int64
		sh := coordinator.Start(coordinator.Options[*failing]{New: func() *failing {
			loads.Add(1)
			return new(failing)
		}, Storage: new(tape), Clock: clock.System()})
		defer sh.Stop()
		time.Sleep(time.Hour)
		if n := loads.Load(); n < 100 || n > 500 {
			t.Errorf("loaded %d times in an hour", n)
		}
		if err := sh.Ready(); !errors.Is(err, kerr.CoordinatorLoadInProgress) {
			t.Errorf("its clients are told %v", err)
		}
	})
}

func TestPartitionOfAKey(t *testing.T) {
	// Values of Java's String.hashCode: "" is 0, "polygenelubricants" the least int.
	for id, want := range map[string]int32{"": 0, "polygenelubricants": 0, "a": 97 % 50, "ab": (97*31 + 98) % 50} {
		if got := coordinator.Partition(id, 50); got != want {
			t.Errorf("partition of %q: %d, want %d", id, got, want)
		}
	}
	// Golden values of the 4.3.1 classes, of 7 and of 50 partitions.
	for id, want := range map[string][2]int32{"my-group": {1, 12}, "console-consumer-12345": {6, 6}, "group-é": {6, 33}, "😀": {2, 49}, "txn-1": {6, 10}, "orders.payments_tx-0": {4, 22}} {
		if got := [2]int32{coordinator.Partition(id, 7), coordinator.Partition(id, 50)}; got != want {
			t.Errorf("partitions of %q: %d, want %d", id, got, want)
		}
	}
}

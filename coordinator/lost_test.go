package coordinator_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

// What is owed must survive a machine that is lost at the moment when it is due.
func TestOwedRecordsSurviveALostMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := new(tape), new(list)
		machines := []*list{m}
		sh := coordinator.Start(coordinator.Options[coordinator.Machine]{New: func() coordinator.Machine {
			x := m
			if len(machines) > 1 || x.loaded != 0 || x.unloaded != nil {
				x = new(list)
			}
			machines = append(machines, x)
			return x
		}, Storage: s, Clock: clock.System()})
		defer sh.Stop()
		synctest.Wait()
		s.mu.Lock()
		s.broken = kerr.NotEnoughReplicas
		s.mu.Unlock()
		sh.Send(func(coordinator.Machine, time.Time) coordinator.Decision {
			return coordinator.Decision{Records: keyed(0, 30, 100), Divisible: true}
		}, func(err error) { t.Error(err) })
		synctest.Wait()
		s.mu.Lock()
		s.broken = nil
		s.mu.Unlock()
		// A command that panics while what is owed gets due.
		go sh.Send(func(coordinator.Machine, time.Time) coordinator.Decision {
			time.Sleep(time.Second)
			panic("boom")
		}, func(error) {})
		time.Sleep(time.Minute)
		synctest.Wait()
		var got []string
		for _, x := range machines[1:] {
			got = numbers(x.values)
		}
		if !slices.Equal(got, count(30)) {
			t.Errorf("of 30 owed records %d are in the state, %d batches in the log: %v", len(got), len(s.batches), got)
		}
	})
}

// slowLog is a long log that takes a second a batch to read.
type slowLog struct {
	*tape
	read int
}

func (s *slowLog) Load(_ context.Context, f func(record.Batch) error) error {
	b := record.NewBuilder(record.None, 0)
	b.Append(0, []byte("k"), []byte("v"), nil)
	out, _ := b.Finish(record.NoProducer)
	for range 3600 {
		time.Sleep(time.Second)
		s.read++
		if err := f(out); err != nil {
			return err
		}
	}
	return nil
}

// A stop does not wait until the rest of a long log is loaded.
func TestStopWhileLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowLog{tape: new(tape)}
		sh := coordinator.Start(coordinator.Options[coordinator.Machine]{New: func() coordinator.Machine { return new(list) }, Storage: s, Clock: clock.System()})
		time.Sleep(1500 * time.Millisecond)
		at := time.Now()
		sh.Stop()
		if took := time.Since(at); took > 10*time.Second {
			t.Errorf("the stop took %v, until all %d batches were loaded", took, s.read)
		}
	})
}

// A commit that fails leaves nothing of it in the state, also if the machine was lost
// meanwhile.
func TestFailedCommitAfterAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := new(tape), new(list)
		sh := start(m, s, record.None)
		defer sh.Stop()
		synctest.Wait()
		s.hold = true
		done := make(chan error, 1)
		go func() { done <- sh.Do(t.Context(), put("lost")) }()
		synctest.Wait()
		sh.Send(func(coordinator.Machine, time.Time) coordinator.Decision { panic("boom") }, func(error) {})
		synctest.Wait()
		s.mu.Lock()
		s.batches, s.hold = nil, false
		s.mu.Unlock()
		s.release(kerr.NotLeaderOrFollower) // the batch is not committed
		synctest.Wait()
		var state []string
		err := sh.Do(t.Context(), func(m coordinator.Machine, _ time.Time) coordinator.Decision {
			state = m.(*list).values
			return coordinator.Decision{}
		})
		if err == nil && len(state) > 0 {
			t.Errorf("the client was told %v, the log has no record, and the shard serves the state %q", <-done, state)
		}
	})
}

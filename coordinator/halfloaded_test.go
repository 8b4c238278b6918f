package coordinator_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/record"
)

// endless is a log whose load ends only with the shard.
type endless struct{ *tape }

func (endless) Load(ctx context.Context, _ func(record.Batch) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// asked is a machine that notes what becomes of it.
type asked struct {
	list
	next func()
}

func (a *asked) Next() time.Time {
	a.next()
	return time.Time{}
}

// A stop in the midst of a load does not have commands run on what was loaded until
// then: a group would have none of the offsets that the rest of the log has.
func TestNoCommandRunsOnHalfALog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sh *coordinator.Shard[coordinator.Machine]
		m := &asked{next: func() {
			if err := sh.Ready(); err == nil {
				t.Error("a shard that was stopped while it loaded takes commands")
			}
		}}
		sh = coordinator.Start(coordinator.Options[coordinator.Machine]{New: func() coordinator.Machine { return m }, Storage: endless{new(tape)}, Clock: clock.System()})
		synctest.Wait()
		sh.Stop()
		if m.unloaded == nil {
			t.Error("the machine was not unloaded")
		}
	})
}

// What is posted while a shard loads, or is loaded again, runs afterwards and before
// what is sent then.
func TestPostedWhileLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tape{slow: make(chan struct{})}
		m := new(list)
		sh := start(m, s, record.None)
		defer sh.Stop()
		sh.Post(put("first"))
		synctest.Wait()
		close(s.slow)
		synctest.Wait()
		if err := sh.Do(t.Context(), put("second")); err != nil || !slices.Equal(m.values, []string{"first", "second"}) {
			t.Fatalf("%v, %v", m.values, err)
		}
		s.mu.Lock()
		s.slow = make(chan struct{})
		s.mu.Unlock()
		release := make(chan struct{})
		sh.Send(func(coordinator.Machine, time.Time) coordinator.Decision {
			<-release
			panic("boom")
		}, func(error) {})
		synctest.Wait()
		sh.Post(put("third")) // before the machine is lost
		close(release)
		synctest.Wait()
		sh.Post(put("fourth"))
		synctest.Wait()
		close(s.slow)
		synctest.Wait()
		err := sh.Do(t.Context(), func(m coordinator.Machine, _ time.Time) coordinator.Decision {
			if got := m.(*list).values; !slices.Equal(got, []string{"first", "second", "third", "fourth"}) {
				t.Errorf("%v", got)
			}
			return coordinator.Decision{}
		})
		if err != nil {
			t.Error(err)
		}
	})
}

package coordinator_test

import (
	"context"
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

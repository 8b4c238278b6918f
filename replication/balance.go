package replication

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
)

// Elections are those that the active controller holds by itself from time to time, a zero
// interval for not at all.
type Elections struct {
	// Preferred is how often the first replicas are made leaders again where they are in
	// sync (leader.imbalance.check.interval.seconds, auto.leader.rebalance.enable).
	Preferred time.Duration
	// Unclean is how often leaders are looked for in partitions without one, of topics that
	// would rather lose records (unclean.leader.election.interval.ms).
	Unclean time.Duration
}

// holdElections holds elections of a kind every so often, until ctx ends.
func (c *Controller) holdElections(ctx context.Context, every time.Duration, kind string, decide func(control.Facts) []meta.Record) {
	if every <= 0 {
		return
	}
	for clock.Sleep(ctx, c.o.Clock, every) == nil {
		for more := true; more && ctx.Err() == nil; { // each finds so many at most
			held := 0
			_, err := c.commit(ctx, func(m *meta.Image) ([]meta.Record, error) {
				out := decide(c.facts(m))
				held = len(out)
				return out, nil
			})
			more = held > 0 && err == nil
			switch {
			case err != nil && ctx.Err() == nil:
				c.lg.Warn("cannot hold elections", zap.String("kind", kind), zap.Error(err))
			case held > 0:
				c.lg.Info("held elections", zap.String("kind", kind), zap.Int("partitions", held))
			}
		}
	}
}

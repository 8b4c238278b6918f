package replication

import (
	"context"

	"github.com/klamm-io/klamm/wire/kerr"
)

// bell is a Watcher that rings.
type bell chan struct{}

// Moved implements Watcher.
func (b bell) Moved(*Partition) {
	select {
	case b <- struct{}{}:
	default:
	}
}

// AwaitCommitted waits until every record below offset is committed. It ends with
// an error when this broker no longer leads in that epoch, the log directory has
// failed, or ctx has ended.
func (p *Partition) AwaitCommitted(ctx context.Context, epoch int32, offset int64) error {
	rings := make(bell, 1)
	var watch Watch
	p.Watch(&watch, HighWatermark, rings)
	defer watch.End()
	for {
		if err := p.CheckLeader(-1); err != nil {
			return err
		}
		if p.LeaderEpoch() != epoch {
			return kerr.NotLeaderOrFollower
		}
		if p.log.HighWatermark() >= offset {
			return nil
		}
		select {
		case <-rings:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

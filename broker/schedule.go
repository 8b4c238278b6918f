package broker

import (
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
)

// checkpointInterval is how often the checkpoint files are written
// (log.flush.offset.checkpoint.interval.ms and its kin).
func (b *Broker) checkpointInterval() time.Duration {
	return max(min(b.conf.FlushOffsetCheckpointInterval, b.conf.FlushStartCheckpointInterval, b.conf.HighWatermarkCheckpoint), time.Second)
}

func (b *Broker) scheduleCheckpoint() {
	b.schedule(&b.checkpoint, b.checkpointInterval, func() {
		if err := b.replicas.CheckpointIfMoved(); err != nil {
			b.lg.Error("cannot write checkpoints", zap.Error(err))
		}
	})
}

func (b *Broker) scheduleUpkeep() {
	b.schedule(&b.upkeep, func() time.Duration { return max(b.conf.ProducerIDExpirationCheckInterval, time.Second) }, b.replicas.ExpireProducers)
}

// scheduleFlush has logs synced for the sake of flush.ms, as long as there are
// topics that have one. It is called again when there may be another.
func (b *Broker) scheduleFlush() {
	every := b.replicas.FlushEvery()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || every == 0 || b.flushing != nil {
		return
	}
	b.flushing = b.o.Clock.AfterFunc(every, func() {
		b.job(func() {
			log.Contain(b.lg, "flush", func() {
				if err := b.replicas.FlushDue(b.o.Clock.Now()); err != nil {
					b.lg.Error("cannot flush", zap.Error(err))
				}
			})
			b.mu.Lock()
			b.flushing = nil
			b.mu.Unlock()
			b.scheduleFlush()
		})
	})
}

// firstRetention is how long after the start retention is enforced at the latest
// (LogManager's initial delay).
const firstRetention = 30 * time.Second

func (b *Broker) scheduleRetention() {
	wait := min(firstRetention, b.conf.LogRetentionCheckInterval)
	b.schedule(&b.retention, func() time.Duration { return wait }, func() {
		wait = b.conf.LogRetentionCheckInterval
		if err := b.replicas.Retain(b.o.Clock.Now()); err != nil {
			b.lg.Error("retention failed", zap.Error(err))
		}
	})
}

// scheduleShrinking has leaders look for followers that lag.
func (b *Broker) scheduleShrinking() {
	b.schedule(&b.shrinking, func() time.Duration { return b.conf.ReplicaLagTimeMax / 2 }, func() { b.replicas.Shrink(b.conf.ReplicaLagTimeMax) })
}

func (b *Broker) scheduleCleaning() {
	b.schedule(&b.cleaning, func() time.Duration { return b.replicas.CleanEvery(b.controller.Image()) }, func() {
		if err := b.replicas.Clean(b.controller.Image()); err != nil {
			b.lg.Error("compaction failed", zap.Error(err))
		}
	})
}

// schedule has f called again and again until the broker is closed.
func (b *Broker) schedule(timer *clock.Timer, every func() time.Duration, f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	*timer = b.o.Clock.AfterFunc(every(), func() {
		b.job(func() {
			log.Contain(b.lg, "background", f) // the next run is not the last one's business
			b.schedule(timer, every, f)
		})
	})
}

// job runs f on a goroutine of its own that Close waits for: a clock's callbacks
// must not block, and f writes to the disk.
func (b *Broker) job(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.jobs.Go(f)
	}
}

package replication

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/meta"
)

// ExpireProducers forgets producers that were silent for producer.id.expiration.ms.
func (r *Replicas) ExpireProducers() {
	r.Each(func(p *Partition) bool {
		p.log.ExpireProducers()
		return true
	})
}

// FlushDue syncs logs that have unsynced records older than their flush.ms.
func (r *Replicas) FlushDue(now time.Time) error {
	var err error
	r.Each(func(p *Partition) bool {
		l := p.log
		if every := l.Config().FlushInterval; every > 0 && l.Err() == nil && l.RecoveryPoint() < l.EndOffset() {
			if since := p.unsyncedSince(now, l.RecoveryPoint()); now.Sub(since) >= every {
				if e := l.Flush(); e != nil && !errors.Is(e, log.ErrClosed) {
					err = errors.Join(err, fmt.Errorf("flush %s-%d: %w", p.Topic, p.Index, e))
				}
			}
		}
		return true
	})
	return err
}

// unsyncedSince returns when the records from the recovery point on were first
// seen unsynced.
func (p *Partition) unsyncedSince(now time.Time, recoveryPoint int64) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unsynced.IsZero() || p.unsyncedFrom != recoveryPoint {
		p.unsynced, p.unsyncedFrom = now, recoveryPoint
	}
	return p.unsynced
}

// FlushEvery returns how often FlushDue must be called for the sake of flush.ms, 0
// for not at all.
func (r *Replicas) FlushEvery() time.Duration {
	const least = 10 * time.Millisecond
	shortest := time.Duration(0)
	r.Each(func(p *Partition) bool {
		if every := p.log.Config().FlushInterval; every > 0 && (shortest == 0 || every/2 < shortest) {
			shortest = max(every/2, least)
		}
		return true
	})
	return shortest
}

// Retain removes what retention.ms, retention.bytes and the log start offsets no
// longer keep (log.retention.check.interval.ms). It is called by one goroutine
// at a time.
func (r *Replicas) Retain(now time.Time) error {
	return r.retention.Retain(now, func(f func(*log.Log) bool) { r.Each(func(p *Partition) bool { return f(p.log) }) })
}

// Clean compacts every log that is due, and returns when there is nothing more to
// do. It is called every log.cleaner.backoff.ms by one goroutine at a time.
func (r *Replicas) Clean(image *meta.Image) error {
	k, err := config.CleanerFrom(r.layers(image))
	if err != nil {
		return err
	}
	return r.cleaner.Clean(k)
}

// CleanEvery returns how long to wait between two calls of Clean.
func (r *Replicas) CleanEvery(image *meta.Image) time.Duration {
	k, err := config.CleanerFrom(r.layers(image))
	if err != nil {
		r.lg.Error("config of the cleaner does not resolve", zap.Error(err))
		return 15 * time.Second
	}
	return max(k.Backoff, 10*time.Millisecond)
}

// StopCleaning ends the rounds under way and waits for them. No more begin.
func (r *Replicas) StopCleaning() { r.cleaner.Close() }

// layers are where broker configs come from.
func (r *Replicas) layers(image *meta.Image) config.Layers {
	return control.Layers(image, meta.Resource{Type: meta.BrokerResource, Name: fmt.Sprint(r.o.NodeID)}, r.o.Static)
}

// FirstDirty implements dirs.Cleanable.
func (p *Partition) FirstDirty() int64 {
	if offset, known := p.Dir.FirstDirty(dirs.Name(p.Topic, p.Index)); known {
		return offset
	}
	return -1
}

// Truncations implements dirs.Cleanable.
func (p *Partition) Truncations() int64 { return p.truncations.Load() }

// Closed implements dirs.Cleanable.
func (p *Partition) Closed() bool { return p.closed.Load() }

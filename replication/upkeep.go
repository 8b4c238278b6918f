package replication

import (
	"errors"
	"fmt"
	"time"
)

// Upkeep does what is due from time to time in every partition: it forgets
// producers that were silent for producer.id.expiration.ms, and syncs logs that
// have unsynced records older than their flush.ms.
func (r *Replicas) Upkeep(now time.Time) error {
	var err error
	r.Each(func(p *Partition) bool {
		l := p.log
		l.ExpireProducers()
		if every := l.Config().FlushInterval; every > 0 && l.RecoveryPoint() < l.EndOffset() {
			if since := p.unsyncedSince(now, l.RecoveryPoint()); now.Sub(since) >= every {
				if e := l.Flush(); e != nil {
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

// FlushEvery returns how often Upkeep must be called for the sake of flush.ms,
// at most otherwise.
func (r *Replicas) FlushEvery(otherwise time.Duration) time.Duration {
	const least = 10 * time.Millisecond
	r.Each(func(p *Partition) bool {
		if every := p.log.Config().FlushInterval; every > 0 {
			otherwise = max(min(otherwise, every/2), least)
		}
		return true
	})
	return otherwise
}

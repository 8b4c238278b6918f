package replication

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/log"
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
	trusted, ahead := r.steady.Now(now, now.Sub(r.began))
	if ahead > 0 {
		r.lg.Warn("the clock is ahead of the time that has passed: old records stay until it has run evenly for an hour", zap.Duration("ahead", ahead))
	}
	var err error
	r.Each(func(p *Partition) bool {
		if p.log.Err() != nil {
			return true
		}
		if _, e := p.log.Retain(trusted); e != nil && p.log.Err() == nil && !errors.Is(e, log.ErrClosed) {
			err = errors.Join(err, fmt.Errorf("retention of %s-%d: %w", p.Topic, p.Index, e))
		}
		return true
	})
	return err
}

package dirs

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/log"
)

// Retention removes what retention.ms, retention.bytes and the log start offsets no
// longer keep. It goes by a SteadyClock, and is owned by one goroutine.
type Retention struct {
	began  time.Time // when the broker started, by its clock
	steady SteadyClock
	lg     *zap.Logger
}

// NewRetention returns the retention of a broker that started at began.
func NewRetention(began time.Time, lg *zap.Logger) *Retention {
	return &Retention{began: began, lg: lg}
}

// Before takes when a broker was last here; see SteadyClock.Before.
func (r *Retention) Before(known time.Time) { r.steady.Before(known, r.began) }

// Retain goes through the logs that each goes through, at now
// (log.retention.check.interval.ms).
func (r *Retention) Retain(now time.Time, each func(func(*log.Log) bool)) error {
	trusted, ahead := r.steady.Now(now, now.Sub(r.began))
	if ahead > 0 {
		r.lg.Warn("the clock is ahead of the time that has passed: old records stay until it has run evenly for an hour", zap.Duration("ahead", ahead))
	}
	var err error
	each(func(l *log.Log) bool {
		if l.Err() != nil {
			return true
		}
		if _, e := l.Retain(trusted); e != nil && l.Err() == nil && !errors.Is(e, log.ErrClosed) {
			err = errors.Join(err, fmt.Errorf("retention of %s-%d: %w", l.Topic(), l.Partition(), e))
		}
		return true
	})
	return err
}

package client

import (
	"math/rand/v2"
	"time"
)

// pace says when partitions whose requests failed are tried again. Their
// pauses grow each by itself, but end at the same few moments: a request asks
// for many partitions, and with moments of their own there would be as many
// requests as partitions.
type pace struct {
	first, limit time.Duration
	start        time.Time // moments are counted from here; differs between clients
}

func newPace(o *Options) pace {
	return pace{o.RetryBackoff, o.RetryBackoffMax, time.Now().Add(-time.Duration(rand.Int64N(int64(time.Hour))))}
}

// next returns the moment of try number n+1, after n that failed: backoff after
// now, rounded up to a quarter of a pause.
func (p *pace) next(now time.Time, n int) time.Time {
	d := backoff(p.first, p.limit, n)
	if d <= 0 {
		return now
	}
	step := max(steady(p.first, p.limit, n)/4, 1)
	late := now.Add(d).Sub(p.start) % step
	return now.Add(d + (step-late)%step)
}

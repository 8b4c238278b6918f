package replication

import (
	"sync/atomic"
	"time"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/wire/kerr"
)

// Lease is for how long a broker may take it that the controller has not fenced it: for a
// session since it sent the last heartbeat that was answered. Once that is over, others
// may lead what it leads, and it acknowledges nothing and serves nobody, until a heartbeat
// is answered again. A nil Lease lasts for ever. It is safe for concurrent use.
type Lease struct {
	clock   clock.Clock
	session time.Duration
	base    time.Time
	until   atomic.Int64 // nanoseconds after base
}

// NewLease returns a lease that lasts for one session from now on.
func NewLease(c clock.Clock, session time.Duration) *Lease {
	l := &Lease{clock: c, session: session, base: c.Now()}
	l.Renew(l.base)
	return l
}

// Renew has the lease last for one session after a heartbeat that was sent at a time, and
// was answered.
func (l *Lease) Renew(sent time.Time) {
	if l != nil {
		l.until.Store(int64(sent.Add(l.session).Sub(l.base)))
	}
}

// Left returns how long the lease lasts, 0 if it is over.
func (l *Lease) Left() time.Duration {
	if l == nil {
		return 1<<63 - 1
	}
	return max(time.Duration(l.until.Load())-l.clock.Now().Sub(l.base), 0)
}

// Over reports whether the lease is over.
func (l *Lease) Over() bool { return l != nil && l.Left() == 0 }

// Suspended reports whether this broker's leaders serve nobody, since the controller is not
// heard of.
func (r *Replicas) Suspended() bool { return r.o.Lease.Over() }

// Suspend answers those who wait for partitions that this broker leads: the lease is over.
func (r *Replicas) Suspend() {
	r.Each(func(p *Partition) bool {
		if p.Leads() {
			p.fail(kerr.NotLeaderOrFollower)
		}
		return true
	})
}

package control

import (
	"slices"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// What a BrokerRegistrationChangeRecord changes.
const (
	fence      = 1
	unfence    = -1
	inShutdown = 1
)

func registrationChange(id int32, epoch int64) *msg.BrokerRegistrationChangeRecord {
	r := new(msg.BrokerRegistrationChangeRecord)
	r.SetDefaults()
	r.BrokerId, r.BrokerEpoch = id, epoch
	return r
}

// registered returns the broker if its registration is the one that epoch names: what
// concerns an earlier process of the broker must not hit the one that runs now.
func registered(m *meta.Image, id int32, epoch int64) *meta.Broker {
	if b := m.Broker(id); b != nil && b.Epoch == epoch {
		return b
	}
	return nil
}

// FenceBroker takes a broker that is not heard of any more out of office and out of the
// in-sync sets. There are no records if it is fenced or has registered anew
// (ReplicationControlManager.handleBrokerFenced).
func FenceBroker(f Facts, id int32, epoch int64) ([]meta.Record, error) {
	b := registered(f.Image, id, epoch)
	if b == nil || b.Fenced {
		return nil, nil
	}
	r := registrationChange(id, epoch)
	r.Fenced = fence
	return append([]meta.Record{r}, f.withdraw(id)...), nil
}

// UnfenceBroker lets a broker lead and be in sync, and makes it the leader where there is
// none and it has all that is committed. There are no records if it is not fenced or has
// registered anew (ReplicationControlManager.handleBrokerUnfenced).
func UnfenceBroker(f Facts, id int32, epoch int64) ([]meta.Record, error) {
	b := registered(f.Image, id, epoch)
	if b == nil || !b.Fenced {
		return nil, nil
	}
	r := registrationChange(id, epoch)
	r.Fenced = unfence
	leaderless := func(p *meta.Partition) bool { return p.Leader == meta.NoLeader && slices.Contains(p.Replicas, id) }
	return append([]meta.Record{r}, f.sweep(leaderless, func(c *partitionChange) {
		acceptable := c.acceptable
		c.acceptable = func(other int32) bool {
			return acceptable(other) || other == id && !b.ShuttingDown && dirOnline(f.Image, c.was, id)
		}
	})...), nil
}

// ShutDownBroker begins the controlled shutdown of a broker: others lead, and it leaves
// the in-sync sets. There are no records if it has begun, is fenced, or has registered anew
// (ReplicationControlManager.handleBrokerInControlledShutdown).
func ShutDownBroker(f Facts, id int32, epoch int64) ([]meta.Record, error) {
	b := registered(f.Image, id, epoch)
	if b == nil || b.Fenced || b.ShuttingDown {
		return nil, nil
	}
	r := registrationChange(id, epoch)
	r.InControlledShutdown = inShutdown
	return append([]meta.Record{r}, f.withdraw(id)...), nil
}

// withdraw returns the changes that take a broker out of the in-sync sets and of office.
// It stays eligible where min.insync.replicas are missing.
func (f Facts) withdraw(id int32) []meta.Record {
	return f.sweep(func(p *meta.Partition) bool { return p.Leader == id || slices.Contains(p.InSync, id) }, func(c *partitionChange) {
		if !bugs.Planted(bugs.FencedStaysInSync) {
			c.inSync = without(c.inSync, id)
		}
		c.exclude(id)
	})
}

// exclude keeps a broker from being elected.
func (c *partitionChange) exclude(id int32) {
	acceptable := c.acceptable
	c.acceptable = func(other int32) bool { return other != id && acceptable(other) }
}

// remaining returns the log directories that a broker has left.
func remaining(b *meta.Broker, offline []prim.UUID) []prim.UUID {
	return slices.DeleteFunc(slices.Clone(b.LogDirs), func(dir prim.UUID) bool { return slices.Contains(offline, dir) })
}

// dirsOffline returns the changes for log directories that a broker has lost: its
// replicas there leave the in-sync sets and the eligible leaders
// (ReplicationControlManager.handleDirectoriesOffline, where they stay eligible: but a
// directory whose writes fail may have lost what it took before). A broker that has lost
// all of them keeps them in its registration, which says nothing by none, and is fenced.
func dirsOffline(f Facts, b *meta.Broker, offline []prim.UUID) []meta.Record {
	left := remaining(b, offline)
	if len(left) == len(b.LogDirs) {
		return nil
	}
	there := func(p *meta.Partition) bool {
		dir := directoryOf(p, b.ID) // zero may be any
		return (!dir.IsZero() && slices.Contains(offline, dir) || dir.IsZero() && len(left) == 0) &&
			(p.Leader == b.ID || slices.Contains(p.InSync, b.ID) || slices.Contains(p.EligibleLeader, b.ID))
	}
	out := f.sweep(there, func(c *partitionChange) {
		c.inSync, c.unclean = without(c.inSync, b.ID), func(id int32) bool { return id == b.ID }
		c.exclude(b.ID)
	})
	if len(left) > 0 {
		r := registrationChange(b.ID, b.Epoch)
		r.LogDirs = left
		out = append(out, r)
	}
	return out
}

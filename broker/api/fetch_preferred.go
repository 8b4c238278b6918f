package api

import (
	"cmp"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/isr"
	"github.com/klamm-io/klamm/replication"
)

// firstWithRacks is the first version of Fetch whose consumers say in which rack they are,
// and follow a preferred read replica (KIP-392).
const firstWithRacks = 11

// atLeader says that a consumer reads from the leader that it asks.
const atLeader = -1

// preferred returns which follower a consumer in a rack is to read a partition from, or atLeader.
// Only a leader sends consumers elsewhere (ReplicaManager.findPreferredReadReplica).
func (h *Handlers) preferred(c *Call, p *replication.Partition, f *fetched, rack string) int32 {
	if rack == "" || h.Broker.ReplicaSelector != config.RackAwareSelector || !p.Leads() {
		return atLeader
	}
	image := h.Controller.Image()
	return closest(rack, h.Broker.Rack, p.Reachable(f.offset), func(id int32) (rack string, up bool) {
		b := image.Broker(id)
		if b == nil || b.Fenced || b.Rack == nil {
			return "", false
		}
		_, _, up = h.endpoint(c.Session, b)
		return *b.Rack, up
	})
}

// closest chooses a replica for a consumer as RackAwareReplicaSelector does. The leader is
// the choice if it is in the consumer's rack, or if nobody is; else the follower there that
// has most, then the one that has lagged for the shortest time, then the one of the highest
// id. in returns the rack of a follower, and whether the consumer can reach it.
func closest(rack, leader string, followers []isr.Reachable, in func(id int32) (rack string, up bool)) int32 {
	if rack == "" || rack == leader {
		return atLeader
	}
	best := isr.Reachable{ID: atLeader}
	for _, f := range followers {
		if at, up := in(f.ID); !up || at != rack {
			continue
		}
		if best.ID == atLeader || cmp.Or(cmp.Compare(f.End, best.End), cmp.Compare(best.Lag, f.Lag), cmp.Compare(f.ID, best.ID)) > 0 {
			best = f
		}
	}
	return best.ID
}

package client

import (
	"slices"
	"time"
)

// preference is the replica that the leader of a partition has named for a consumer in a
// rack (client.rack) to read from, instead of the leader itself (KIP-392). It is forgotten
// after metadata.max.age.ms, so that the leader is asked again, after an error, with another
// leader, and when the metadata do not have the replica, as in the Java consumer.
//
// Consumer.mu guards it. The zero value is of a partition that is read from the leader.
type preference struct {
	id    int32
	until time.Time // zero for none
}

func (r *preference) set(id int32, until time.Time) { *r = preference{id, until} }

// clear forgets the replica, and reports whether there was one.
func (r *preference) clear() bool {
	had := !r.until.IsZero()
	*r = preference{}
	return had
}

// holds reports whether there is a replica that is preferred at now.
func (r *preference) holds(now time.Time) bool { return now.Before(r.until) }

// source returns the broker to read a partition from: the preferred replica, or else the
// leader. gone says that the preferred replica, which is returned, is forgotten since the
// metadata know no such broker, or name it offline or no replica: they may be old.
func (r *preference) source(p *PartitionInfo, brokers map[int32]BrokerInfo, now time.Time) (id int32, gone bool) {
	if !r.holds(now) {
		r.clear()
		return p.Leader, false
	}
	if _, known := brokers[r.id]; !known || slices.Contains(p.Offline, r.id) || !slices.Contains(p.Replicas, r.id) {
		id = r.id
		r.clear()
		return id, true
	}
	return r.id, false
}

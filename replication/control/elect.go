package control

import (
	"slices"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// ElectionType says which replica is to lead; the values are the protocol's.
type ElectionType int8

// The kinds of election.
const (
	PreferredElection ElectionType = 0 // the first replica, if it is in sync
	UncleanElection   ElectionType = 1 // any replica, where there is no leader
)

// PartitionName names a partition by topic and index.
type PartitionName struct {
	Topic     string
	Partition int32
}

// ElectLeaders decides on elections in partitions, each on its own. It returns an
// error or nil for each.
func ElectLeaders(m *meta.Image, kind ElectionType, partitions []PartitionName) ([]meta.Record, []error) {
	results := make([]error, len(partitions))
	var out []meta.Record
	held := make(map[PartitionName]bool)
	for i, p := range partitions {
		record, err := planElection(m, kind, p)
		if err == nil && held[p] {
			err = errNotNeeded
		}
		if results[i] = err; err == nil {
			held[p] = true
			out = append(out, record)
		}
	}
	return out, results
}

// errNotNeeded is the answer where the leader is the one asked for.
var errNotNeeded = kerr.Refuse(kerr.ElectionNotNeeded, "Leader election not needed for topic partition.")

// planElection returns the record that makes another replica the leader.
func planElection(m *meta.Image, kind ElectionType, name PartitionName) (meta.Record, error) {
	t := m.Topic(name.Topic)
	if t == nil {
		return nil, kerr.Refuse(kerr.UnknownTopicOrPartition, "No such topic as %s", name.Topic)
	}
	if name.Partition < 0 || int(name.Partition) >= len(t.Partitions) {
		return nil, kerr.Refuse(kerr.UnknownTopicOrPartition, "No such partition as %s-%d", name.Topic, name.Partition)
	}
	p := t.Partitions[name.Partition]
	r := new(msg.PartitionChangeRecord)
	r.SetDefaults()
	r.TopicId, r.PartitionId = t.ID, name.Partition
	if kind == PreferredElection {
		preferred := p.Replicas[0]
		switch {
		case p.Leader == preferred:
			return nil, errNotNeeded
		case !active(m, preferred) || !slices.Contains(p.InSync, preferred):
			return nil, kerr.Refuse(kerr.PreferredLeaderNotAvailable, "The preferred leader was not available.")
		}
		r.Leader = preferred
		return r, nil
	}
	if p.Leader != meta.NoLeader {
		return nil, errNotNeeded
	}
	// One that is in sync loses nothing, wherever it stands among the replicas.
	at := slices.IndexFunc(p.Replicas, func(id int32) bool { return active(m, id) && slices.Contains(p.InSync, id) })
	if at < 0 {
		at = slices.IndexFunc(p.Replicas, func(id int32) bool { return active(m, id) })
	}
	if at < 0 {
		return nil, kerr.Refuse(kerr.EligibleLeadersNotAvailable, "Eligible topic partition leaders are not available.")
	}
	r.Leader = p.Replicas[at]
	if !slices.Contains(p.InSync, r.Leader) {
		const recovering = 1
		r.Isr, r.LeaderRecoveryState = []int32{r.Leader}, recovering
	}
	return r, nil
}

// afterUncleanShutdown returns the records for a broker that has come back and may have
// lost the ends of its logs. Others that are in sync have every record: it leaves the
// in-sync set, and one of them leads
// (ReplicationControlManager.handleUncleanBrokerShutdown). Where it is the only one and
// leads, a new leader epoch begins.
func afterUncleanShutdown(m *meta.Image, id int32) []meta.Record {
	var out []meta.Record
	m.Topics("", func(t *meta.Topic) bool {
		for i, p := range t.Partitions {
			r := withoutBroker(m, t, int32(i), p, id)
			if r == nil {
				continue
			}
			if r.Isr == nil && p.Leader == id {
				r.Leader = id
			}
			out = append(out, r)
		}
		return true
	})
	return out
}

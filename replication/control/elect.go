package control

import (
	"slices"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
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
func ElectLeaders(f Facts, kind ElectionType, partitions []PartitionName) ([]meta.Record, []error) {
	results := make([]error, len(partitions))
	var out []meta.Record
	held := make(map[PartitionName]bool)
	for i, p := range partitions {
		record, err := f.planElection(kind, p)
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
func (f Facts) planElection(kind ElectionType, name PartitionName) (meta.Record, error) {
	t := f.Image.Topic(name.Topic)
	if t == nil {
		return nil, kerr.Refuse(kerr.UnknownTopicOrPartition, "No such topic as %s", name.Topic)
	}
	if name.Partition < 0 || int(name.Partition) >= len(t.Partitions) {
		return nil, kerr.Refuse(kerr.UnknownTopicOrPartition, "No such partition as %s-%d", name.Topic, name.Partition)
	}
	p := t.Partitions[name.Partition]
	c := f.change(t, name.Partition, p, f.settings(t))
	if kind == PreferredElection {
		switch {
		case p.Leader == p.Replicas[0]:
			return nil, errNotNeeded
		case !slices.Contains(c.inSync, p.Replicas[0]) || !c.acceptable(p.Replicas[0]):
			return nil, kerr.Refuse(kerr.PreferredLeaderNotAvailable, "The preferred leader was not available.")
		}
		c.election = preferredElection
		return c.record(), nil
	}
	if p.Leader != meta.NoLeader {
		return nil, errNotNeeded
	}
	c.election = uncleanElection
	r := c.record()
	if r == nil || r.Leader < 0 {
		return nil, kerr.Refuse(kerr.EligibleLeadersNotAvailable, "Eligible topic partition leaders are not available.")
	}
	return r, nil
}

// maxElections bounds the elections of PreferredElections and UncleanElections.
const maxElections = 1000

// PreferredElections makes the first replica of partitions their leader where it is in
// sync (auto.leader.rebalance.enable): of 1,000 at most. There may be more if the records
// are as many.
func PreferredElections(f Facts) []meta.Record {
	strayed := func(p *meta.Partition) bool {
		return p.Leader != p.Replicas[0] && slices.Contains(p.InSync, p.Replicas[0]) && active(f.Image, p.Replicas[0]) && dirOnline(f.Image, p, p.Replicas[0])
	}
	return f.sweepSome(maxElections, strayed, func(c *partitionChange) { c.election = preferredElection })
}

// UncleanElections finds leaders for partitions that have none and whose topics would
// rather lose records (unclean.leader.election.enable): of 1,000 at most. There may be more
// if the records are as many (maybeElectUncleanLeaders).
func UncleanElections(f Facts) []meta.Record {
	leaderless := func(p *meta.Partition) bool { return p.Leader == meta.NoLeader }
	return f.sweepSome(maxElections, leaderless, func(*partitionChange) {})
}

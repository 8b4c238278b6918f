package control

import (
	"slices"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// ISRMember is a broker that a leader wants in sync.
type ISRMember struct {
	Broker int32
	Epoch  int64 // in which it has fetched (KIP-903); -1 for any
}

// AlterPartition is what a leader wants changed of one partition.
type AlterPartition struct {
	Index          int32
	LeaderEpoch    int32 // as the leader knows them
	PartitionEpoch int32
	NewISR         []ISRMember
	Recovering     bool // from an unclean election
}

// AlterTopic is what a leader wants changed of one topic.
type AlterTopic struct {
	ID         prim.UUID
	Partitions []AlterPartition
}

// AlterPartitionsRequest is what a leader wants changed of the partitions that it leads.
type AlterPartitionsRequest struct {
	Broker      int32
	BrokerEpoch int64
	Topics      []AlterTopic
}

// AlterPartitionsResult says what became of an AlterPartitionsRequest.
type AlterPartitionsResult struct {
	Err    error // of all; nothing was done then, and Topics is nil
	Topics []AlteredTopic
}

// AlteredTopic says what became of an AlterTopic: Partitions stand in its order.
type AlteredTopic struct {
	ID         prim.UUID
	Partitions []AlteredPartition
}

// AlteredPartition says what became of an AlterPartition.
type AlteredPartition struct {
	Index int32
	// Err is why nothing was done, except for kerr.NewLeaderElected: the change has
	// completed a reassignment, and another replica leads.
	Err   error
	State *meta.Partition // after the change, if Err is nil
}

// checkEpoch refuses what an earlier process of a broker asks for
// (ClusterControlManager.checkBrokerEpoch).
func checkEpoch(m *meta.Image, id int32, epoch int64) error {
	switch b := m.Broker(id); {
	case b == nil:
		return kerr.Refuse(kerr.StaleBrokerEpoch, "No broker registration found for broker id %d", id)
	case b.Epoch != epoch:
		return kerr.Refuse(kerr.StaleBrokerEpoch, "Expected broker epoch %d, but got broker epoch %d", b.Epoch, epoch)
	}
	return nil
}

// AlterPartitions decides on what a leader wants changed: each partition on its own, if the
// epochs are those that it goes by (ReplicationControlManager.alterPartition).
func AlterPartitions(f Facts, r AlterPartitionsRequest) (out []meta.Record, result AlterPartitionsResult) {
	if err := checkEpoch(f.Image, r.Broker, r.BrokerEpoch); err != nil {
		return nil, AlterPartitionsResult{Err: err}
	}
	type name struct {
		topic prim.UUID
		index int32
	}
	changed := make(map[name]*meta.Partition)
	for _, at := range r.Topics {
		answers := AlteredTopic{ID: at.ID}
		t := f.Image.TopicByID(at.ID)
		var s settings
		if t != nil {
			s = f.settings(t)
		}
		for _, ap := range at.Partitions {
			answer := AlteredPartition{Index: ap.Index}
			var p *meta.Partition
			if t != nil && ap.Index >= 0 && int(ap.Index) < len(t.Partitions) {
				p = t.Partitions[ap.Index]
				if now := changed[name{at.ID, ap.Index}]; now != nil {
					p = now
				}
			}
			if answer.Err = checkAlter(f.Image, r.Broker, t, p, ap); answer.Err == nil {
				var record *msg.PartitionChangeRecord
				if record, answer.State, answer.Err = f.alter(t, p, ap, s); record != nil {
					out = append(out, record)
					changed[name{at.ID, ap.Index}] = p.Changed(record)
				}
			}
			answers.Partitions = append(answers.Partitions, answer)
		}
		result.Topics = append(result.Topics, answers)
	}
	return out, result
}

// alter returns the record of a change that was checked, nil if nothing changes, and how
// the partition is then.
func (f Facts) alter(t *meta.Topic, p *meta.Partition, ap AlterPartition, s settings) (*msg.PartitionChangeRecord, *meta.Partition, error) {
	c := f.change(t, ap.Index, p, s)
	c.inSync = members(ap.NewISR)
	c.recovering = ap.Recovering
	r := c.record()
	if r == nil {
		return nil, p, nil
	}
	next := p.Changed(r)
	if next.Leader != p.Leader {
		return r, nil, kerr.NewLeaderElected
	}
	return r, next, nil
}

func members(isr []ISRMember) []int32 {
	out := make([]int32, len(isr))
	for i, m := range isr {
		out[i] = m.Broker
	}
	return out
}

// checkAlter returns why a leader may not change a partition as it wants to; p is nil
// where there is none (ReplicationControlManager.validateAlterPartitionData).
func checkAlter(m *meta.Image, broker int32, t *meta.Topic, p *meta.Partition, ap AlterPartition) error {
	switch {
	case t == nil:
		return kerr.UnknownTopicId
	case p == nil:
		return kerr.UnknownTopicOrPartition
	case ap.LeaderEpoch > p.LeaderEpoch || ap.PartitionEpoch > p.PartitionEpoch:
		return kerr.NotController // the leader knows of a later one
	case ap.LeaderEpoch < p.LeaderEpoch:
		return kerr.FencedLeaderEpoch
	case broker != p.Leader:
		return kerr.InvalidRequest
	case ap.PartitionEpoch < p.PartitionEpoch && !bugs.Planted(bugs.StaleProposal):
		return kerr.InvalidUpdateVersion
	}
	isr := members(ap.NewISR)
	for i, id := range isr {
		if !slices.Contains(p.Replicas, id) || slices.Contains(isr[:i], id) {
			return kerr.InvalidRequest
		}
	}
	if !slices.Contains(isr, p.Leader) || ap.Recovering && (len(isr) > 1 || !p.Recovering) {
		return kerr.InvalidRequest
	}
	for _, member := range ap.NewISR {
		b := m.Broker(member.Broker)
		if b != nil && bugs.Planted(bugs.IneligibleJoins) {
			continue
		}
		if bugs.Planted(bugs.AnyBrokerEpoch) {
			member.Epoch = -1
		}
		if b == nil || b.Fenced || b.ShuttingDown || member.Epoch != -1 && member.Epoch != b.Epoch || !dirOnline(m, p, member.Broker) {
			return kerr.IneligibleReplica
		}
	}
	return nil
}

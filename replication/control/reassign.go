package control

import (
	"slices"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// Reassignment is a partition on its way from some replicas to others.
type Reassignment struct {
	Partition                  int32
	Replicas, Adding, Removing []int32
}

// Reassigning returns the topics that have partitions on their way.
func Reassigning(m *meta.Image) (out []*meta.Topic) {
	m.Topics("", func(t *meta.Topic) bool {
		if slices.ContainsFunc(t.Partitions, reassigning) {
			out = append(out, t)
		}
		return true
	})
	return out
}

func reassigning(p *meta.Partition) bool { return len(p.Adding) > 0 || len(p.Removing) > 0 }

// Reassignments returns the partitions of a topic that are on their way: those
// of indexes, or all if it is nil.
func Reassignments(t *meta.Topic, indexes []int32) (out []Reassignment) {
	add := func(i int32) {
		if p := t.Partitions[i]; reassigning(p) {
			out = append(out, Reassignment{i, p.Replicas, p.Adding, p.Removing})
		}
	}
	if indexes == nil {
		for i := range t.Partitions {
			add(int32(i))
		}
	}
	for _, i := range indexes {
		if i >= 0 && int(i) < len(t.Partitions) {
			add(i)
		}
	}
	return out
}

// Move asks for other replicas of a partition.
type Move struct {
	PartitionName
	Replicas []int32 // nil cancels what is under way
}

// AlterReassignments decides on moves of partitions, each on its own. It returns an error
// or nil for each. A move is done at once where the replicas are there already; else it is
// done by the AlterPartitions with which the new ones are all in sync
// (ReplicationControlManager.alterPartitionReassignments).
func AlterReassignments(f Facts, moves []Move, mayChangeFactor bool) (out []meta.Record, results []error) {
	results = make([]error, len(moves))
	changed := make(map[PartitionName]*meta.Partition)
	for i, move := range moves {
		t, p, err := f.moving(move, changed[move.PartitionName])
		var record *msg.PartitionChangeRecord
		switch {
		case err != nil:
		case move.Replicas == nil:
			record, err = f.cancel(t, move.Partition, p)
		default:
			record, err = f.reassign(t, p, move, mayChangeFactor)
		}
		if results[i] = err; record != nil {
			out = append(out, record)
			changed[move.PartitionName] = p.Changed(record)
		}
	}
	if len(out) > maxRecords {
		for i := range results {
			results[i] = errTooManyRecords
		}
		return nil, results
	}
	return out, results
}

// moving returns the partition of a move, which an earlier one of the same request may
// have changed.
func (f Facts) moving(move Move, changed *meta.Partition) (*meta.Topic, *meta.Partition, error) {
	t := f.Image.Topic(move.Topic)
	if t == nil {
		return nil, nil, kerr.Refuse(kerr.UnknownTopicOrPartition, "Unable to find a topic named %s.", move.Topic)
	}
	if move.Partition < 0 || int(move.Partition) >= len(t.Partitions) {
		return nil, nil, kerr.Refuse(kerr.UnknownTopicOrPartition, "Unable to find partition %s:%d.", move.Topic, move.Partition)
	}
	if changed != nil {
		return t, changed, nil
	}
	return t, t.Partitions[move.Partition], nil
}

// reassign returns the record with which a move begins, or with which it is done; nil if
// the partition has just these replicas. A move that takes the place of another one counts
// the replicas that the other one brought in as brought in by itself.
func (f Facts) reassign(t *meta.Topic, p *meta.Partition, move Move, mayChangeFactor bool) (*msg.PartitionChangeRecord, error) {
	target := move.Replicas
	if err := checkReplicas(f.Image, target); err != nil {
		return nil, err
	}
	if now := len(p.Replicas) - len(p.Removing); !mayChangeFactor && len(target) != now {
		return nil, kerr.Refuse(kerr.InvalidReplicationFactor, "The replication factor is changed from %d to %d", now, len(target))
	}
	c := f.change(t, move.Partition, p, f.settings(t))
	c.election = onlineElection // nobody leads uncleanly for a move
	removing := slices.DeleteFunc(slices.Clone(p.Replicas), func(id int32) bool { return slices.Contains(target, id) })
	slices.Sort(removing)
	// Also those that go again: a cancel restores what was before the two moves.
	adding := append(slices.DeleteFunc(slices.Clone(target), func(id int32) bool { return slices.Contains(p.Replicas, id) }), p.Adding...)
	slices.Sort(adding)
	c.setReplicas(slices.Concat(target, removing))
	c.removing, c.adding = removing, adding
	return c.record(), nil
}

// cancel returns the record that takes out again what a move has brought in
// (PartitionReassignmentRevert).
func (f Facts) cancel(t *meta.Topic, index int32, p *meta.Partition) (*msg.PartitionChangeRecord, error) {
	if !reassigning(p) {
		return nil, kerr.NoReassignmentInProgress
	}
	s := f.settings(t)
	brought := func(id int32) bool { return slices.Contains(p.Adding, id) }
	replicas := slices.DeleteFunc(slices.Clone(p.Replicas), brought)
	inSync := slices.DeleteFunc(slices.Clone(p.InSync), brought)
	if len(replicas) == 0 {
		return nil, kerr.Refuse(kerr.InvalidReplicaAssignment, "Invalid replica assignment: addingReplicas contains all replicas.")
	}
	unclean := func() error {
		return kerr.Refuse(kerr.InvalidReplicaAssignment, "Unable to revert partition assignment for %s:%d because it would require an unclean leader election.", t.Name, index)
	}
	if len(p.InSync) > 0 && len(inSync) == 0 && !s.unclean {
		return nil, unclean()
	}
	c := f.change(t, index, p, s)
	c.setReplicas(replicas)
	c.inSync, c.removing, c.adding = inSync, nil, nil
	r := c.record()
	if next := p.Changed(r); len(p.InSync) > 0 && len(inSync) == 0 && next.Leader == meta.NoLeader {
		return nil, unclean() // and nobody is there who could lead
	}
	return r, nil
}

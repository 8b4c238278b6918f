package control

import (
	"slices"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
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

// CheckReassignment returns why a partition cannot be given other replicas, nil
// if it has just these already. Nil replicas ask to cancel what is under way.
func CheckReassignment(m *meta.Image, topic string, index int32, replicas []int32, mayChangeFactor bool) error {
	t := m.Topic(topic)
	if t == nil {
		return kerr.Refuse(kerr.UnknownTopicOrPartition, "Unable to find a topic named %s.", topic)
	}
	if index < 0 || int(index) >= len(t.Partitions) {
		return kerr.Refuse(kerr.UnknownTopicOrPartition, "Unable to find partition %s:%d.", topic, index)
	}
	p := t.Partitions[index]
	if replicas == nil && !reassigning(p) {
		return kerr.NoReassignmentInProgress
	}
	if replicas != nil {
		if err := checkReplicas(m, replicas); err != nil {
			return err
		}
		if !mayChangeFactor && len(replicas) != len(p.Replicas) {
			return kerr.Refuse(kerr.InvalidReplicationFactor, "The replication factor is changed from %d to %d", len(p.Replicas), len(replicas))
		}
		if slices.Equal(replicas, p.Replicas) && !reassigning(p) {
			return nil
		}
	}
	return kerr.Refuse(kerr.InvalidReplicaAssignment, "This version of the broker cannot move partition %s:%d between brokers.", topic, index)
}

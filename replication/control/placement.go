package control

import (
	"slices"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// active reports whether a broker is there to lead: it is neither fenced nor shutting
// down (ClusterControlManager.isActive).
func active(m *meta.Image, id int32) bool {
	b := m.Broker(id)
	if bugs.Planted(bugs.FencedElected) {
		return b != nil
	}
	return b != nil && !b.Fenced && !b.ShuttingDown
}

// newPartition returns the record of a partition at its beginning: the active ones of
// its replicas are in sync, and the first of them leads. There is one at least.
func newPartition(m *meta.Image, topic prim.UUID, index int32, replicas []int32) *msg.PartitionRecord {
	var inSync []int32
	directories := make([]prim.UUID, len(replicas))
	for i, id := range replicas {
		if active(m, id) {
			inSync = append(inSync, id)
		}
		if b := m.Broker(id); len(b.LogDirs) == 1 {
			directories[i] = b.LogDirs[0]
		}
	}
	return &msg.PartitionRecord{PartitionId: index, TopicId: topic, Replicas: replicas, Isr: inSync, Leader: inSync[0], Directories: directories}
}

// assign returns the replicas of every partition of a new topic.
func assign(f Facts, s TopicSpec, d Defaults) ([][]int32, error) {
	if len(s.Assignment) > 0 {
		switch {
		case s.ReplicationFactor != -1:
			return nil, kerr.Refuse(kerr.InvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1.")
		case s.Partitions != -1:
			return nil, kerr.Refuse(kerr.InvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1.")
		}
		return explicit(f.Image, s.Assignment, 0, 0)
	}
	partitions, factor := s.Partitions, s.ReplicationFactor
	if partitions == -1 {
		partitions = d.Partitions
	}
	if factor == -1 {
		factor = d.ReplicationFactor
	}
	if partitions <= 0 {
		return nil, kerr.Refuse(kerr.InvalidPartitions, "Number of partitions was set to an invalid non-positive value.")
	}
	if factor <= 0 {
		return nil, kerr.Refuse(kerr.InvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value.")
	}
	return place(f, 0, partitions, factor)
}

// explicit checks an assignment that the client made. Its partitions must be
// numbered from first on; factor is the number of replicas of each, 0 for any
// as long as all agree.
func explicit(m *meta.Image, assignment map[int32][]int32, first, factor int) ([][]int32, error) {
	out := make([][]int32, len(assignment))
	for i := range out {
		replicas, ok := assignment[int32(first+i)]
		if !ok {
			return nil, kerr.Refuse(kerr.InvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence")
		}
		if err := checkReplicas(m, replicas); err != nil {
			return nil, err
		}
		if factor == 0 {
			factor = len(replicas)
		}
		if len(replicas) != factor {
			return nil, kerr.Refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes a partition with %d replica(s), but this is not consistent with previous partitions, which have %d replica(s).", len(replicas), factor)
		}
		if !slices.ContainsFunc(replicas, func(id int32) bool { return active(m, id) }) {
			return nil, kerr.Refuse(kerr.InvalidReplicaAssignment, "All brokers specified in the manual partition assignment for partition %d are fenced or in controlled shutdown.", first+i)
		}
		out[i] = replicas
	}
	return out, nil
}

func checkReplicas(m *meta.Image, replicas []int32) error {
	if len(replicas) == 0 {
		return kerr.Refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.")
	}
	seen := make(map[int32]bool)
	for _, id := range replicas {
		if m.Broker(id) == nil {
			return kerr.Refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes broker %d, but no such broker is registered.", id)
		}
		if seen[id] {
			return kerr.Refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes the broker %d more than once.", id)
		}
		seen[id] = true
	}
	return nil
}

// place spreads the replicas of partitions over the brokers: leaders go round robin
// from a random live broker on, followers follow their leader. Where brokers name racks,
// each partition has its replicas in as many of them as it can, and the leaders go round
// robin over the racks. Fenced brokers get a replica only where the live ones of a rack are
// too few, and those that are shutting down none (StripedReplicaPlacer).
func place(f Facts, first int, partitions int32, factor int16) ([][]int32, error) {
	live := f.Image.Live()
	fenced := slices.DeleteFunc(f.Image.Brokers(), func(b *meta.Broker) bool { return !b.Fenced || b.ShuttingDown })
	switch n := len(live) + len(fenced); {
	case len(live) == 0:
		return nil, kerr.Refuse(kerr.InvalidReplicationFactor, "Unable to replicate the partition %d time(s): All brokers are currently fenced.", factor)
	case int(factor) > n:
		return nil, kerr.Refuse(kerr.InvalidReplicationFactor, "Unable to replicate the partition %d time(s): The target replication factor of %d cannot be reached because only %d broker(s) are registered or some brokers have all their log directories cordoned.", factor, factor, n)
	}
	racks := newRacks(f.Chance, live, fenced)
	out := make([][]int32, partitions)
	for i := range out {
		out[i] = racks.place(first+i, int(factor))
	}
	return out, nil
}

// homeless returns why new partitions cannot be kept, if one of them has its only
// replica on a broker that cannot hold another.
func (f Facts) homeless(assignment [][]int32) error {
	for _, replicas := range assignment {
		if f.Full == nil || len(replicas) > 1 {
			continue
		}
		if err := f.Full(replicas[0]); err != nil {
			return kerr.Refuse(kerr.KafkaStorageError, "Every log directory of broker %d is offline: %v", replicas[0], err)
		}
	}
	return nil
}

package control

import (
	"slices"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// DirAssignment says which log directory of a broker has a replica.
type DirAssignment struct {
	Dir       prim.UUID
	Topic     prim.UUID
	Partition int32
}

// AssignDirs notes where a broker has put replicas, each on its own. There is an error or
// nil for each; err is why nothing was done. Until it is noted, the controller does not
// know what is lost with a directory of a broker that has several (KIP-858,
// ReplicationControlManager.handleAssignReplicasToDirs).
func AssignDirs(f Facts, broker int32, epoch int64, assignments []DirAssignment) (out []meta.Record, results []error, err error) {
	results = make([]error, len(assignments))
	if err := checkEpoch(f.Image, broker, epoch); err != nil {
		return nil, results, err
	}
	type name struct {
		topic prim.UUID
		index int32
	}
	changed := make(map[name]*meta.Partition)
	for i, a := range assignments {
		t, p, err := f.held(broker, a)
		if results[i] = err; err != nil {
			continue
		}
		at := name{a.Topic, a.Partition}
		if now := changed[at]; now != nil {
			p = now
		}
		if r := f.assignDir(t, p, broker, a); r != nil {
			out = append(out, r)
			changed[at] = p.Changed(r)
		}
	}
	return out, results, nil
}

// held returns the partition of an assignment, if it and the directory are the broker's.
func (f Facts) held(broker int32, a DirAssignment) (*meta.Topic, *meta.Partition, error) {
	t := f.Image.TopicByID(a.Topic)
	switch {
	case !slices.Contains(f.Image.Broker(broker).LogDirs, a.Dir):
		return nil, nil, kerr.LogDirNotFound
	case t == nil:
		return nil, nil, kerr.UnknownTopicId
	case a.Partition < 0 || int(a.Partition) >= len(t.Partitions):
		return nil, nil, kerr.UnknownTopicOrPartition
	case !slices.Contains(t.Partitions[a.Partition].Replicas, broker):
		return nil, nil, kerr.NotLeaderOrFollower
	}
	return t, t.Partitions[a.Partition], nil
}

// assignDir returns the record that notes a directory, nil if it is noted already.
func (f Facts) assignDir(t *meta.Topic, p *meta.Partition, broker int32, a DirAssignment) *msg.PartitionChangeRecord {
	c := f.change(t, a.Partition, p, f.settings(t))
	c.directories = c.directoriesOf(p.Replicas)
	c.directories[slices.Index(p.Replicas, broker)] = a.Dir
	return c.record()
}

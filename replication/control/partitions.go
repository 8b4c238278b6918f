package control

import (
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
)

// PartitionsSpec asks for more partitions of a topic.
type PartitionsSpec struct {
	Name       string
	Count      int32
	Assignment [][]int32 // of the new partitions; nil leaves it to the controller
}

// CreatePartitions decides on partitions to add to topics, each on its own. It
// returns an error or nil for each.
func CreatePartitions(f Facts, specs []PartitionsSpec) ([]meta.Record, []error) {
	results := make([]error, len(specs))
	var out []meta.Record
	room := maxPartitions
	for i, s := range specs {
		records, err := planPartitions(f, s, room)
		results[i] = err
		out = append(out, records...)
		if room -= len(records); err == errFull {
			room = 0
		}
	}
	return out, results
}

// errFull means that a request asks for more partitions than one change may
// make. As in Kafka, whose batch of records is full then and has no code for it,
// nothing that comes after it in the request fits either.
var errFull error = kerr.UnknownServerError

// planPartitions returns the records that add partitions to one topic, at most
// room.
func planPartitions(f Facts, s PartitionsSpec, room int) ([]meta.Record, error) {
	m := f.Image
	t := m.Topic(s.Name)
	if t == nil {
		return nil, kerr.UnknownTopicOrPartition
	}
	have := int32(len(t.Partitions))
	switch {
	case s.Count == have:
		return nil, kerr.Refuse(kerr.InvalidPartitions, "Topic already has %d partition(s).", have)
	case s.Count < have:
		return nil, kerr.Refuse(kerr.InvalidPartitions, "The topic %s currently has %d partition(s); %d would not be an increase.", s.Name, have, s.Count)
	}
	factor := len(t.Partitions[0].Replicas)
	var assignment [][]int32
	var err error
	if s.Assignment != nil {
		if len(s.Assignment) != int(s.Count-have) {
			return nil, kerr.Refuse(kerr.InvalidReplicaAssignment, "Attempted to add %d additional partition(s), but only %d assignment(s) were specified.", s.Count-have, len(s.Assignment))
		}
	}
	if int(s.Count-have) > room {
		return nil, errFull
	}
	if s.Assignment != nil {
		byIndex := make(map[int32][]int32)
		for i, replicas := range s.Assignment {
			byIndex[have+int32(i)] = replicas
		}
		assignment, err = explicit(m, byIndex, int(have), factor)
	} else {
		assignment, err = place(f, int(have), s.Count-have, int16(factor))
	}
	if err == nil {
		err = f.homeless(assignment)
	}
	if err != nil {
		return nil, err
	}
	var out []meta.Record
	for i, replicas := range assignment {
		out = append(out, newPartition(m, t.ID, have+int32(i), replicas))
	}
	return out, nil
}

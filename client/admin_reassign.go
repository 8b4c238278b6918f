package client

import (
	"context"
	"maps"
	"slices"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// Reassignment is a partition on its way from some replicas to others.
type Reassignment struct {
	Replicas []int32 // all that it has now, the target first
	Adding   []int32 // those of the target that are new
	Removing []int32 // those that go once the target is in sync
}

// Target returns the replicas that the partition will have.
func (r Reassignment) Target() []int32 {
	return slices.DeleteFunc(slices.Clone(r.Replicas), func(id int32) bool { return slices.Contains(r.Removing, id) })
}

// AlterPartitionReassignments gives partitions other replicas, the preferred leader
// first. A nil list cancels what is under way. It returns the error of each partition;
// kerr.NoReassignmentInProgress says that there was nothing to cancel. A reassignment
// has begun when the call returns, and goes on by itself. With keepFactor a partition
// that has another number of replicas than is asked for is refused with
// kerr.InvalidReplicationFactor, by brokers of Kafka 4.1 or later.
func (a *Admin) AlterPartitionReassignments(ctx context.Context, to map[TopicPartition][]int32, keepFactor bool) (map[TopicPartition]error, error) {
	req := new(msg.AlterPartitionReassignmentsRequest)
	req.SetDefaults()
	req.TimeoutMs = a.timeoutMs()
	for _, t := range byTopic(slices.Collect(maps.Keys(to))) {
		rt := msg.AlterPartitionReassignmentsRequestReassignableTopic{Name: t.topic}
		for _, i := range t.partitions {
			rt.Partitions = append(rt.Partitions, msg.AlterPartitionReassignmentsRequestReassignablePartition{PartitionIndex: i, Replicas: to[TopicPartition{t.topic, i}]})
		}
		req.Topics = append(req.Topics, rt)
	}
	out := make(map[TopicPartition]error)
	err := a.onController(ctx, "AlterPartitionReassignments", func(ctx context.Context, cn versioned) error {
		v, err := cn.Version(wire.AlterPartitionReassignments)
		req.AllowReplicationFactorChange = err != nil || v < 1 || !keepFactor
		resp := new(msg.AlterPartitionReassignmentsResponse)
		if err := cn.Do(ctx, req, resp); err != nil {
			return err
		}
		if err := because(resp.ErrorCode, resp.ErrorMessage); err != nil {
			return err
		}
		for _, t := range resp.Responses {
			for _, p := range t.Partitions {
				if kerr.Code(p.ErrorCode) == kerr.NotController {
					return kerr.NotController
				}
				out[TopicPartition{t.Name, p.PartitionIndex}] = because(p.ErrorCode, p.ErrorMessage)
			}
		}
		return nil
	})
	return out, err
}

// ListPartitionReassignments returns the partitions that are on their way: of those
// named, or of all.
func (a *Admin) ListPartitionReassignments(ctx context.Context, tps ...TopicPartition) (out map[TopicPartition]Reassignment, err error) {
	req := new(msg.ListPartitionReassignmentsRequest)
	req.SetDefaults()
	req.TimeoutMs = a.timeoutMs()
	for _, t := range byTopic(tps) {
		req.Topics = append(req.Topics, msg.ListPartitionReassignmentsRequestListPartitionReassignmentsTopics{Name: t.topic, PartitionIndexes: t.partitions})
	}
	err = a.onController(ctx, "ListPartitionReassignments", func(ctx context.Context, cn versioned) error {
		resp := new(msg.ListPartitionReassignmentsResponse)
		if err := cn.Do(ctx, req, resp); err != nil {
			return err
		}
		if err := because(resp.ErrorCode, resp.ErrorMessage); err != nil {
			return err
		}
		out = make(map[TopicPartition]Reassignment)
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				out[TopicPartition{t.Name, p.PartitionIndex}] = Reassignment{p.Replicas, p.AddingReplicas, p.RemovingReplicas}
			}
		}
		return nil
	})
	return out, err
}

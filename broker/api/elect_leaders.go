package api

import (
	"errors"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of ElectLeaders add to version 0:
//
//	v1   request: ElectionType; response: ErrorCode
//	v2   compact and tagged fields

// electLeaders answers ElectLeaders (key 43, v0-v2): the preferred replica leads
// again, or one that was not in sync where there is no leader. A request for all
// partitions is told only of those where something was to be done.
func (h *Handlers) electLeaders(c *Call, req *msg.ElectLeadersRequest) (*msg.ElectLeadersResponse, error) {
	all := req.TopicPartitions == nil
	topics := req.TopicPartitions
	if all {
		h.Controller.Image().Topics("", func(t *meta.Topic) bool {
			out := msg.ElectLeadersRequestTopicPartitions{Topic: t.Name, Partitions: make([]int32, len(t.Partitions))}
			for i := range out.Partitions {
				out.Partitions[i] = int32(i)
			}
			topics = append(topics, out)
			return true
		})
	}
	var names []control.PartitionName
	for _, t := range topics {
		for _, p := range t.Partitions {
			names = append(names, control.PartitionName{Topic: t.Topic, Partition: p})
		}
	}
	resp := new(msg.ElectLeadersResponse)
	kind := control.ElectionType(req.ElectionType)
	var results []error
	if kind == control.PreferredElection || kind == control.UncleanElection {
		ctx, cancel := change(c, req.TimeoutMs)
		defer cancel()
		var err error
		if results, err = h.Controller.ElectLeaders(ctx, kind, names); err != nil {
			resp.ErrorCode = int16(h.code(err))
			results = refuseAll(len(names), err)
		}
	} else {
		err := kerr.Refuse(kerr.InvalidRequest, "Unknown election type %d", req.ElectionType)
		resp.ErrorCode = int16(h.code(err))
		results = refuseAll(len(names), err)
	}
	for _, t := range topics {
		out := msg.ElectLeadersResponseReplicaElectionResult{Topic: t.Topic}
		for _, p := range t.Partitions {
			err := results[0]
			results = results[1:]
			if all && errors.Is(err, kerr.ElectionNotNeeded) {
				continue
			}
			out.PartitionResult = append(out.PartitionResult, msg.ElectLeadersResponsePartitionResult{PartitionId: p, ErrorCode: int16(h.code(err)), ErrorMessage: text(err)})
		}
		resp.ReplicaElectionResults = append(resp.ReplicaElectionResults, out)
	}
	return resp, nil
}

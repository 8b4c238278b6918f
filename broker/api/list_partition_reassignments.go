package api

import (
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/msg"
)

// ListPartitionReassignments has one version, 0.

// listPartitionReassignments answers ListPartitionReassignments (key 46, v0):
// the partitions that are on their way, of all or of those named. What is not
// there is on no way.
func (h *Handlers) listPartitionReassignments(_ *Call, req *msg.ListPartitionReassignmentsRequest) (*msg.ListPartitionReassignmentsResponse, error) {
	resp := new(msg.ListPartitionReassignmentsResponse)
	image := h.Controller.Image()
	add := func(topic string, moves []control.Reassignment) {
		if len(moves) == 0 {
			return
		}
		out := msg.ListPartitionReassignmentsResponseOngoingTopicReassignment{Name: topic}
		for _, m := range moves {
			out.Partitions = append(out.Partitions, msg.ListPartitionReassignmentsResponseOngoingPartitionReassignment{
				PartitionIndex: m.Partition, Replicas: m.Replicas, AddingReplicas: m.Adding, RemovingReplicas: m.Removing})
		}
		resp.Topics = append(resp.Topics, out)
	}
	if req.Topics == nil {
		for _, t := range control.Reassigning(image) {
			add(t.Name, control.Reassignments(t, nil))
		}
		return resp, nil
	}
	for _, t := range req.Topics {
		if found := image.Topic(t.Name); found != nil {
			add(t.Name, control.Reassignments(found, t.PartitionIndexes))
		}
	}
	return resp, nil
}

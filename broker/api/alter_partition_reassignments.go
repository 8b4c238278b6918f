package api

import (
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of AlterPartitionReassignments add to version 0:
//
//	v1   request: AllowReplicationFactorChange; response: AllowReplicationFactorChange

// alterPartitionReassignments answers AlterPartitionReassignments (key 45,
// v0-v1). Each partition is answered on its own, as often as it stands there.
func (h *Handlers) alterPartitionReassignments(c *Call, req *msg.AlterPartitionReassignmentsRequest) (*msg.AlterPartitionReassignmentsResponse, error) {
	resp := new(msg.AlterPartitionReassignmentsResponse)
	resp.SetDefaults()
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	if len(req.Topics) > 0 {
		resp.ErrorMessage = nil
	}
	var moves []control.Move
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			moves = append(moves, control.Move{PartitionName: control.PartitionName{Topic: t.Name, Partition: p.PartitionIndex}, Replicas: p.Replicas})
		}
	}
	ctx, cancel := change(c, req.TimeoutMs)
	defer cancel()
	results, err := h.Controller.AlterReassignments(ctx, moves, req.AllowReplicationFactorChange)
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = int16(h.code(err)), words(err)
		results = refuseAll(len(moves), err)
	}
	for _, t := range req.Topics {
		out := msg.AlterPartitionReassignmentsResponseReassignableTopicResponse{Name: t.Name}
		for _, p := range t.Partitions {
			err := results[0]
			results = results[1:]
			out.Partitions = append(out.Partitions, msg.AlterPartitionReassignmentsResponseReassignablePartitionResponse{
				PartitionIndex: p.PartitionIndex, ErrorCode: int16(h.code(err)), ErrorMessage: words(err)})
		}
		resp.Responses = append(resp.Responses, out)
	}
	return resp, nil
}

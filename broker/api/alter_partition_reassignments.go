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
func (h *Handlers) alterPartitionReassignments(_ *Call, req *msg.AlterPartitionReassignmentsRequest) (*msg.AlterPartitionReassignmentsResponse, error) {
	resp := new(msg.AlterPartitionReassignmentsResponse)
	resp.SetDefaults()
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	if len(req.Topics) > 0 {
		resp.ErrorMessage = nil
	}
	image := h.Controller.Image()
	for _, t := range req.Topics {
		out := msg.AlterPartitionReassignmentsResponseReassignableTopicResponse{Name: t.Name}
		for _, p := range t.Partitions {
			err := control.CheckReassignment(image, t.Name, p.PartitionIndex, p.Replicas, req.AllowReplicationFactorChange)
			out.Partitions = append(out.Partitions, msg.AlterPartitionReassignmentsResponseReassignablePartitionResponse{
				PartitionIndex: p.PartitionIndex, ErrorCode: int16(h.code(err)), ErrorMessage: words(err)})
		}
		resp.Responses = append(resp.Responses, out)
	}
	return resp, nil
}

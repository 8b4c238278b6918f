package api

import (
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of SyncGroup add to version 0:
//
//	v1   response: ThrottleTimeMs
//	v2   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v3   request: GroupInstanceId
//	v4   compact and tagged fields
//	v5   request: ProtocolType, ProtocolName; response: ProtocolType, ProtocolName

// syncGroup answers SyncGroup (key 14, v0-v5), once the leader has sent the
// assignments.
func (h *Handlers) syncGroup(c *Call, req *msg.SyncGroupRequest) (*msg.SyncGroupResponse, error) {
	refuse := func(err error) *msg.SyncGroupResponse {
		return &msg.SyncGroupResponse{ErrorCode: int16(coordinator.Code(err))}
	}
	if req.GroupId == "" {
		return refuse(kerr.InvalidGroupId), nil
	}
	if c.Version() >= 5 && (req.ProtocolType == nil || req.ProtocolName == nil) {
		return refuse(kerr.InconsistentGroupProtocol), nil // KIP-559
	}
	sh, err := h.Groups.Find(req.GroupId)
	if err != nil {
		return refuse(err), nil
	}
	answer := make(answer[msg.SyncGroupResponse], 1)
	failed := func(err error) { answer.give(refuse(err)) }
	err = sh.Send(func(m *group.Machine, now time.Time) coordinator.Decision {
		return m.Sync(now, c.Version(), req, answer.give)
	}, failed)
	if err != nil {
		failed(err)
	}
	resp, err := await(c, answer)
	if resp == nil {
		resp = refuse(kerr.NotCoordinator)
	}
	return resp, err
}

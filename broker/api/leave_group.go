package api

import (
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of LeaveGroup add to version 0:
//
//	v1   response: ThrottleTimeMs
//	v2   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v3   request: Members, without MemberId; response: Members
//	v4   compact and tagged fields
//	v5   request: Members.Reason

// leaveGroup answers LeaveGroup (key 13, v0-v5).
func (h *Handlers) leaveGroup(c *Call, req *msg.LeaveGroupRequest) (*msg.LeaveGroupResponse, error) {
	resp := new(msg.LeaveGroupResponse)
	members := req.Members
	if c.Version() <= 2 {
		members = []msg.LeaveGroupRequestMemberIdentity{{MemberId: req.MemberId}}
	}
	var codes []kerr.Code
	var all kerr.Code
	err := h.run(c, req.GroupId, func(m *group.Machine, now time.Time) coordinator.Decision {
		var d coordinator.Decision
		d, codes, all = m.Leave(now, req.GroupId, members)
		return d
	})
	if err != nil {
		all = h.code(err)
	}
	if req.GroupId == "" {
		all = kerr.InvalidGroupId
	}
	resp.ErrorCode = int16(all)
	if all != kerr.None {
		return resp, nil
	}
	if c.Version() <= 2 {
		resp.ErrorCode = int16(codes[0])
		return resp, nil
	}
	for i, m := range members {
		resp.Members = append(resp.Members, msg.LeaveGroupResponseMemberResponse{MemberId: m.MemberId, GroupInstanceId: m.GroupInstanceId, ErrorCode: int16(codes[i])})
	}
	return resp, nil
}

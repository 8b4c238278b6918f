package api

import (
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of JoinGroup add to version 0:
//
//	v1   request: RebalanceTimeoutMs
//	v2   response: ThrottleTimeMs
//	v3   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v4   a member without an id is given one with MEMBER_ID_REQUIRED, and joins again (KIP-394)
//	v5   request: GroupInstanceId; response: Members.GroupInstanceId
//	v6   compact and tagged fields
//	v7   response: ProtocolType
//	v8   request: Reason
//	v9   response: SkipAssignment

// joinGroup answers JoinGroup (key 11, v0-v9), once the rebalance has come
// together.
func (h *Handlers) joinGroup(c *Call, req *msg.JoinGroupRequest) (*msg.JoinGroupResponse, error) {
	refuse := func(err error) *msg.JoinGroupResponse {
		r := &msg.JoinGroupResponse{ErrorCode: int16(coordinator.Code(err)), GenerationId: -1, MemberId: req.MemberId}
		if c.Version() < 7 {
			r.ProtocolName = new(string)
		}
		return r
	}
	if req.GroupId == "" {
		return refuse(kerr.InvalidGroupId), nil
	}
	sh, err := h.Groups.Find(req.GroupId)
	if err != nil {
		return refuse(err), nil
	}
	answer := make(answer[msg.JoinGroupResponse], 1)
	client := group.Client{ID: c.Header.ClientID, Host: "/" + c.Session.RemoteHost}
	failed := func(err error) { answer.give(refuse(err)) }
	err = sh.Send(func(m *group.Machine, now time.Time) coordinator.Decision {
		return m.Join(now, client, c.Version(), req, answer.give)
	}, failed)
	if err != nil {
		failed(err)
	}
	resp, err := await(c, answer)
	if resp == nil {
		resp = refuse(kerr.NotCoordinator) // the broker stops
	}
	if c.Version() < 7 && resp.ProtocolName == nil {
		resp.ProtocolName = new(string)
	}
	return resp, err
}

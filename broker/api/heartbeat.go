package api

import (
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of Heartbeat add to version 0:
//
//	v1   response: ThrottleTimeMs
//	v2   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v3   request: GroupInstanceId
//	v4   compact and tagged fields

// heartbeat answers Heartbeat (key 12, v0-v4).
func (h *Handlers) heartbeat(c *Call, req *msg.HeartbeatRequest) (*msg.HeartbeatResponse, error) {
	var code kerr.Code
	err := h.run(c, req.GroupId, func(m *group.Machine, now time.Time) coordinator.Decision {
		code = m.Heartbeat(now, req)
		return coordinator.Decision{}
	})
	if err != nil {
		if code = h.code(err); code == kerr.CoordinatorLoadInProgress {
			code = kerr.None // the member is fine: it is the coordinator that is not ready
		}
	}
	if req.GroupId == "" {
		code = kerr.InvalidGroupId
	}
	return &msg.HeartbeatResponse{ErrorCode: int16(code)}, nil
}

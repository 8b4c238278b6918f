package api

import (
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of DeleteGroups add to version 0:
//
//	v1   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v2   compact and tagged fields

// deleteGroups answers DeleteGroups (key 42, v0-v2).
func (h *Handlers) deleteGroups(c *Call, req *msg.DeleteGroupsRequest) (*msg.DeleteGroupsResponse, error) {
	resp := new(msg.DeleteGroupsResponse)
	answered := make(map[string]bool)
	for _, id := range req.GroupsNames {
		if answered[id] {
			continue
		}
		answered[id] = true
		var code kerr.Code
		err := h.run(c, id, func(m *group.Machine, _ time.Time) coordinator.Decision {
			var d coordinator.Decision
			d, code = m.Delete(id)
			return d
		})
		if err != nil {
			code = h.code(err)
		}
		resp.Results = append(resp.Results, msg.DeleteGroupsResponseDeletableGroupResult{GroupId: id, ErrorCode: int16(code)})
	}
	return resp, nil
}

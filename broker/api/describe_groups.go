package api

import (
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of DescribeGroups add to version 0:
//
//	v1   response: ThrottleTimeMs
//	v2   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v3   request: IncludeAuthorizedOperations; response: Groups.AuthorizedOperations
//	v4   response: Groups.Members.GroupInstanceId
//	v5   compact and tagged fields
//	v6   response: Groups.ErrorMessage

// describeGroups answers DescribeGroups (key 15, v0-v6).
func (h *Handlers) describeGroups(c *Call, req *msg.DescribeGroupsRequest) (*msg.DescribeGroupsResponse, error) {
	resp := new(msg.DescribeGroupsResponse)
	for _, id := range req.Groups {
		out := msg.DescribeGroupsResponseDescribedGroup{}
		out.SetDefaults()
		var code kerr.Code
		err := h.run(c, id, func(m *group.Machine, _ time.Time) coordinator.Decision {
			out, code = m.Describe(id)
			return coordinator.Decision{}
		})
		out.GroupId = id
		switch {
		case err != nil:
			out.ErrorCode = int16(h.code(err))
		case code == kerr.GroupIdNotFound && c.Version() >= 6:
			out.ErrorCode = int16(code)
			out.ErrorMessage = shortened("Group " + id + " not found.")
		}
		if err == nil && out.ErrorMessage == nil {
			out.AuthorizedOperations = operations(req.IncludeAuthorizedOperations, groupOperations)
		}
		resp.Groups = append(resp.Groups, out)
	}
	return resp, nil
}

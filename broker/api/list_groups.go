package api

import (
	"slices"
	"strings"
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of ListGroups add to version 0:
//
//	v1   response: ThrottleTimeMs
//	v2   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v3   compact and tagged fields
//	v4   request: StatesFilter; response: Groups.GroupState
//	v5   request: TypesFilter; response: Groups.GroupType

// listGroups answers ListGroups (key 16, v0-v5).
func (h *Handlers) listGroups(c *Call, req *msg.ListGroupsRequest) (*msg.ListGroupsResponse, error) {
	resp := new(msg.ListGroupsResponse)
	const classic = "classic"
	types := req.TypesFilter
	if len(types) > 0 && !slices.ContainsFunc(types, func(t string) bool { return strings.ToLower(t) == classic }) {
		return resp, nil
	}
	states := make(map[string]bool)
	for _, s := range req.StatesFilter {
		states[strings.ToLower(s)] = true
	}
	for _, sh := range h.Groups.All() {
		var list []group.Listed
		err := runOn(h, c, sh, func(m *group.Machine, _ time.Time) coordinator.Decision {
			list = m.List()
			return coordinator.Decision{}
		})
		if err != nil {
			resp.ErrorCode = int16(h.code(err))
			continue
		}
		for _, g := range list {
			if len(states) == 0 || states[strings.ToLower(string(g.State))] {
				resp.Groups = append(resp.Groups, msg.ListGroupsResponseListedGroup{GroupId: g.ID, ProtocolType: g.ProtocolType, GroupState: string(g.State), GroupType: classic})
			}
		}
	}
	return resp, nil
}

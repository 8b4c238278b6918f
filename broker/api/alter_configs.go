package api

import (
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of AlterConfigs add to version 0:
//
//	v1   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v2   compact and tagged fields

// alterConfigs answers AlterConfigs (key 33, v0-v2), which replaces all configs
// of a resource.
func (h *Handlers) alterConfigs(c *Call, req *msg.AlterConfigsRequest) (*msg.AlterConfigsResponse, error) {
	var changes []control.ResourceChange
	for _, r := range req.Resources {
		change := control.ResourceChange{Resource: meta.Resource{Type: meta.ResourceType(r.ResourceType), Name: r.ResourceName}, Replace: true}
		for _, v := range r.Configs {
			change.Changes = append(change.Changes, control.ConfigChange{Name: v.Name, Op: control.SetConfig, Value: v.Value})
		}
		changes = append(changes, change)
	}
	resp := new(msg.AlterConfigsResponse)
	for i, err := range h.changeConfigs(c, changes, req.ValidateOnly) {
		resp.Responses = append(resp.Responses, msg.AlterConfigsResponseAlterConfigsResourceResponse{ErrorCode: int16(h.code(err)), ErrorMessage: text(err),
			ResourceType: req.Resources[i].ResourceType, ResourceName: req.Resources[i].ResourceName})
	}
	return resp, nil
}

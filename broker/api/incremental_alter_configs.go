package api

import (
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of IncrementalAlterConfigs add to version 0:
//
//	v1   compact and tagged fields

// incrementalAlterConfigs answers IncrementalAlterConfigs (key 44, v0-v1).
func (h *Handlers) incrementalAlterConfigs(c *Call, req *msg.IncrementalAlterConfigsRequest) (*msg.IncrementalAlterConfigsResponse, error) {
	var changes []control.ResourceChange
	for _, r := range req.Resources {
		change := control.ResourceChange{Resource: meta.Resource{Type: meta.ResourceType(r.ResourceType), Name: r.ResourceName}}
		for _, v := range r.Configs {
			change.Changes = append(change.Changes, control.ConfigChange{Name: v.Name, Op: control.ConfigOp(v.ConfigOperation), Value: v.Value})
		}
		changes = append(changes, change)
	}
	resp := new(msg.IncrementalAlterConfigsResponse)
	for i, err := range h.changeConfigs(c, changes, req.ValidateOnly) {
		resp.Responses = append(resp.Responses, msg.IncrementalAlterConfigsResponseAlterConfigsResourceResponse{ErrorCode: int16(h.code(err)), ErrorMessage: text(err),
			ResourceType: req.Resources[i].ResourceType, ResourceName: req.Resources[i].ResourceName})
	}
	return resp, nil
}

package api

import (
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of UpdateFeatures add to version 0:
//
//	v1   request: FeatureUpdates.UpgradeType, ValidateOnly, without FeatureUpdates.AllowDowngrade
//	v2   response: without Results

// updateFeatures answers UpdateFeatures (key 57, v0-v2). In version 0 only
// upgrades can be asked for: its word for a downgrade says nothing to Kafka's
// controllers. An answer names the features up to version 1.
func (h *Handlers) updateFeatures(c *Call, req *msg.UpdateFeaturesRequest) (*msg.UpdateFeaturesResponse, error) {
	updates := make([]control.FeatureUpdate, 0, len(req.FeatureUpdates))
	for _, u := range req.FeatureUpdates {
		kind := control.FeatureUpdateType(u.UpgradeType)
		if c.Version() == 0 {
			kind = control.UpgradeFeature
		}
		updates = append(updates, control.FeatureUpdate{Name: u.Feature, Level: u.MaxVersionLevel, Type: kind})
	}
	ctx, cancel := change(c, req.TimeoutMs)
	defer cancel()
	resp := new(msg.UpdateFeaturesResponse)
	if err := h.Controller.UpdateFeatures(ctx, updates, req.ValidateOnly); err != nil {
		resp.ErrorCode, resp.ErrorMessage = int16(h.code(err)), text(err)
		return resp, nil
	}
	said := make(map[string]bool)
	for _, u := range updates {
		if !said[u.Name] {
			said[u.Name] = true
			none := "NONE" // Kafka's name of the code 0
			resp.Results = append(resp.Results, msg.UpdateFeaturesResponseUpdatableFeatureResult{Feature: u.Name, ErrorMessage: &none})
		}
	}
	return resp, nil
}

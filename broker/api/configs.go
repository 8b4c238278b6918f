package api

import (
	"strconv"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
)

// layers returns where the configs of something come from that has own ones.
func (h *Handlers) layers(own map[string]string) config.Layers {
	image := h.Controller.Image()
	return config.Layers{
		Own:            own,
		DynamicBroker:  image.Config(meta.Resource{Type: meta.BrokerResource, Name: strconv.Itoa(int(h.NodeID))}),
		DynamicDefault: image.Config(meta.Resource{Type: meta.BrokerResource}),
		Static:         h.Static,
	}
}

// changeConfigs returns an error or nil for every change.
func (h *Handlers) changeConfigs(c *Call, changes []control.ResourceChange, validateOnly bool) []error {
	results := make([]error, len(changes))
	count := make(map[meta.Resource]int)
	for _, r := range changes {
		count[r.Resource]++
	}
	var asked []control.ResourceChange // of the controller
	var at []int                       // their places in changes
	for i, r := range changes {
		if count[r.Resource] > 1 {
			results[i] = kerr.Refuse(kerr.InvalidRequest, "Each resource must appear at most once.")
			continue
		}
		if results[i] = h.checkChange(c, r, validateOnly); results[i] == nil && r.Resource.Type != meta.BrokerLoggerResource {
			asked, at = append(asked, r), append(at, i)
		}
	}
	if asked != nil {
		ctx, cancel := within(c, int32(h.Broker.RequestTimeout.Milliseconds()))
		defer cancel()
		answers, err := h.Controller.ChangeConfigs(ctx, asked, h.Static, validateOnly)
		for i := range asked {
			if results[at[i]] = err; err == nil {
				results[at[i]] = answers[i]
			}
		}
	}
	for i, r := range changes {
		if results[i] == nil && !validateOnly {
			h.changedConfigs(c, r)
		}
	}
	return results
}

// checkChange checks what is this broker's to check, and changes the levels of
// its loggers.
func (h *Handlers) checkChange(c *Call, r control.ResourceChange, validateOnly bool) error {
	if err := control.CheckChanges(r.Changes); err != nil {
		return err
	}
	switch {
	case c.Session.Forwarded:
		return nil
	case r.Resource.Type == meta.BrokerLoggerResource && r.Replace:
		return kerr.Refuse(kerr.InvalidRequest, "Unknown resource type %d", r.Resource.Type)
	case r.Resource.Type == meta.BrokerLoggerResource:
		return h.changeLoggers(r.Resource.Name, r.Changes, validateOnly)
	case r.Resource.Type == meta.BrokerResource && r.Resource.Name != "":
		id, err := strconv.ParseInt(r.Resource.Name, 10, 32)
		if err != nil {
			return kerr.Refuse(kerr.InvalidRequest, "Node id must be an integer, but it is: %s", r.Resource.Name)
		}
		if int32(id) != h.NodeID {
			return kerr.Refuse(kerr.InvalidRequest, "Unexpected broker id, expected %d, but received %s", h.NodeID, r.Resource.Name)
		}
	}
	return nil
}

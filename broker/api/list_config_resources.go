package api

import (
	"slices"
	"strconv"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of ListConfigResources add to version 0:
//
//	v1   request: ResourceTypes; response: ConfigResources.ResourceType

// configResources are the types that a request for all of them asks for.
var configResources = []int8{int8(meta.TopicResource), int8(meta.BrokerResource), int8(meta.BrokerLoggerResource), int8(meta.ClientMetricsResource), int8(meta.GroupResource)}

// listConfigResources answers ListConfigResources (key 74, v0-v1): the topics and
// brokers, and the groups and client-metrics subscriptions that have configs.
// Version 0 knows of client metrics only.
func (h *Handlers) listConfigResources(c *Call, req *msg.ListConfigResourcesRequest) (*msg.ListConfigResourcesResponse, error) {
	resp := new(msg.ListConfigResourcesResponse)
	types := req.ResourceTypes
	switch {
	case c.Version() == 0:
		types = []int8{int8(meta.ClientMetricsResource)}
	case len(types) == 0:
		types = configResources
	}
	asked := make(map[int8]bool)
	for _, t := range types {
		if !slices.Contains(configResources, t) {
			resp.ErrorCode = int16(kerr.UnsupportedVersion)
			return resp, nil
		}
		asked[t] = true
	}
	image := h.Controller.Image()
	for _, t := range configResources {
		if !asked[t] {
			continue
		}
		add := func(name string) {
			resp.ConfigResources = append(resp.ConfigResources, msg.ListConfigResourcesResponseConfigResource{ResourceName: name, ResourceType: t})
		}
		switch kind := meta.ResourceType(t); kind {
		case meta.TopicResource:
			image.Topics("", func(t *meta.Topic) bool {
				add(t.Name)
				return true
			})
		case meta.BrokerResource, meta.BrokerLoggerResource:
			for _, b := range image.Brokers() {
				add(strconv.Itoa(int(b.ID)))
			}
		default:
			for _, r := range image.Resources(kind) {
				add(r.Name)
			}
		}
	}
	return resp, nil
}

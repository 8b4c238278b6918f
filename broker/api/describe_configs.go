package api

import (
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of DescribeConfigs add to version 1:
//
//	v2   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v3   request: IncludeDocumentation; response: Results.Configs.ConfigType, Results.Configs.Documentation
//	v4   compact and tagged fields

// describeConfigs answers DescribeConfigs (key 32, v1-v4).
func (h *Handlers) describeConfigs(c *Call, req *msg.DescribeConfigsRequest) (*msg.DescribeConfigsResponse, error) {
	resp := new(msg.DescribeConfigsResponse)
	for _, r := range req.Resources {
		out := msg.DescribeConfigsResponseDescribeConfigsResult{ResourceType: r.ResourceType, ResourceName: r.ResourceName}
		described, err := h.describe(meta.Resource{Type: meta.ResourceType(r.ResourceType), Name: r.ResourceName}, r.ConfigurationKeys)
		out.ErrorCode, out.ErrorMessage = int16(h.code(err)), text(err)
		if err == nil || errors.Is(err, kerr.UnknownTopicOrPartition) {
			out.ErrorMessage = new(string) // Kafka has no words for these
		}
		for _, d := range described {
			out.Configs = append(out.Configs, configResult(d, req))
		}
		resp.Results = append(resp.Results, out)
	}
	return resp, nil
}

func configResult(d config.Described, req *msg.DescribeConfigsRequest) msg.DescribeConfigsResponseDescribeConfigsResourceResult {
	r := msg.DescribeConfigsResponseDescribeConfigsResourceResult{Name: d.Name, Value: d.Value, ReadOnly: d.ReadOnly,
		ConfigSource: int8(d.Source), IsSensitive: d.Sensitive, ConfigType: int8(d.Type)}
	if req.IncludeSynonyms {
		for _, s := range d.Synonyms {
			r.Synonyms = append(r.Synonyms, msg.DescribeConfigsResponseDescribeConfigsSynonym{Name: s.Name, Value: s.Value, Source: int8(s.Source)})
		}
	}
	if req.IncludeDocumentation && d.Doc != "" {
		r.Documentation = &d.Doc
	}
	return r
}

func (h *Handlers) describe(r meta.Resource, keys []string) ([]config.Described, error) {
	image := h.Controller.Image()
	switch r.Type {
	case meta.TopicResource:
		if err := control.CheckTopicName(r.Name); err != nil {
			return nil, err
		}
		if image.Topic(r.Name) == nil {
			return nil, kerr.UnknownTopicOrPartition
		}
		return config.Describe(config.KindTopic, h.layers(image.Config(r)), keys), nil
	case meta.BrokerResource:
		l := h.layers(nil)
		if r.Name == "" {
			return describeAll(l, keys), nil
		}
		id, err := strconv.ParseInt(r.Name, 10, 32)
		if err != nil {
			return nil, kerr.Refuse(kerr.InvalidRequest, "Broker id must be an integer, but it is: %s", r.Name)
		}
		if int32(id) != h.NodeID {
			return nil, kerr.Refuse(kerr.InvalidRequest, "Unexpected broker id, expected %d or empty string, but received %s", h.NodeID, r.Name)
		}
		return config.Describe(config.KindBroker, l, keys), nil
	case meta.BrokerLoggerResource:
		return h.describeLoggers(r.Name, keys)
	case meta.GroupResource:
		if r.Name == "" {
			return nil, kerr.Refuse(kerr.InvalidRequest, "Group name must not be empty")
		}
		return config.Describe(config.KindGroup, h.layers(image.Config(r)), keys), nil
	case meta.ClientMetricsResource:
		if r.Name == "" {
			return nil, kerr.Refuse(kerr.InvalidRequest, "Client metrics subscription name must not be empty")
		}
		return config.Describe(config.KindClientMetrics, h.layers(image.Config(r)), keys), nil
	}
	return nil, kerr.Refuse(kerr.InvalidRequest, "This most likely occurs because of a request being malformed by the client library or the message was sent to an incompatible broker. See the broker logs for more details.")
}

// describeAll describes what was set dynamically for all brokers. Where else a
// key may have a value is left out.
func describeAll(l config.Layers, keys []string) []config.Described {
	l.DynamicBroker = nil
	names := keys
	if len(keys) == 0 {
		names = slices.Sorted(maps.Keys(l.DynamicDefault))
	}
	set := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, ok := l.DynamicDefault[name]
		return !ok
	})
	if len(set) == 0 {
		return nil
	}
	out := config.Describe(config.KindBroker, l, set)
	for i := range out {
		out[i].Synonyms = slices.DeleteFunc(out[i].Synonyms, func(s config.DescribedSynonym) bool { return s.Source != config.DynamicDefaultConfig })
	}
	return out
}

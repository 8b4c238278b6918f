package api

import (
	"errors"
	"slices"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of CreateTopics add to version 2:
//
//	v3   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v4   the same fields
//	v5   response: Topics.TopicConfigErrorCode, Topics.NumPartitions, Topics.ReplicationFactor, Topics.Configs; compact
//	     and tagged fields
//	v6   the same fields
//	v7   response: Topics.TopicId

// createTopics answers CreateTopics (key 19, v2-v7).
func (h *Handlers) createTopics(c *Call, req *msg.CreateTopicsRequest) (*msg.CreateTopicsResponse, error) {
	specs := make([]control.TopicSpec, 0, len(req.Topics))
	early := make(map[string]error) // refused before the controller is asked
	for _, t := range req.Topics {
		s := control.TopicSpec{Name: t.Name, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor, Configs: make(map[string]*string)}
		for _, a := range t.Assignments {
			if s.Assignment == nil {
				s.Assignment = make(map[int32][]int32)
			}
			if _, twice := s.Assignment[a.PartitionIndex]; twice {
				early[t.Name] = kerr.Refuse(kerr.InvalidReplicaAssignment, "Found multiple manual partition assignments for partition %d", a.PartitionIndex)
			}
			s.Assignment[a.PartitionIndex] = slices.Clone(a.BrokerIds)
		}
		for _, cfg := range t.Configs {
			s.Configs[cfg.Name] = cfg.Value
		}
		specs = append(specs, s)
	}
	asked := slices.DeleteFunc(slices.Clone(specs), func(s control.TopicSpec) bool { return early[s.Name] != nil })
	ctx, cancel := change(c, req.TimeoutMs)
	defer cancel()
	results, err := h.Controller.CreateTopics(ctx, asked, h.defaults(), req.ValidateOnly)
	resp := new(msg.CreateTopicsResponse)
	said := make(map[string]bool)
	next := 0
	if len(results) > 0 && errors.Is(results[0].Err, kerr.PolicyViolation) {
		// The request as a whole is too large: all that stands in it is refused.
		for _, s := range specs {
			resp.Topics = append(resp.Topics, h.created(c, s, control.TopicResult{Name: s.Name, Err: results[0].Err}))
		}
		return resp, nil
	}
	for _, s := range specs {
		result := control.TopicResult{Name: s.Name, Err: early[s.Name]}
		if result.Err == nil {
			result = results[next]
			next++
			if err != nil {
				result = control.TopicResult{Name: s.Name, Err: err}
			}
		}
		if said[s.Name] {
			continue // a name that stands twice is answered once
		}
		said[s.Name] = true
		if result.Err == nil && !req.ValidateOnly {
			h.changedTopic(c, "created topic", result)
		}
		resp.Topics = append(resp.Topics, h.created(c, s, result))
	}
	return resp, nil
}

func (h *Handlers) created(c *Call, s control.TopicSpec, result control.TopicResult) msg.CreateTopicsResponseCreatableTopicResult {
	r := msg.CreateTopicsResponseCreatableTopicResult{}
	r.SetDefaults()
	r.Name = s.Name
	if result.Err != nil {
		r.ErrorCode, r.ErrorMessage = int16(h.code(result.Err)), text(result.Err)
		r.Configs = []msg.CreateTopicsResponseCreatableTopicConfigs{}
		return r
	}
	r.ErrorMessage = nil
	r.TopicId, r.NumPartitions, r.ReplicationFactor = result.ID, result.Partitions, result.ReplicationFactor
	if c.Version() < 5 {
		return r
	}
	own := make(map[string]string, len(s.Configs))
	for k, v := range s.Configs {
		if v != nil {
			own[k] = *v
		}
	}
	for _, d := range config.Describe(config.KindTopic, h.layers(own), nil) {
		value := d.Value
		if raw, ok := own[d.Name]; ok && !d.Sensitive {
			value = &raw // as it was sent, with its blanks
		}
		r.Configs = append(r.Configs, msg.CreateTopicsResponseCreatableTopicConfigs{Name: d.Name, Value: value, ReadOnly: d.ReadOnly, ConfigSource: int8(d.Source), IsSensitive: d.Sensitive})
	}
	return r
}

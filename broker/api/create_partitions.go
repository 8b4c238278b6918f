package api

import (
	"slices"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of CreatePartitions add to version 0:
//
//	v1   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v2   compact and tagged fields
//	v3   the same fields

// createPartitions answers CreatePartitions (key 37, v0-v3).
func (h *Handlers) createPartitions(c *Call, req *msg.CreatePartitionsRequest) (*msg.CreatePartitionsResponse, error) {
	resp := new(msg.CreatePartitionsResponse)
	count := make(map[string]int)
	for _, t := range req.Topics {
		count[t.Name]++
	}
	var specs []control.PartitionsSpec
	for _, t := range req.Topics {
		if count[t.Name] > 1 {
			if count[t.Name] < 1<<16 {
				err := kerr.Refuse(kerr.InvalidRequest, "Duplicate topic name.")
				resp.Results = append(resp.Results, msg.CreatePartitionsResponseCreatePartitionsTopicResult{Name: t.Name, ErrorCode: int16(kerr.InvalidRequest), ErrorMessage: text(err)})
				count[t.Name] = 1 << 16 // said
			}
			continue
		}
		s := control.PartitionsSpec{Name: t.Name, Count: t.Count}
		if t.Assignments != nil {
			s.Assignment = make([][]int32, 0, len(t.Assignments))
			for _, a := range t.Assignments {
				s.Assignment = append(s.Assignment, slices.Clone(a.BrokerIds))
			}
		}
		specs = append(specs, s)
	}
	ctx, cancel := change(c, req.TimeoutMs)
	defer cancel()
	results, err := h.Controller.CreatePartitions(ctx, specs, req.ValidateOnly)
	for i, s := range specs {
		e := err
		if e == nil {
			e = results[i]
		}
		if e == nil && !req.ValidateOnly {
			h.changed(c, "added partitions", zap.String("topic", s.Name), zap.Int32("partitions", s.Count))
		}
		resp.Results = append(resp.Results, msg.CreatePartitionsResponseCreatePartitionsTopicResult{Name: s.Name, ErrorCode: int16(h.code(e)), ErrorMessage: words(e)})
	}
	return resp, nil
}

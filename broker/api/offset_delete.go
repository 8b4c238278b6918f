package api

import (
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// OffsetDelete has one version, 0.

// offsetDelete answers OffsetDelete (key 47, v0).
func (h *Handlers) offsetDelete(c *Call, req *msg.OffsetDeleteRequest) (*msg.OffsetDeleteResponse, error) {
	resp := new(msg.OffsetDeleteResponse)
	var codes [][]kerr.Code
	var all kerr.Code
	err := h.run(c, req.GroupId, func(m *group.Machine, _ time.Time) coordinator.Decision {
		var d coordinator.Decision
		d, codes, all = m.DeleteOffsets(req)
		return d
	})
	if err != nil {
		all = h.code(err)
	}
	if resp.ErrorCode = int16(all); all != kerr.None {
		return resp, nil
	}
	image := h.Controller.Image()
	for i, t := range req.Topics {
		out := msg.OffsetDeleteResponseTopic{Name: t.Name}
		for j, p := range t.Partitions {
			code := codes[i][j]
			if image.Partition(t.Name, p.PartitionIndex) == nil {
				code = kerr.UnknownTopicOrPartition
			}
			out.Partitions = append(out.Partitions, msg.OffsetDeleteResponsePartition{PartitionIndex: p.PartitionIndex, ErrorCode: int16(code)})
		}
		if len(out.Partitions) > 0 {
			resp.Topics = append(resp.Topics, out)
		}
	}
	return resp, nil
}

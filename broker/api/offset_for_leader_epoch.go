package api

import "github.com/klamm-io/klamm/wire/msg"

// What the versions of OffsetForLeaderEpoch add to version 2:
//
//	v3   request: ReplicaId
//	v4   compact and tagged fields

// offsetForLeaderEpoch answers OffsetForLeaderEpoch (key 23, v2-v4): where the
// largest epoch that is not above the one asked for ends (KIP-101, KIP-279).
func (h *Handlers) offsetForLeaderEpoch(c *Call, req *msg.OffsetForLeaderEpochRequest) (*msg.OffsetForLeaderEpochResponse, error) {
	resp := new(msg.OffsetForLeaderEpochResponse)
	for _, t := range req.Topics {
		out := msg.OffsetForLeaderEpochResponseOffsetForLeaderTopicResult{Topic: t.Topic}
		for _, p := range t.Partitions {
			r := msg.OffsetForLeaderEpochResponseEpochEndOffset{}
			r.SetDefaults()
			r.Partition = p.Partition
			replica, err := h.leader(t.Topic, p.Partition, p.CurrentLeaderEpoch)
			if err == nil {
				r.LeaderEpoch, r.EndOffset = replica.Log().EpochEndOffset(p.LeaderEpoch)
			}
			r.ErrorCode = int16(h.code(err))
			out.Partitions = append(out.Partitions, r)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

package api

import (
	"slices"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// DescribeTopicPartitions has one version, 0.

// describeTopicPartitions answers DescribeTopicPartitions (key 75, v0): topics a
// page at a time, in order of name.
func (h *Handlers) describeTopicPartitions(c *Call, req *msg.DescribeTopicPartitionsRequest) (*msg.DescribeTopicPartitionsResponse, error) {
	resp := new(msg.DescribeTopicPartitionsResponse)
	resp.SetDefaults()
	limit := max(min(int(req.ResponsePartitionLimit), h.Broker.RequestPartitionSizeLimit), 1)
	image := h.Controller.Image()
	from, first := "", int32(0)
	if req.Cursor != nil {
		from, first = req.Cursor.TopicName, req.Cursor.PartitionIndex
		listed := slices.ContainsFunc(req.Topics, func(t msg.DescribeTopicPartitionsRequestTopicRequest) bool { return t.Name == from })
		if first < 0 || len(req.Topics) > 0 && !listed {
			for _, t := range req.Topics {
				out := msg.DescribeTopicPartitionsResponseTopic{}
				out.SetDefaults()
				out.Name, out.ErrorCode = &t.Name, int16(kerr.InvalidRequest)
				resp.Topics = append(resp.Topics, out)
			}
			return resp, nil
		}
	}
	var names []string
	if len(req.Topics) == 0 {
		image.Topics(from, func(t *meta.Topic) bool {
			names = append(names, t.Name)
			return len(names) <= limit
		})
	} else {
		for _, t := range req.Topics {
			if t.Name >= from {
				names = append(names, t.Name)
			}
		}
		slices.Sort(names)
		names = slices.Compact(names)
	}
	for _, topic := range names {
		if limit <= 0 {
			resp.NextCursor = &msg.DescribeTopicPartitionsResponseCursor{TopicName: topic}
			break
		}
		out := msg.DescribeTopicPartitionsResponseTopic{}
		out.SetDefaults()
		out.Name = &topic
		t, err := findTopic(image, &topic, prim.UUID{})
		if err != nil {
			out.ErrorCode = int16(h.code(err))
			out.TopicAuthorizedOperations = topicOperations
			resp.Topics = append(resp.Topics, out)
			continue
		}
		out.TopicId, out.IsInternal, out.TopicAuthorizedOperations = t.ID, t.Internal(), topicOperations
		start := int32(0)
		if topic == from {
			start = first
		}
		for i := int(start); i < len(t.Partitions) && limit > 0; i++ {
			p := t.Partitions[i]
			leader, _ := h.leaderOf(c, image, p) // that there is none is no error here
			d := msg.DescribeTopicPartitionsResponsePartition{}
			d.SetDefaults()
			d.PartitionIndex, d.LeaderId, d.LeaderEpoch = int32(i), leader, p.LeaderEpoch
			d.ReplicaNodes, d.IsrNodes, d.OfflineReplicas = p.Replicas, p.InSync, h.offline(image, t.Name, int32(i), p)
			// Null is allowed on the wire and breaks the Java client.
			d.EligibleLeaderReplicas = append([]int32{}, p.EligibleLeader...)
			d.LastKnownElr = append([]int32{}, p.LastKnownELR...)
			out.Partitions = append(out.Partitions, d)
			limit--
			if limit == 0 && i+1 < len(t.Partitions) {
				resp.NextCursor = &msg.DescribeTopicPartitionsResponseCursor{TopicName: topic, PartitionIndex: int32(i + 1)}
			}
		}
		resp.Topics = append(resp.Topics, out)
		if resp.NextCursor != nil {
			break
		}
	}
	return resp, nil
}

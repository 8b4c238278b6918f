package api

import (
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of OffsetCommit add to version 2:
//
//	v3   response: ThrottleTimeMs
//	v4   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v5   request: without RetentionTimeMs
//	v6   request: Topics.Partitions.CommittedLeaderEpoch
//	v7   request: GroupInstanceId
//	v8   compact and tagged fields
//	v9   the same fields
//	v10  request: Topics.TopicId, without Topics.Name; response: Topics.TopicId, without Topics.Name

// offsetCommit answers OffsetCommit (key 8, v2-v10).
func (h *Handlers) offsetCommit(c *Call, req *msg.OffsetCommitRequest) (*msg.OffsetCommitResponse, error) {
	resp := new(msg.OffsetCommitResponse)
	image := h.Controller.Image()
	known := *req
	known.Topics = nil
	var places [][]int // of the partitions that are committed, in resp
	var at []int
	for _, t := range req.Topics {
		if len(t.Partitions) == 0 {
			continue // a topic is answered by its partitions
		}
		out := msg.OffsetCommitResponseTopic{Name: t.Name, TopicId: t.TopicId}
		topic := image.Topic(t.Name)
		missing := kerr.UnknownTopicOrPartition
		if c.Version() >= 10 {
			topic, missing = image.TopicByID(t.TopicId), kerr.UnknownTopicId
		}
		ask := msg.OffsetCommitRequestTopic{}
		if topic != nil {
			ask.Name, ask.TopicId = topic.Name, topic.ID
		}
		var place []int
		for j, p := range t.Partitions {
			r := msg.OffsetCommitResponsePartition{PartitionIndex: p.PartitionIndex}
			switch {
			case topic == nil:
				r.ErrorCode = int16(missing)
			case p.PartitionIndex < 0 || int(p.PartitionIndex) >= len(topic.Partitions):
				r.ErrorCode = int16(kerr.UnknownTopicOrPartition)
			default:
				ask.Partitions = append(ask.Partitions, p)
				place = append(place, j)
			}
			out.Partitions = append(out.Partitions, r)
		}
		resp.Topics = append(resp.Topics, out)
		if len(ask.Partitions) > 0 {
			known.Topics = append(known.Topics, ask)
			places = append(places, place)
			at = append(at, len(resp.Topics)-1)
		}
	}
	if len(known.Topics) == 0 && len(req.Topics) > 0 {
		return resp, nil
	}
	var codes [][]kerr.Code
	var all kerr.Code
	err := h.run(c, req.GroupId, func(m *group.Machine, now time.Time) coordinator.Decision {
		var d coordinator.Decision
		d, codes, all = m.Commit(now, c.Version(), &known)
		return d
	})
	if err != nil {
		all = h.code(err)
	}
	for i, place := range places {
		for j, p := range place {
			code := all
			if code == kerr.None {
				code = codes[i][j]
			}
			resp.Topics[at[i]].Partitions[p].ErrorCode = int16(code)
		}
	}
	return resp, nil
}
